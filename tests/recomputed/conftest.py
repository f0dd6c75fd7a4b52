"""The suite's run, and its figures by row and task, read from the results' files as JSON only."""

from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from recomputing import LAYERS, SUITE, TASKS, best_of, documents, row_of

import lmsa_bench as lb


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recomputed")
    (folder / "suite.yaml").write_text(SUITE)
    suite = lb.load_suite(str(folder / "suite.yaml"))
    return suite, lb.run(suite, folder / "results", folder / "data"), folder / "data"


@pytest.fixture(scope="package")
def grids(run):
    """(row, task) -> part (variant, order) -> configuration -> seed -> (records, best record, result)."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for trial, records, result in documents(run):
        part = trial["variant"], trial["hparams"].get("order")
        configuration = tuple(sorted((k, v) for k, v in trial["hparams"].items() if k in ("lr", "rho")))
        measured = records, best_of(records), result
        found[row_of(trial), trial["task"]][part][configuration][trial["seed"]] = measured
    return found


@pytest.fixture(scope="package")
def chosen(grids):
    """(row, task) -> part -> (configuration, seed -> (records, best record, result)) that validation prefers."""

    def standing(by_seed):
        accuracies, losses = zip(*((b["val_accuracy"], b["val_loss"]) for _, b, _ in by_seed.values()), strict=True)
        return -round(fmean(accuracies), 12), fmean(losses)

    return {
        place: {part: min(grid.items(), key=lambda item: standing(item[1])) for part, grid in parts.items()}
        for place, parts in grids.items()
    }


@pytest.fixture(scope="package")
def means(chosen):
    """(row, task) -> test accuracy at each seed: the mean over LIFT's orders, then over the variants."""
    found = {}
    for place, parts in chosen.items():
        variants = defaultdict(list)
        for (variant, _), (_, by_seed) in parts.items():
            variants[variant].append([by_seed[seed][2]["test_accuracy"] for seed in (0, 1)])
        found[place] = list(np.mean([np.mean(orders, axis=0) for orders in variants.values()], axis=0))
    return found


@pytest.fixture(scope="package")
def truths(grids, chosen):
    """task -> (variant, seed) -> each layer's test accuracy, and its tuning loss where its mean is lowest."""
    found = defaultdict(dict)
    for task in TASKS:
        for variant, order in chosen["layer_0", task]:
            lowest = [
                min(
                    grids[layer, task][variant, order].values(),
                    key=lambda seeds: fmean(result["final_train_loss"] for *_, result in seeds.values()),
                )
                for layer in LAYERS
            ]
            for seed in (0, 1):
                tuned = [chosen[layer, task][variant, order][1][seed][2]["test_accuracy"] for layer in LAYERS]
                found[task][variant, seed] = tuned, [seeds[seed][2]["final_train_loss"] for seeds in lowest]
    return found


@pytest.fixture(scope="package")
def report(run):
    suite, results, _ = run
    return results.report(suite)


@pytest.fixture(scope="package")
def figures(report):
    return report.figures()
