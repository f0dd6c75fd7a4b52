"""A suite's replications: what each seed says of each row, and how much the choice of hyper-parameters adds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmsa_bench.analysis.intervals import Differences, Floats, differences
from lmsa_bench.analysis.resampling import DRAWS, Candidates, cells, resamples, selection_variance
from lmsa_bench.analysis.selection import End, Part, accuracies_of, choose, of_suite, outcomes, tested
from lmsa_bench.seeding import derive
from lmsa_bench.trial.outcomes import unpacked
from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs


NOTHING = End(None, "", None, math.nan, math.nan, ())  # of a trial that is not there


class Replications(NamedTuple):
    """The rows of one task that can be compared; accuracies are fractions, nan where a seed is not complete."""

    task: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    means: Floats  # (rows,) as in the table
    values: Floats  # (seeds, rows)
    choice: Floats  # (pairs,): what the choice of hyper-parameters adds to the variance of a difference of means
    images: Floats | None  # (rows, rows): what the number of test images adds to a difference's variance; None: unknown
    seconds: Floats  # (rows,) of training one replication, all its configurations
    diverged: tuple[str, ...]  # rows that are behind every other one

    @property
    def differences(self) -> Differences:
        """All pairs of rows: the variance is that between replications, and of the choice as if each made its own."""
        found = differences(self.values)
        return found._replace(variance=found.variance + found.n * self.choice)


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
        fixed, chosen, costs, diverged, parts_of = {}, {}, {}, [], {}
        for row in rows:
            own = {c: ts for c, ts in configurations.items() if c in row.configurations and ts[0].task == task}
            parts = choose(own, row.averaged, ends)
            if any(ends[t.id].status == "diverged" for ts in parts.values() for t in ts if t.id in ends):
                diverged.append(row.name)
                continue
            if not (accuracies := accuracies_of(parts, tests)):
                continue
            fixed[row.name], chosen[row.name] = accuracies, [t for ts in parts.values() for t in ts]
            parts_of[row.name] = parts, own, row.averaged
            ran = [seconds[t.id] for ts in own.values() for t in ts if t.id in ends]
            costs[row.name] = sum(ran) / max(1, len({t.seed for ts in own.values() for t in ts if t.id in ends}))
        seeds = tuple(sorted({seed for values in fixed.values() for seed in values}))
        names = tuple(fixed)
        draw = np.random.default_rng(derive(0, "resamples", task))
        weights = resamples(max(1, len(seeds)), DRAWS, draw)
        anew, alike = np.zeros((2, DRAWS, len(names)))
        for i, (parts, own, averaged) in enumerate(parts_of.values()):
            candidates, best = _candidates(parts, own, averaged, seeds, ends, tests)
            anew[:, i], alike[:, i] = cells(candidates, weights), cells(candidates, weights, best)
        found.append(
            Replications(
                task,
                names,
                seeds,
                np.array([fmean(fixed[name].values()) for name in names]),
                _matrix(fixed, names, seeds),
                np.nan_to_num(selection_variance(anew, alike, len(seeds))),
                _images(chosen, names, seeds, bits),
                np.array([costs[name] for name in names]),
                tuple(diverged),
            )
        )
    return found


def _candidates(
    parts: Mapping[Part, list[Trial]],
    configurations: Mapping[str, list[Trial]],
    averaged: tuple[str, ...],
    seeds: Sequence[int],
    ends: Mapping[str, End],
    tests: Mapping[str, float],
) -> tuple[list[Candidates], list[NDArray[np.int64]]]:
    """Each part's configurations at these seeds, and which of them is chosen."""
    found, chosen = [], []
    for part, trials in parts.items():
        own = {c: {t.seed: t for t in ts} for c, ts in configurations.items() if Part.of(ts[0], averaged) == part}
        grid = [[ends.get(by[s].id, NOTHING) if s in by else NOTHING for s in seeds] for by in own.values()]
        test = [[tests.get(by[s].id, math.nan) if s in by else math.nan for s in seeds] for by in own.values()]
        found.append(
            Candidates(
                np.array([[end.val_accuracy for end in column] for column in grid]).T,
                np.array([[end.val_loss for end in column] for column in grid]).T,
                np.array(test).T,
                np.array([[end.status == "diverged" for end in column] for column in grid]).T,
            )
        )
        chosen.append(np.array([list(own).index(trials[0].configuration)]))
    return found, chosen


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
