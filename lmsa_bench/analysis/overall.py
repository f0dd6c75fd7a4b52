"""What all tasks say together: whether the order of rows depends on the task, and where each row would rank again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg, special

from lmsa_bench.analysis.intervals import ALPHA, SAME, Differences, Floats, moderated, prior
from lmsa_bench.analysis.ranks import average_ranks
from lmsa_bench.analysis.replications import Replications
from lmsa_bench.seeding import derive

DRAWS = 10_000


class Interaction(NamedTuple):
    """The test of whether differences between rows depend on the task."""

    f: float
    df: tuple[float, float]
    p: float


class RankInterval(NamedTuple):
    """A row's average rank over tasks, and where it lies in 95 % of repetitions of the suite."""

    row: str
    mean: float
    low: float
    high: float


class SignedRank(NamedTuple):
    """Bayesian signed rank test of two rows over tasks: how probable each is better by more than the margin."""

    first: str
    second: str
    first_better: float
    equal: float
    second_better: float


def complete(tasks: Sequence[Replications]) -> list[tuple[str, Floats]]:
    """Each task that has all compared rows, in one order of rows, with the seeds that all of them have."""
    rows = compared(tasks)
    found = []
    for one in tasks:
        if set(rows) <= set(one.rows) and not one.diverged:
            values = one.values[:, [one.rows.index(row) for row in rows]]
            found.append((one.task, values[~np.isnan(values).any(1)]))
    return [(task, values) for task, values in found if len(values) > 1]


def compared(tasks: Sequence[Replications]) -> tuple[str, ...]:
    """The rows that have a result on some task, in the first order that they are met in."""
    return tuple(dict.fromkeys(row for one in tasks for row in (*one.rows, *one.diverged)))


def interaction(tasks: Sequence[Floats]) -> Interaction | None:
    """The ANOVA-type test of row × task, with Box's degrees of freedom (Brunner, Dette and Munk, 1997).

    Replications are blocks within a task, whose covariance of rows is its own: (seeds, rows) for each task. None for
    fewer than two tasks or rows.
    """
    if len(tasks) < 2 or tasks[0].shape[1] < 2:
        return None
    k, t = tasks[0].shape[1], len(tasks)
    rows, blocks = np.eye(k) - 1 / k, np.eye(t) - 1 / t
    projection = np.kron(blocks, rows)
    covariances = [np.cov(one, rowvar=False) / len(one) for one in tasks]
    product = projection @ linalg.block_diag(*covariances)
    means = np.concatenate([one.mean(0) for one in tasks])
    trace = float(np.trace(product))
    if trace < SAME:
        return None
    own = [float(np.trace((1 - 1 / t) * rows @ covariance)) for covariance in covariances]
    first = trace**2 / float(np.trace(product @ product))
    second = trace**2 / sum(value**2 / (len(one) - 1) for value, one in zip(own, tasks, strict=True))
    f = float(means @ projection @ means) / trace
    return Interaction(f, (first, second), float(special.fdtrc(first, second, f)))


def rank_intervals(rows: Sequence[str], tasks: Sequence[Floats]) -> list[RankInterval]:
    """Where each row's average rank would lie if the suite were run again with as many replications.

    A parametric bootstrap: resampling three replications gives ten different samples, whose spread is too small. Rows
    vary by themselves, once what all rows have in common at a seed is taken off, with moderated variances.
    """
    if not tasks:
        return []
    draw = np.random.default_rng(derive(0, "rank intervals"))
    centred = [one - one.mean(1, keepdims=True) for one in tasks]
    k = tasks[0].shape[1]
    spreads = [
        Differences(one.mean(0), one.var(0, ddof=1) * k / max(1, k - 1), np.full(k, len(one))) for one in centred
    ]
    lent = prior(spreads)
    total, observed = np.zeros((DRAWS, k)), np.zeros(k)
    for one, spread in zip(tasks, spreads, strict=True):
        variance = moderated(spread.variance, spread.n, lent)
        error = np.sqrt(2 * variance / spread.n)  # of the difference between two runs of the suite
        noise = draw.standard_t(lent.df + len(one) - 1, (DRAWS, k)) * error
        total += average_ranks(one.mean(0) + noise)
        observed += average_ranks(one.mean(0).round(9))
    low, high = np.quantile(total / len(tasks), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    found = [
        RankInterval(row, *map(float, values))
        for row, *values in zip(rows, observed / len(tasks), low, high, strict=True)
    ]
    return sorted(found, key=lambda one: one.mean)


def improvement(tasks: Sequence[Floats]) -> Floats:
    """(rows, rows): the probability that a run of one row is better than one of another, the mean over tasks.

    Agarwal et al. (2021): Mann and Whitney's U over the number of pairs of runs, ties half.
    """
    # (runs of the one, runs of the other, rows, rows)
    each = [np.heaviside(one[:, None, :, None] - one[None, :, None, :], 0.5).mean((0, 1)) for one in tasks]
    found: Floats = np.mean(each, axis=0)
    return found


def signed_rank(means: Mapping[str, Sequence[float]], margin: float) -> list[SignedRank]:
    """The Bayesian signed rank test of all pairs of rows, whose means on the same tasks these are.

    Benavoli et al. (2017), section 4.2.2: a Dirichlet process whose prior, of strength 1/2, is one task without a
    difference. Each draw goes to the outcome of the highest weight.
    """
    names, found = list(means), []
    draw = np.random.default_rng(derive(0, "signed rank"))
    count = len(next(iter(means.values()), ()))
    if not count:
        return []
    weights = draw.dirichlet([0.5, *[1.0] * count], DRAWS)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            gaps = np.array([0.0, *(np.array(means[first]) - np.array(means[second]))])
            walsh = np.add.outer(gaps, gaps) / 2
            right, left = (
                np.einsum("di,ij,dj->d", weights, np.heaviside(sign * walsh - margin, 0.5), weights) for sign in (1, -1)
            )
            shares = np.stack([right, 1 - right - left, left], axis=1)
            won = shares >= shares.max(1, keepdims=True) - 1e-12
            chances = (won / won.sum(1, keepdims=True)).mean(0)
            found.append(SignedRank(first, second, *map(float, chances)))
    return found
