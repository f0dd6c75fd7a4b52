"""Differences between rows, replication by replication, with intervals that hold for all pairs of a suite together.

A difference is judged by its t statistic on a moderated variance: with two to five replications a pair's own variance
is so uncertain that no interval for a hundred pairs is of use. Calibration: docs/statistics.md.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

ALPHA = 0.05
# Most degrees of freedom that the other pairs of a suite may lend a pair. Estimated ones are larger by chance at two to
# three replications, which costs the level; measured suites have 2.5 to 6.
MOST_LENT = 4.0
SAME = 1e-12  # a variance below it is that of rows that never differ

Floats = NDArray[np.float64]
Verdict = Literal["better", "equal", "unknown"]


class Prior(NamedTuple):
    """What a suite's pairs tell of the variance of one: a scaled inverse chi squared distribution (Smyth, 2004)."""

    df: float  # 0: nothing, a pair's own variance alone counts
    variance: float


class Differences(NamedTuple):
    """The pairs of one task, each an entry: the mean of its differences, their variance and number."""

    mean: Floats
    variance: Floats
    n: NDArray[np.int64]


class Level(NamedTuple):
    """What intervals must hold together: with probability 1 - alpha, this many of them."""

    pairs: int
    alpha: float = ALPHA

    def critical(self, df: Floats | float) -> Floats:
        """The t quantile of each interval (Šidák, 1967)."""
        each = -math.expm1(math.log1p(-self.alpha) / max(1, self.pairs))
        found: Floats = -np.asarray(special.stdtrit(df, each / 2), dtype=float)
        return found

    def adjusted(self, p: Floats) -> Floats:
        """p values that hold for all pairs together, whatever alpha."""
        found: Floats = -np.expm1(max(1, self.pairs) * np.log1p(-np.minimum(p, 1 - 1e-16)))
        return found


class Judged(NamedTuple):
    """The pairs of one task: means, half widths of their intervals, adjusted p values and verdicts."""

    mean: Floats
    half: Floats
    p: Floats
    verdicts: list[Verdict]

    def only(self, k: int) -> "Judged":
        """One of the pairs."""
        at = slice(k, k + 1)
        return Judged(self.mean[at], self.half[at], self.p[at], self.verdicts[at])


def differences(values: Floats) -> Differences:
    """All pairs i < j of the columns of values (n, k), in the order of ``np.triu_indices``; nan where there is none."""
    first, second = np.triu_indices(values.shape[1], 1)
    gaps = values[:, first] - values[:, second]
    counted = ~np.isnan(gaps)
    n = counted.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(counted, gaps, 0.0).sum(0) / n
        spread = (np.where(counted, gaps - mean, 0.0) ** 2).sum(0) / (n - 1)
    return Differences(mean, np.where(n > 1, spread, np.nan), n)


def prior(tasks: Sequence[Differences], most: float = MOST_LENT) -> Prior:
    """What all pairs of a suite say of a variance (Smyth, 2004, section 6.2), lending at most so many degrees."""
    variance = np.concatenate([one.variance for one in tasks]) if tasks else np.zeros(0)
    n = np.concatenate([one.n for one in tasks]) if tasks else np.zeros(0)
    known = np.isfinite(variance) & (variance > SAME)
    half = (n[known] - 1) / 2
    if len(half) < 3:
        return Prior(0.0, 0.0)
    logs = np.log(variance[known]) - special.digamma(half) + np.log(half)
    extra = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    df = min(most, 2 * _inverse_trigamma(extra)) if extra > 0 else most
    return Prior(df, float(np.exp(logs.mean() + special.digamma(df / 2) - math.log(df / 2))))


def moderated(variance: Floats, n: NDArray[np.int64] | float, lent: Prior) -> Floats:
    """The larger of a pair's own variance and that moderated by the others': noisy rows stay as noisy as they are."""
    own = np.asarray(n, dtype=float) - 1
    if lent.df == 0:
        return variance
    return np.maximum(variance, (lent.df * lent.variance + own * variance) / (lent.df + own))


def judge(found: Differences, lent: Prior, level: Level, margin: float) -> Judged:
    """Each pair's interval and verdict: equal where the interval lies within ± margin, better where it excludes 0."""
    df = np.where(found.n > 1, lent.df + found.n - 1, np.nan)
    error = np.sqrt(moderated(found.variance, found.n, lent) / found.n)
    half = level.critical(df) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(found.mean) / error, np.where(found.mean == 0, 0.0, np.inf))
    p = level.adjusted(2 * special.stdtr(df, -t))
    verdicts: list[Verdict] = []
    for mean, wide in zip(np.abs(found.mean), half, strict=True):
        verdicts.append("equal" if mean + wide <= margin else "better" if mean > wide else "unknown")
    return Judged(found.mean, half, p, verdicts)


def power(gap: float, deviation: float, n: int, lent: Prior, level: Level, margin: float) -> float:
    """The probability that n replications decide a pair of that true gap and deviation of its differences.

    Its variance's estimate has n - 1 degrees of freedom and is independent of its mean, over which is integrated.
    """
    if n < 2:
        return 0.0
    critical = float(level.critical(lent.df + n - 1))
    drawn = deviation**2 * special.chdtri(n - 1, (np.arange(200) + 0.5) / 200) / (n - 1)
    half = critical * np.sqrt(moderated(drawn, n, lent) / n)
    error = max(deviation, 1e-9) / math.sqrt(n)

    def between(low: Floats, high: Floats) -> Floats:
        chance: Floats = special.ndtr((high - gap) / error) - special.ndtr((low - gap) / error)
        return np.maximum(chance, 0.0)

    inside = np.maximum(margin - half, 0.0)
    equal = np.where(half < margin, between(-inside, inside), 0.0)
    apart = 1 - between(-np.maximum(half, inside), np.maximum(half, inside))
    return float((equal + apart).mean())


def _inverse_trigamma(value: float) -> float:
    """The y whose trigamma is ``value``: Newton's method on its reciprocal, which is nearly linear."""
    y = 0.5 + 1 / value
    for _ in range(50):
        tri = float(special.polygamma(1, y))
        step = tri * (1 - tri / value) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
