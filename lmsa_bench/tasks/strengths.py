"""Shifts of digits and Fashion-MNIST by strength and by number of labels: each is a variant of one task.

A variant is a strength, such as "0.27", with all tuning images of each class (20 digits, 100 garments), or with their
number, as in "0.27/5".
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from torch.nn import functional as F

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import shifts
from lmsa_bench.tasks.corruptions import corrupt
from lmsa_bench.tasks.digits import DIGITS
from lmsa_bench.tasks.fashion import FASHION
from lmsa_bench.tasks.shifts import ImageSet
from lmsa_bench.tasks.task import Split, Splits, Task, Variants

Strengths = Annotated[list[str], Variants]
Ratio = Annotated[float, Ge(1)]  # of the largest class to the smallest, among the tuning images
Change = Callable[[Split, float, torch.Generator], Split]


def digits_noise(strengths: Strengths = ["0.1", "0.27", "0.5"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Digits with impulse noise; the strength is the share of pixels."""
    return _by_strength("digits_noise", DIGITS, "input", strengths, imbalance, _corrupted("impulse_noise"))


def digits_dim(strengths: Strengths = ["0.4", "0.15", "0.05"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Digits with low contrast; the strength is what is left of it."""
    return _by_strength("digits_dim", DIGITS, "input", strengths, imbalance, _corrupted("contrast"))


def digits_rotated(strengths: Strengths = ["15", "45", "90"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Digits turned to the left by so many degrees."""
    return _by_strength("digits_rotated", DIGITS, "input", strengths, imbalance, _rotated)


def digits_swapped(strengths: Strengths = ["1", "3", "5"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Digits of which the first so many pairs (y, 9 − y) change labels; with 5 these are digits_flip's."""
    return _by_strength("digits_swapped", DIGITS, "output", strengths, imbalance, _swapped)


def fashion_noise(strengths: Strengths = ["0.1", "0.27", "0.5"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Fashion-MNIST with impulse noise; the strength is the share of pixels."""
    return _by_strength("fashion_noise", FASHION, "input", strengths, imbalance, _corrupted("impulse_noise"))


def fashion_rotated(strengths: Strengths = ["15", "45", "90"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Fashion-MNIST turned to the left by so many degrees."""
    return _by_strength("fashion_rotated", FASHION, "input", strengths, imbalance, _rotated)


def fashion_swapped(strengths: Strengths = ["1", "3", "5"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Fashion-MNIST of which the first so many pairs (y, 9 − y) change labels."""
    return _by_strength("fashion_swapped", FASHION, "output", strengths, imbalance, _swapped)


def fashion_merged(strengths: Strengths = ["1", "3", "5"], imbalance: Ratio = 1.0) -> Task:  # noqa: B006
    """Fashion-MNIST of which the first so many pairs (y, 9 − y) become one class, y."""
    return _by_strength("fashion_merged", FASHION, "output", strengths, imbalance, _merged)


def _by_strength(name: str, data: ImageSet, shift: str, variants: list[str], imbalance: float, change: Change) -> Task:
    most = data.counts[0]
    parsed = {variant: _parsed(name, variant, most) for variant in variants}

    def splits(root: Path, variant: str, seed: int) -> Splits:
        strength, labels = parsed[variant]
        # The strength alone: fewer labels are a part of the same images.
        target = change(data.read("target", root), strength, generator(0, "shift", name, f"{strength:g}"))
        parts = shifts.cut(target.labels, data.counts, generator(seed, "splits", name))
        draw = generator(seed, "labels", name)
        own = target.labels[parts[0]]
        kept = []
        for label in own.unique().tolist():
            members = parts[0][own == label]
            count = max(1, round(labels * imbalance ** (-label / 9)))
            kept.append(members[torch.randperm(len(members), generator=draw)[:count]])
        parts[0] = torch.cat(kept).sort().values
        return Splits(*(shifts.take(target, part) for part in parts))

    plain = shifts.flipped(name, data)
    return replace(plain, splits=splits, variants=tuple(variants), shift=shift)


def _parsed(name: str, variant: str, most: int) -> tuple[float, int]:
    """Strength and tuning images of a class."""
    strength, _, labels = variant.partition("/")
    try:
        found = float(strength), int(labels or most)
    except ValueError:
        raise UserError(
            f"{name}: strength {variant!r}: expected a number, or a number and labels, as in 0.5/5"
        ) from None
    if not (math.isfinite(found[0]) and 1 <= found[1] <= most):
        raise UserError(f"{name}: strength {variant!r}: expected 1 to {most} labels of each class")
    return found


def _corrupted(corruption: str) -> Change:
    return lambda split, strength, draw: Split(corrupt(corruption, split.images, strength, draw), split.labels)


def _rotated(split: Split, degrees: float, draw: torch.Generator) -> Split:
    turn = math.radians(degrees)
    matrix = torch.tensor([[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]])
    grid = F.affine_grid(matrix.expand(len(split), 2, 3), list(split.images.shape), align_corners=False)
    turned = F.grid_sample(split.images.float(), grid, align_corners=False)
    return Split(turned.round().to(torch.uint8), split.labels)


def _swapped(split: Split, pairs: float, draw: torch.Generator) -> Split:
    swapped = torch.minimum(split.labels, 9 - split.labels) < pairs
    return Split(split.images, torch.where(swapped, 9 - split.labels, split.labels))


def _merged(split: Split, pairs: float, draw: torch.Generator) -> Split:
    lower = torch.minimum(split.labels, 9 - split.labels)
    return Split(split.images, torch.where(lower < pairs, lower, split.labels))
