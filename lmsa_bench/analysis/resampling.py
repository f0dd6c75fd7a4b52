"""The choice of hyper-parameters made anew in bootstrap resamples of the replications, so that its noise is known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmsa_bench.analysis.intervals import Floats

DRAWS = 1000
# What a diverged seed and the validation loss count in a choice beside accuracy: as in selection.choose, a diverged one
# more than any accuracy, and the loss less than one image.
DIVERGED, LOSS = 10.0, 1e-7


class Candidates(NamedTuple):
    """The configurations that compete for one part of a cell (…, seeds, configurations); nan: it has not ended."""

    val_accuracy: Floats
    val_loss: Floats
    test_accuracy: Floats
    diverged: NDArray[np.bool_]


def resamples(seeds: int, draws: int, draw: np.random.Generator) -> Floats:
    """How often each of so many seeds is in each resample, (draws, seeds)."""
    return draw.multinomial(seeds, np.full(seeds, 1 / seeds), draws).astype(float)


def cells(parts: Sequence[Candidates], weights: Floats, chosen: Sequence[NDArray[np.int64]] | None = None) -> Floats:
    """A row's mean test accuracy (…, draws) in each resample (draws, seeds), over its parts.

    Each part's configuration is chosen anew by validation, or is the given one, (…, 1) of each part.
    """
    total: Floats | float = 0.0
    for i, part in enumerate(parts):
        best = choices(part, weights) if chosen is None else np.broadcast_to(chosen[i], _drawn(part, weights))
        total = total + np.take_along_axis(_mean(weights, part.test_accuracy), best[..., None], -1)[..., 0]
    found: Floats = np.asarray(total) / max(1, len(parts))
    return found


def choices(part: Candidates, weights: Floats) -> NDArray[np.int64]:
    """The configuration that validation prefers in each resample, (…, draws)."""
    loss = _mean(weights, part.val_loss)
    score = _mean(weights, part.val_accuracy) - LOSS * loss / (1 + loss) - DIVERGED * (weights @ part.diverged)
    found: NDArray[np.int64] = np.where(np.isnan(score), -np.inf, score).argmax(-1)
    return found


def selection_variance(anew: Floats, alike: Floats, seeds: int) -> Floats:
    """What choosing anew adds to the variance of the mean of each pair of rows' differences, of (…, draws, rows).

    Pairs are in the order of ``np.triu_indices``; with n / (n - 1), as the bootstrap's variances are too small by that.
    """
    first, second = np.triu_indices(anew.shape[-1], 1)
    spreads = [(one[..., first] - one[..., second]).var(-2) for one in (anew, alike)]
    found: Floats = np.maximum(0.0, spreads[0] - spreads[1]) * seeds / max(1, seeds - 1)
    return found


def _drawn(part: Candidates, weights: Floats) -> tuple[int, ...]:
    return (*part.val_accuracy.shape[:-2], len(weights))


def _mean(weights: Floats, values: Floats) -> Floats:
    """Weighted means over the seeds that have ended, (…, draws, configurations)."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (weights @ np.where(known, values, 0.0)) / (weights @ known)
    return found
