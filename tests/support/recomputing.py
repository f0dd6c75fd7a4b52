"""A suite of which every number is computed again, and what of it is read from the results' files alone."""

import json
import math
from statistics import fmean, stdev

import numpy as np
from scipy import stats

SUITE = """
suite: recomputed
tasks: [digits_c, digits_flip]
seeds: 2
sources: one
epochs: 2
curves: true
figures:
  [accuracies, critical_difference, layers, criteria, fidelity, curves, ablation, rho, theory, atlas, regret_cost,
   costs, forgetting]
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-2, 1e-3]}}
  lift: {grid: {lr: 1e-2, order: [front_to_end, end_to_front, random]}}
  lmsa: {grid: {lr: [1e-2, 1e-3], rho: [0.1, 1]}}
  layer: {method: single_layer, each: n, truth: true, ranked: false, grid: {n: [0, 1, 2, 3], lr: [1e-1, 1e-2]}}
  rgn: {method: score_only, ranked: false, grid: {criterion: rgn}}
"""
TASKS = ["digits_c", "digits_flip"]
RANKED = ["full", "lift", "lmsa"]
LAYERS = ["layer_0", "layer_1", "layer_2", "layer_3"]
TRAINED = [*RANKED, *LAYERS]


def documents(run):
    """Each trial's trial.json, records and result.json, parsed as JSON only, the result with its outcomes' bytes."""
    _, results, _ = run
    for folder in sorted(results.journal.trials.iterdir()):
        records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        trial, result = (json.loads((folder / name).read_text()) for name in ("trial.json", "result.json"))
        outcomes = folder / "outcomes.bin"  # a scored trial evaluates nothing
        yield trial, records, result | {"outcomes": outcomes.read_bytes() if outcomes.exists() else None}


def row_of(trial):
    return {"single_layer": f"layer_{trial['hparams'].get('n')}", "score_only": "rgn"}.get(
        trial["method"], trial["method"]
    )


def best_of(records):
    return min(records, key=lambda r: (-r["val_accuracy"], r["val_loss"], r["epoch"]))


def half(values):
    """Of the 95 % t interval."""
    return stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def ranks_of(means):
    """Each ranked row's mean rank over the two tasks."""
    by_task = [stats.rankdata([-fmean(means[row, task]) for row in RANKED]) for task in TASKS]
    return dict(zip(RANKED, np.mean(by_task, axis=0), strict=True))
