"""What a task is: data before and after a distribution shift, and the source model that meets it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

Needs = Mapping[str, Sequence[str]]  # published data sets by name, and what of each; none: all of it


class Variants:
    """Marks the option of a task factory that names its variants: a trial keeps its own one alone."""


class Split(NamedTuple):
    """Images (n, C, H, W) uint8 and labels (n,) int64, in host memory."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Rows:
    """Chosen rows of a memory-mapped tensor, copied only when they are asked for; stands for a tensor in a Split."""

    def __init__(self, tensor: Tensor, index: Tensor) -> None:
        self.tensor, self.index = tensor, index
        self.shape, self.dtype = (len(index), *tensor.shape[1:]), tensor.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, where: Tensor) -> Tensor:
        return self.tensor[self.index[where]]


def view(split: Split, index: Tensor) -> Split:
    """The images and labels at those indices; no image is copied."""
    return Split(cast(Tensor, Rows(split.images, index)), split.labels[index])


class Splits(NamedTuple):
    """The tuning, validation and test images of one seed: no image is in two of them."""

    train: Split
    val: Split
    test: Split


def to_unit(images: Tensor) -> Tensor:
    """uint8 images to floats in [0, 1], on whichever device they are."""
    return images.to(torch.float32).div_(255)


def nothing(root: Path) -> None:
    """Prepares nothing."""


@dataclass(frozen=True)
class Stage:
    """Adam on all layers, or on a new head over frozen features."""

    tune: Literal["all", "head"]
    epochs: int
    lr: float


@dataclass(frozen=True)
class Source:
    """How a source model comes about: all that decides it, with the model's name, is in its fingerprint."""

    data: str  # the data set's name, part of the fingerprint
    load: Callable[[Path], Split] | None  # its training images, from the data root; None: weights must be given
    epochs: int  # of training from random weights
    lr: float
    holdout: Callable[[Path], Split | None] | None = None  # unseen images of the source distribution, where they are
    transform: Callable[[Tensor], Tensor] = to_unit  # uint8 (K, C, H, W) to the model's input, before the shift
    weights: str = "pretrain"  # "pretrain": from random weights; "hub": the published file; else a file's path
    stages: tuple[Stage, ...] = ()  # of training after given weights whose head is not the task's
    on_tuning: bool = False  # the stages see the task's own tuning images, so each seed has its source model
    accuracy: float | None = None  # of the published weights on the holdout, a fraction
    prepare: Callable[[Path], None] = nothing  # writes what load reads below the data root
    fingerprint: Callable[[Path], str] | None = None  # of what load reads, where that is quicker than hashing it
    needs: Needs = field(default_factory=dict)  # what load reads


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
    needs: Needs = field(default_factory=dict)  # what splits reads
    tuning: int | None = None  # images a seed tunes on, where the published data decide that
    shift: str = ""  # input, output, feature: for the reader of a table
