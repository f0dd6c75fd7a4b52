"""A suite's replications: what each seed says of each row, the choice of hyper-parameters made anew without it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from lmsa_bench.analysis.intervals import Floats
from lmsa_bench.analysis.selection import End, accuracies_of, choose, of_suite, outcomes, tested
from lmsa_bench.trial.outcomes import unpacked
from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs


class Replications(NamedTuple):
    """The rows of one task that can be compared; accuracies are fractions, nan where a seed is not complete."""

    task: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    means: Floats  # (rows,) as in the table
    values: Floats  # (seeds, rows): their mean is the table's, their spread has the choice of hyper-parameters in it
    fixed: Floats  # (seeds, rows): accuracies at the chosen hyper-parameters
    images: Floats | None  # (rows, rows): what the number of test images adds to a difference's variance; None: unknown
    seconds: Floats  # (rows,) of training one replication, all its configurations
    diverged: tuple[str, ...]  # rows that are behind every other one


def replications(suite: "Suite", table: pa.Table, rows: Sequence["Row"]) -> list[Replications]:
    """What the seeds of each task say of these rows."""
    table = of_suite(suite, table)
    ends, tests = outcomes(table), tested(table)
    kept = table.select(["trial", "outcomes", "test_size", "seconds"]).to_pylist()
    bits = {row["trial"]: (row["outcomes"], row["test_size"]) for row in kept if row["outcomes"] is not None}
    seconds = defaultdict[str, float](float)
    for one in kept:
        seconds[one["trial"]] += one["seconds"] or 0.0
    configurations = defaultdict[str, list[Trial]](list)
    for trial in suite.trials:
        configurations[trial.configuration].append(trial)
    found = []
    for task in suite.tasks:
        pseudo, fixed, chosen, costs, diverged = {}, {}, {}, {}, []
        for row in rows:
            own = {c: ts for c, ts in configurations.items() if c in row.configurations and ts[0].task == task}
            parts = choose(own, row.averaged, ends)
            if any(ends[t.id].status == "diverged" for ts in parts.values() for t in ts if t.id in ends):
                diverged.append(row.name)
                continue
            if not (accuracies := accuracies_of(parts, tests)):
                continue
            fixed[row.name], chosen[row.name] = accuracies, [t for ts in parts.values() for t in ts]
            pseudo[row.name] = _pseudo(accuracies, own, row.averaged, ends, tests)
            ran = [seconds[t.id] for ts in own.values() for t in ts if t.id in ends]
            costs[row.name] = sum(ran) / max(1, len({t.seed for ts in own.values() for t in ts if t.id in ends}))
        seeds = tuple(sorted({seed for values in fixed.values() for seed in values}))
        names = tuple(fixed)
        found.append(
            Replications(
                task,
                names,
                seeds,
                np.array([fmean(fixed[name].values()) for name in names]),
                _matrix(pseudo, names, seeds),
                _matrix(fixed, names, seeds),
                _images(chosen, names, seeds, bits),
                np.array([costs[name] for name in names]),
                tuple(diverged),
            )
        )
    return found


def _pseudo(
    accuracies: Mapping[int, float],
    configurations: Mapping[str, list[Trial]],
    averaged: tuple[str, ...],
    ends: Mapping[str, End],
    tests: Mapping[str, float],
) -> dict[int, float]:
    """The jackknife's pseudo-values of a cell's mean, moved so that their mean is that mean (Tukey, 1958).

    Where leaving a seed out changes no choice of hyper-parameters they are the accuracies themselves. Else their spread
    has that of the choice in it, and more rather than less: its variance is too large in expectation (Efron and Stein,
    1981).
    """
    n, mean = len(accuracies), fmean(accuracies.values())
    if n < 2:
        return dict(accuracies)
    found = {}
    for seed in accuracies:
        left = {name: [t for t in trials if t.seed != seed] for name, trials in configurations.items()}
        rest = accuracies_of(choose(left, averaged, ends), tests)
        rest = {other: value for other, value in rest.items() if other in accuracies}
        found[seed] = n * mean - (n - 1) * fmean(rest.values()) if rest else accuracies[seed]
    bias = fmean(found.values()) - mean
    return {seed: value - bias for seed, value in found.items()}


def _matrix(values: Mapping[str, Mapping[int, float]], names: Sequence[str], seeds: Sequence[int]) -> Floats:
    return np.array([[values[name].get(seed, np.nan) for name in names] for seed in seeds]).reshape(
        len(seeds), len(names)
    )


def _images(
    chosen: Mapping[str, list[Trial]],
    names: Sequence[str],
    seeds: Sequence[int],
    bits: Mapping[str, tuple[bytes, int]],
) -> Floats | None:
    """The mean over seeds of the variance that a difference of two rows' accuracies has by its images alone.

    An image's score is the mean over variants, which are split alike, and over parts. None where a trial lacks its
    outcomes, or has test images of its own number.
    """
    found = []
    for seed in seeds:
        trials = {name: [t for t in chosen[name] if t.seed == seed and t.id in bits] for name in names}
        sizes = {bits[t.id][1] for ts in trials.values() for t in ts}
        if len(sizes) != 1 or any(len(trials[n]) != sum(t.seed == seed for t in chosen[n]) for n in names):
            return None
        if (size := sizes.pop()) < 2 or not all(trials.values()):
            return None
        scores = np.stack([np.mean([unpacked(bits[t.id][0], size) for t in trials[name]], axis=0) for name in names])
        spread = np.atleast_2d(np.cov(scores)) / size
        own = np.diag(spread)
        found.append(own[:, None] + own[None, :] - 2 * spread)
    return np.mean(found, axis=0) if found else None
