"""Where the variance of a suite comes from, what it can resolve, and what an open question would cost."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lmsa_bench.analysis.intervals import Differences, Judged, Level, Prior, power
from lmsa_bench.analysis.replications import Replications

POWER = 0.8
MOST = 1000  # replications that a plan considers


class Components(NamedTuple):
    """Of the differences on a task, medians over its pairs; standard deviations and widths in accuracy."""

    replication: float  # deviation between replications: source model, split, order, and the two below
    images: float | None  # by the number of test images; None where outcomes were not kept
    selection: float  # by the choice of hyper-parameters
    resolved: float  # half width of an interval: the smallest difference that is told from 0 today
    detectable: float  # the smallest one that is found with probability POWER


def plan(gap: float, variance: float, n: int, lent: Prior, level: Level, margin: float) -> int | None:
    """The smallest number of replications, above n, that decides a pair with probability POWER; None above MOST.

    Its difference and spread are taken to be those that were measured.
    """
    deviation = math.sqrt(variance)

    def suffices(count: int) -> bool:
        return power(gap, deviation, count, lent, level, margin) >= POWER

    low, high = n, n + 1
    while not suffices(high):
        if high >= MOST:
            return None
        low, high = high, min(MOST, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def components(found: Replications, gaps: Differences, judged: Judged, lent: Prior, level: Level) -> Components | None:
    """The medians over a task's pairs; None where no pair has two replications."""
    known = gaps.n > 1
    if not known.any():
        return None
    first, second = np.triu_indices(len(found.rows), 1)
    images = None if found.images is None else float(np.median(np.sqrt(found.images[first, second][known])))
    variance, half = float(np.median(gaps.variance[known])), float(np.median(judged.half[known]))
    n = int(np.median(gaps.n[known]))
    return Components(
        math.sqrt(variance),
        images,
        float(np.median(np.sqrt((gaps.n * found.choice)[known]))),
        half,
        _detectable(math.sqrt(variance), n, lent, level, half),
    )


def _detectable(deviation: float, n: int, lent: Prior, level: Level, half: float) -> float:
    low, high = 0.0, max(4 * half, 1e-6)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, deviation, n, lent, level, 0.0) >= POWER else (middle, high)
    return high


def cost(needed: Mapping[str, int], n: int, seconds: Mapping[str, float]) -> float:
    """Core hours of bringing each row from n replications to the number it needs; ``seconds`` are of one."""
    return sum(max(0, count - n) * seconds[row] for row, count in needed.items()) / 3600
