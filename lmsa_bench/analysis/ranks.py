"""Average ranks over tasks, and whether they tell methods apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special  # not scipy.stats, which takes a second to import

ALPHA = 0.05
FEWEST = 3  # values under a mean whose interval is shown: of two it is 12.7 times as wide as they are apart

# Row name -> block (a task) -> score, larger is better: -inf ranks last (diverged), None is no score at all.
Scores = Mapping[str, Mapping[str, float | None]]


class Interval(NamedTuple):
    """A 95 % t interval, symmetric about its mean."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """The figure after the ±."""
        return (self.high - self.low) / 2


def half_width(interval: Interval | None, n: int) -> float:
    """The figure after the ±; 0 where there are too few values to show it."""
    return interval.half_width if interval and n >= FEWEST else 0.0


class Pair(NamedTuple):
    """Two rows of which the first has the better (smaller) average rank."""

    better: str
    worse: str
    gap: float


class Difference(NamedTuple):
    """How much the best row is ahead of another on one task: the mean over the seeds that both have."""

    row: str
    task: str
    mean: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Statistics:
    """Friedman, Iman-Davenport and Nemenyi; None where there are too few rows or blocks for them."""

    average_ranks: dict[str, float]  # best first
    blocks: tuple[str, ...]  # the tasks that counted
    left_out: tuple[str, ...]  # those in which some ranked row has no score
    chi2: float | None = None
    p: float | None = None
    f: float | None = None  # infinite where all blocks agree
    f_p: float | None = None
    critical_difference: float | None = None
    separable: tuple[Pair, ...] = ()

    def verdict(self, block: str = "task") -> str:
        """One sentence: which rows the ranks tell apart at this number of blocks."""
        names, n = list(self.average_ranks), f"{len(self.blocks)} {block}{'s' if len(self.blocks) != 1 else ''}"
        if self.critical_difference is None:
            return f"not separable: {len(names)} ranked rows on {n} are too few to test"
        test = f"critical difference {self.critical_difference:.2f}, Iman-Davenport {p_value(self.f_p)}"
        if not self.separable:
            gap = f"{self.average_ranks[names[-1]] - self.average_ranks[names[0]]:.2f}, {names[0]} to {names[-1]}"
            return f"not separable: on {n} the largest gap of average ranks is {gap} ({test})"
        pairs = ", ".join(f"{pair.better} before {pair.worse}" for pair in self.separable)
        beaten = {pair.worse for pair in self.separable if pair.better == names[0]}
        group = [name for name in names if name not in beaten]
        return f"separable: on {n} {pairs} ({test}); the best group is {', '.join(group)}"


def p_value(p: float | None) -> str:
    """A p value as text, never as 0."""
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def t_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % t interval of a mean, None for fewer than two values."""
    if len(values) < 2:
        return None
    half = special.stdtrit(len(values) - 1, 1 - ALPHA / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    mean = fmean(values)
    return Interval(float(mean - half), float(mean + half))


def statistics(scores: Scores, blocks: Sequence[str]) -> Statistics:
    """Ranks the rows in each block (ties share their average rank) and tests whether the rows differ."""
    names = list(scores)
    values = {block: [scores[name].get(block) for name in names] for block in blocks}
    counted = tuple(block for block in blocks if None not in values[block])
    left_out = tuple(block for block in blocks if None in values[block])
    if not counted or not names:
        return Statistics({}, (), left_out)
    # Rounded, since the same fractions summed in another order are still a tie.
    ranks = average_ranks(np.array([values[block] for block in counted], dtype=float).round(9))
    average = dict(sorted(zip(names, ranks.mean(axis=0).tolist(), strict=True), key=lambda item: item[1]))
    n, k = ranks.shape
    if n < 2 or k < 2:
        return Statistics(average, counted, left_out)

    # Friedman's statistic in the form that allows for ties: the spread of the rank sums over the spread of the ranks.
    spread = float((ranks**2).sum()) - n * k * (k + 1) ** 2 / 4
    chi2 = (k - 1) * float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum()) / spread if spread else 0.0
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    f_p = float(special.fdtrc(k - 1, (k - 1) * (n - 1), f))
    critical = normal_range(k) * math.sqrt(k * (k + 1) / (12 * n))
    pairs = [Pair(a, b, average[b] - average[a]) for a, b in combinations(average, 2)]
    return Statistics(
        average,
        counted,
        left_out,
        chi2=chi2,
        p=float(special.chdtrc(k - 1, chi2)),
        f=f,
        f_p=f_p,
        critical_difference=critical,
        # Nemenyi's test is a post-hoc one: it is read only where Iman and Davenport's rejects.
        separable=tuple(pair for pair in pairs if pair.gap > critical) if f_p < ALPHA else (),
    )


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value (…, k) among the k, 1 the largest; ties share their average rank."""
    one, other = values[..., :, None], values[..., None, :]
    found: NDArray[np.float64] = (other > one).sum(-1) + ((other == one).sum(-1) + 1) / 2
    return found


def normal_range(k: int) -> float:
    """The upper ALPHA quantile of the range of k standard normal variables: q of the studentized range at df = ∞."""
    lowest, step = np.linspace(-9, 9, 1801, retstep=True)
    density = np.exp(-(lowest**2) / 2) / math.sqrt(2 * math.pi) * step
    low, high = 0.0, 20.0
    for _ in range(60):
        q = (low + high) / 2
        within = k * float(density @ (special.ndtr(lowest + q) - special.ndtr(lowest)) ** (k - 1))
        low, high = (q, high) if within < 1 - ALPHA else (low, q)
    return q


def paired_differences(by_seed: Mapping[tuple[str, str], Mapping[int, float]], best: str) -> list[Difference]:
    """The best row minus each other one, seed by seed, for (row, task) -> seed -> accuracy; not corrected for many."""
    found = []
    for (row, task), values in by_seed.items():
        reference = by_seed.get((best, task), {})
        gaps = [reference[seed] - value for seed, value in values.items() if seed in reference]
        if row != best and gaps:
            found.append(Difference(row, task, fmean(gaps), t_interval(gaps), len(gaps)))
    return found
