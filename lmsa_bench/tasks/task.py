"""A task: data before and after a distribution shift, and the source model that is adapted to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

Needs = Mapping[str, Sequence[str]]  # published data sets by name, and the files of each; empty: all of them


class Variants:
    """Marks the option of a task factory that lists its variants: a trial's options contain only its own variant."""


class Split(NamedTuple):
    """Images (n, C, H, W) uint8 and labels (n,) int64, in CPU memory."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Rows:
    """Selected rows of a memory-mapped tensor, copied only when indexed; takes the place of a tensor in a Split."""

    def __init__(self, tensor: Tensor, index: Tensor) -> None:
        self.tensor, self.index = tensor, index
        self.shape, self.dtype = (len(index), *tensor.shape[1:]), tensor.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, where: Tensor) -> Tensor:
        return self.tensor[self.index[where]]


def view(split: Split, index: Tensor) -> Split:
    """The images and labels at these indices (m,), without copying images."""
    return Split(cast(Tensor, Rows(split.images, index)), split.labels[index])


class Splits(NamedTuple):
    """The tuning, validation and test images of one seed, which are disjoint."""

    train: Split
    val: Split
    test: Split


def to_unit(images: Tensor) -> Tensor:
    """uint8 images (K, C, H, W) to float32 in [0, 1], on the same device."""
    return images.to(torch.float32).div_(255)


def nothing(root: Path) -> None:
    """Prepares no data."""


@dataclass(frozen=True)
class Stage:
    """One stage of training a source model: Adam on all layers, or on a new head with frozen features."""

    tune: Literal["all", "head"]
    epochs: int
    lr: float


@dataclass(frozen=True)
class Source:
    """How a source model is trained or loaded: together with the model's name, this determines its fingerprint."""

    data: str  # the data set's name, part of the fingerprint
    load: Callable[[Path], Split] | None  # training images, from the data root; None: only published weights
    epochs: int  # of training from random weights
    lr: float
    holdout: Callable[[Path], Split | None] | None = None  # held-out source images; None if missing
    transform: Callable[[Tensor], Tensor] = to_unit  # uint8 (K, C, H, W) to the model's input, without the shift
    weights: str = "pretrain"  # "pretrain": train from scratch; "hub": published weights; else a file's path
    stages: tuple[Stage, ...] = ()  # of training after loading weights with another head than the task's
    on_tuning: bool = False  # the stages use the task's tuning images: one source model per seed
    accuracy: float | None = None  # of the published weights on the holdout, a fraction
    prepare: Callable[[Path], None] = nothing  # writes what load reads to the data root
    fingerprint: Callable[[Path], str] | None = None  # of what load reads; None: its content is hashed
    needs: Needs = field(default_factory=dict)  # what load reads
    each: bool = False  # one that is trained from random weights is trained for each seed, from that seed's generators


@dataclass(frozen=True)
class Task:
    """A distribution shift: its model, its data, and how they are split."""

    name: str
    model: str  # a name in MODELS
    classes: int
    input_shape: tuple[int, int, int]  # C, H, W
    source: Source
    splits: Callable[[Path, str, int], Splits]  # from (data root, variant, seed)
    prepare: Callable[[Path], None]  # writes what splits reads to the data root; quick if it exists
    fingerprint: Callable[[Path], str]  # of the prepared data
    variants: tuple[str, ...] = ("",)  # such as corruptions, tuned separately; the task's result is their mean
    transform: Callable[[Tensor], Tensor] = to_unit  # uint8 (K, C, H, W) to the model's input, on the device
    needs: Needs = field(default_factory=dict)  # what splits reads
    tuning: int | None = None  # number of tuning images, if fixed by the published data
    shift: str = ""  # input, output, feature: for the reader of a table
