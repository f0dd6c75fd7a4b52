"""Replications added only where a verdict can still change, with verdicts that hold however early that ends.

All looks are fixed before the first: at the sizes of ``looks``, each with its share of alpha, in proportion to the
replications that it adds (the linear spending function of Lan and DeMets, 1983). The chance of any false verdict at any
look is at most the sum of the shares, which is alpha, whatever stops a row: an interval that would have failed at a
later look is counted whether or not that look is taken. So a verdict once made stays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.intervals import ALPHA, Differences, Judged, Level, Prior, Verdict, judge, power, prior
from lmsa_bench.analysis.replications import Replications, replications
from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs

GROWTH = 1.5  # of the replications from look to look
HOPELESS = 0.1  # a pair whose chance of being decided by the last look is smaller gets no more replications

Pair = tuple[str, str, str]  # a task and two of its rows, in the suite's order


class Look(NamedTuple):
    """A time at which verdicts are made."""

    n: int  # replications
    alpha: float  # its share


class Standing(NamedTuple):
    """How far a sweep that runs until all is decided has come."""

    trials: tuple[Trial, ...]  # up to this look, with all that extended grids may come to
    look: Look
    pairs: int  # of the suite, for which verdicts hold together
    decided: Mapping[Pair, Judged]  # each as of the look that decided it: a single one
    over: str  # why no trial is added after these; "": they have not all ended, or more follow

    def as_decided(self, found: Replications, judged: Judged) -> Judged:
        """The pairs of a task, those that are decided as they were then; the others stay open."""
        mean, half, p = judged.mean.copy(), judged.half.copy(), judged.p.copy()
        told: list[Verdict] = ["unknown"] * len(mean)
        for k, (first, second) in enumerate(combinations(found.rows, 2)):
            if (then := self.decided.get((found.task, first, second))) is not None:
                mean[k], half[k], p[k], told[k] = then.mean[0], then.half[0], then.p[0], then.verdicts[0]
        return Judged(mean, half, p, told)


def looks(first: int, most: int, alpha: float = ALPHA) -> list[Look]:
    """From ``first`` replications to ``most``, each look half as many again."""
    sizes = [min(first, most)]
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(GROWTH * sizes[-1])))
    return [Look(n, alpha * (n - before) / most) for before, n in zip([0, *sizes[:-1]], sizes, strict=True)]


def standing(suite: "Suite", table: pa.Table, planned: Sequence[Look]) -> Standing:
    """What is decided by the trials that have ended, and which come next; the suite has the most replications.

    All is read from the records, so it goes on where it was after a kill.
    """
    rows = [row for row in suite.rows if row.ranked]
    ended = set(pc.unique(table.filter(pc.is_valid(table["status"]))["trial"]).to_pylist())
    sizes = {(task, row.name): planned[0].n for task in suite.tasks for row in suite.rows}
    count = len(suite.tasks) * len(rows) * (len(rows) - 1) // 2
    decided = dict[Pair, Judged]()
    for look, following in zip(planned, [*planned[1:], None], strict=True):
        trials = _up_to(suite, sizes)
        now = reached(replace(suite, trials=trials), table)
        if not {trial.id for trial in now.needed} <= ended:
            return Standing(trials, look, count, decided, "")
        found = replications(now, table, rows)
        gaps = [one.differences for one in found]
        lent, level = prior(gaps), Level(count, look.alpha)
        alive = set[tuple[str, str]]()
        for one, gap in zip(found, gaps, strict=True):
            grown = [sizes[one.task, row] == look.n for row in one.rows]
            judged = judge(gap, lent, level, suite.margin)
            open_pairs = step(one, judged, grown, decided)
            last = Level(count, planned[-1].alpha)
            for k, (first, second) in open_pairs.items():
                if following and not hopeless(gap, k, planned[-1].n, lent, last, suite.margin):
                    alive |= {(one.task, first), (one.task, second)}
        if following is None:
            return Standing(trials, look, count, decided, f"{look.n} replications are the most that were asked for")
        if not alive:
            open_ones = count - len(decided)
            hopeless_ones = f"{planned[-1].n} replications are unlikely to decide the {open_ones} open comparisons"
            why = hopeless_ones if open_ones else "every comparison is decided"
            return Standing(trials, look, count, decided, why)
        sizes |= {key: following.n for key in alive}
    raise AssertionError("the last look returns")


def step(
    found: Replications, judged: Judged, grown: list[bool], decided: dict[Pair, Judged]
) -> dict[int, tuple[str, str]]:
    """Adds the verdicts that this look makes to ``decided``; returns the pairs of a task that stay open, by number.

    Rows that have not ``grown`` to this look were judged before.
    """
    still = dict[int, tuple[str, str]]()
    for k, (i, j) in enumerate(combinations(range(len(found.rows)), 2)):
        first, second = found.rows[i], found.rows[j]
        pair = (found.task, first, second)
        if pair in decided or not (grown[i] and grown[j]):
            continue
        if judged.verdicts[k] == "unknown":
            still[k] = (first, second)
        else:
            decided[pair] = judged.only(k)
    return still


def hopeless(gaps: Differences, k: int, most: int, lent: Prior, level: Level, margin: float) -> bool:
    """Whether a pair is unlikely to be decided by the last look, if it is as it was measured."""
    deviation = math.sqrt(gaps.variance[k])
    return power(abs(float(gaps.mean[k])), deviation, most, lent, level, margin) < HOPELESS


def _up_to(suite: "Suite", sizes: Mapping[tuple[str, str], int]) -> tuple[Trial, ...]:
    """The trials of each row's first replications on each task."""
    wanted = set[str]()
    order = {seed: place for place, seed in enumerate(dict.fromkeys(trial.seed for trial in suite.trials))}
    for row in suite.rows:
        for trial in suite.trials:
            if trial.configuration in row.configurations and order[trial.seed] < sizes[trial.task, row.name]:
                wanted.add(trial.id)
    return tuple(trial for trial in suite.trials if trial.id in wanted)
