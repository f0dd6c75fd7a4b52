"""What a task is: data before and after a distribution shift, and the source model that meets it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Images (n, C, H, W) uint8 and labels (n,) int64, in host memory."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Splits(NamedTuple):
    """The tuning, validation and test images of one seed: no image is in two of them."""

    train: Split
    val: Split
    test: Split


def to_unit(images: Tensor) -> Tensor:
    """uint8 images to floats in [0, 1], on whichever device they are."""
    return images.to(torch.float32).div_(255)


@dataclass(frozen=True)
class Source:
    """How a source model is trained: all its fields, with the model's name, decide its fingerprint."""

    data: str  # the data set's name, part of the fingerprint
    load: Callable[[Path], Split]  # its training images, from the data root
    epochs: int
    lr: float
    holdout: Callable[[Path], Split] | None = None  # unseen images of the source distribution, to report its accuracy
    transform: Callable[[Tensor], Tensor] = to_unit  # uint8 (K, C, H, W) to the model's input, before the shift


@dataclass(frozen=True)
class Task:
    """A distribution shift: its model, its data, and how they are split."""

    name: str
    model: str  # a name in MODELS
    classes: int
    input_shape: tuple[int, int, int]  # C, H, W
    source: Source
    splits: Callable[[Path, str, int], Splits]  # (data root, variant, seed)
    prepare: Callable[[Path], None]  # writes what splits and source read below the data root; quick where it is there
    fingerprint: Callable[[Path], str]  # of the prepared data
    variants: tuple[str, ...] = ("",)  # the corruptions that are tuned one at a time; the task's result is their mean
    transform: Callable[[Tensor], Tensor] = to_unit  # uint8 (K, C, H, W) to the model's input, on the device
    shift: str = ""  # input, output, feature: for the reader of a table
