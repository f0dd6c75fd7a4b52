"""Which rows are best under which shift, how sure that is, and what it would take to know more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmsa_bench.analysis import overall, planning
from lmsa_bench.analysis.intervals import Differences, Judged, Level, Prior, Verdict, judge, prior
from lmsa_bench.analysis.overall import Interaction, RankInterval, SignedRank
from lmsa_bench.analysis.planning import Components
from lmsa_bench.analysis.replications import Replications
from lmsa_bench.analysis.sequential import Standing

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs


class Comparison(NamedTuple):
    """Two rows on a task, the first with the higher mean; differences are fractions of the test set."""

    task: str
    first: str
    second: str
    mean: float
    half: float  # half width of its interval; all of the suite's hold together
    p: float  # that they are alike, adjusted for all comparisons of the suite
    n: int  # replications that both have
    verdict: Verdict
    needed: int | None  # replications that would decide it, where it is open and any number would


@dataclass(frozen=True)
class TaskVerdict:
    """What is known of the rows of one task."""

    task: str
    shift: str  # its kind, "" where the task does not tell
    n: int  # replications of the row that has most
    rows: tuple[str, ...]  # compared, the highest mean first
    means: tuple[float, ...]
    best: tuple[str, ...]  # that no row beats
    comparisons: tuple[Comparison, ...]
    diverged: tuple[str, ...]  # behind all others, without a comparison
    components: Components | None
    seconds: tuple[float, ...]  # core seconds of training one replication of each of ``rows``

    @property
    def decided(self) -> int:
        """How many of the comparisons have a verdict: better, or equal within the margin."""
        return sum(one.verdict != "unknown" for one in self.comparisons)

    @property
    def beaten_rows(self) -> tuple[str, ...]:
        """The rows that some row beats."""
        return tuple(row for row in (*self.rows, *self.diverged) if self.beaten(row))

    def between(self, first: str, second: str) -> Comparison | None:
        """The comparison of two rows, in either order."""
        pair = {first, second}
        return next((one for one in self.comparisons if {one.first, one.second} == pair), None)

    def cost(self, share: float) -> tuple[int, float] | None:
        """Replications that decide this share of the open comparisons which any number decides, and their core hours.

        Cheapest first; None where there is none.
        """
        needed = sorted((one.needed, one) for one in self.comparisons if one.needed is not None)
        if not needed:
            return None
        rows = dict[str, int]()
        for count, one in needed[: math.ceil(share * len(needed))]:
            rows |= {one.first: count, one.second: count}
        return max(rows.values()), planning.cost(rows, self.n, dict(zip(self.rows, self.seconds, strict=True)))

    def behind(self, row: str) -> Comparison | None:
        """A row's comparison with the highest one that beats it."""
        ahead = [one for one in self.comparisons if one.verdict == "better" and one.second == row]
        return min(ahead, key=lambda one: self.rows.index(one.first), default=None)

    def beaten(self, row: str) -> bool:
        """Whether some row is better."""
        return row in self.diverged or self.behind(row) is not None


@dataclass(frozen=True)
class Verdicts:
    """What a suite says of its ranked rows."""

    margin: float  # of practical equivalence, a fraction
    level: Level
    prior: Prior
    tasks: tuple[TaskVerdict, ...]
    interaction: Interaction | None
    nowhere_beaten: tuple[str, ...]  # rows that no row beats under any shift
    no_best: float | None  # p of there being a row that no row beats under any shift
    ranks: tuple[RankInterval, ...]  # the best first
    rows: tuple[str, ...]  # of ``improvement``
    improvement: tuple[tuple[float, ...], ...]  # that a run of a row is better than one of another
    signed_ranks: tuple[SignedRank, ...]
    one_source: bool  # all seeds share a source model, of which alone the intervals speak
    until: str = ""  # why the sweep ended, where it ran until all was decided

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Of all tasks."""
        return tuple(one for task in self.tasks for one in task.comparisons)

    @property
    def decided(self) -> int:
        """How many comparisons have a verdict."""
        return sum(task.decided for task in self.tasks)


def verdicts(
    suite: "Suite",
    found: Sequence[Replications],
    one_source: bool,
    standing: Standing | None = None,
) -> Verdicts:
    """Judges all pairs of rows on all tasks together, with probability 1 - ALPHA of no false verdict.

    After a sweep that ran until all was decided, its verdicts count, and what is open is judged at its last look.
    """
    gaps = [one.differences for one in found]
    level = Level(sum(int((one.n > 0).sum()) for one in gaps))
    if standing is not None:
        level = Level(standing.pairs, standing.look.alpha)
    lent = prior(gaps)
    judged = [judge(one, lent, level, suite.margin) for one in gaps]
    if standing is not None:
        judged = [standing.as_decided(one, judgement) for one, judgement in zip(found, judged, strict=True)]
    tasks = tuple(
        _task(one, gap, judgement, lent, level, suite) for one, gap, judgement in zip(found, gaps, judged, strict=True)
    )
    whole = overall.complete(found)
    rows, values = overall.compared(found), [one for _, one in whole]
    means = {row: [float(one[:, i].mean()) for one in values] for i, row in enumerate(rows)}
    everywhere = [row for row in rows if all(row in task.rows for task in tasks)]
    return Verdicts(
        suite.margin,
        level,
        lent,
        tasks,
        overall.interaction(values),
        tuple(row for row in everywhere if not any(task.beaten(row) for task in tasks)),
        _no_best(tasks, everywhere),
        tuple(overall.rank_intervals(rows, values)),
        rows if values else (),
        tuple(tuple(map(float, row)) for row in overall.improvement(values)) if values else (),
        tuple(overall.signed_rank(means, suite.margin)) if len(values) > 1 else (),
        one_source,
        standing.over if standing is not None else "",
    )


def of_means(means: dict[str, Sequence[float]], margin: float) -> Verdicts:
    """What single values allow, one a task for each row: no difference on a task can be judged."""
    tests = tuple(overall.signed_rank(means, margin))
    return Verdicts(margin, Level(0), Prior(0.0, 0.0), (), None, (), None, (), (), (), tests, False)


def _task(
    found: Replications, gaps: Differences, judged: Judged, lent: Prior, level: Level, suite: "Suite"
) -> TaskVerdict:
    made = []
    for k, (i, j) in enumerate(zip(*np.triu_indices(len(found.rows), 1), strict=True)):
        if gaps.n[k] < 1:
            continue
        first, second, mean = found.rows[i], found.rows[j], float(judged.mean[k])
        if mean < 0:
            first, second = second, first
        needed = None
        if judged.verdicts[k] == "unknown" and gaps.n[k] > 1:
            needed = planning.plan(abs(mean), float(gaps.variance[k]), int(gaps.n[k]), lent, level, suite.margin)
        half, p = float(judged.half[k]), float(judged.p[k])
        half, p = (half, p) if math.isfinite(half) else (math.inf, 1.0)
        made.append(
            Comparison(found.task, first, second, abs(mean), half, p, int(gaps.n[k]), judged.verdicts[k], needed)
        )
    order = sorted(range(len(found.rows)), key=lambda i: -found.means[i])
    beaten = {one.second for one in made if one.verdict == "better"}
    return TaskVerdict(
        found.task,
        suite.facts[found.task].shift if found.task in suite.facts else "",
        len(found.seeds),
        tuple(found.rows[i] for i in order),
        tuple(float(found.means[i]) for i in order),
        tuple(found.rows[i] for i in order if found.rows[i] not in beaten),
        tuple(made),
        found.diverged,
        planning.components(found, gaps, judged, lent, level),
        tuple(float(found.seconds[i]) * suite.cpus for i in order),
    )


def _no_best(tasks: Sequence[TaskVerdict], rows: Sequence[str]) -> float | None:
    """The p value of "some row is beaten under no shift", from the adjusted ones of all comparisons.

    For each row the smallest at which another one is better anywhere, and of these the largest: each is valid for its
    row, and the hypothesis says that one of the rows is such a one.
    """
    if not rows or len(tasks) < 2:
        return None
    lowest = []
    for row in rows:
        behind = [one.p for task in tasks for one in task.comparisons if one.second == row]
        lowest.append(0.0 if any(row in task.diverged for task in tasks) else min(behind, default=1.0))
    return max(lowest)
