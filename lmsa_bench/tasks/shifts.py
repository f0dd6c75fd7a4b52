"""The kinds of distribution shift, each written once for any set of small images in ten classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import arrow
from lmsa_bench.tasks.corruptions import Strength, code_of, corrupt
from lmsa_bench.tasks.task import Source, Split, Splits, Task, to_unit

RECIPE = 1  # increased whenever the content of a prepared file or of a source's training set changes

Groups = Sequence[Sequence[int]]  # the old classes in each new one


@dataclass(frozen=True)
class ImageSet:
    """Ten classes of small images in three disjoint pools: source, holdout, and target, which is shifted."""

    name: str  # its folder in the data root
    model: str
    shape: tuple[int, int, int]  # C, H, W
    pools: Callable[[Path], Mapping[str, Split]]  # source, holdout, target, before any shift, from the data root
    strengths: Mapping[str, Strength]  # of the corruptions of the target pool
    counts: tuple[int, int]  # tuning and validation images per class; the rest of the target pool is the test set
    epochs: int  # of training the source model
    lr: float

    def path(self, part: str) -> Path:
        """The file of a part, relative to the data root: a pool, or the target pool after a corruption."""
        return Path(self.name, f"{part}.arrow")

    def prepare(self, root: Path) -> None:
        """Writes the pools and the corrupted target pools to the data root, unless they are current."""
        parts = ("source", "holdout", "target", *self.strengths)
        missing = [part for part in parts if not self._is_current(root, part)]
        if not missing:
            return
        pools = self.pools(root)
        for part in missing:
            if part in pools:
                split = pools[part]
            else:
                images, labels = pools["target"]
                draw = generator(0, "corrupt", self.name, part)
                split = Split(corrupt(part, images, self.strengths[part], draw), labels)
            arrow.write(root / self.path(part), *split, self._recipe(part))

    def read(self, part: str, root: Path) -> Split:
        """A prepared part, memory-mapped; raises UserError if it is missing or damaged."""
        return arrow.read(root / self.path(part))

    def fingerprint(self, parts: Sequence[str], root: Path) -> str:
        """The fingerprints of the source and holdout pools and of the parts that a task reads."""
        return "-".join(arrow.header(root / self.path(part)).fingerprint for part in ("source", "holdout", *parts))

    def source(self) -> Source:
        """The recipe of the source model of all ten classes, shared by tasks that use it."""
        return Source(f"{self.name}/{RECIPE}", self.source_pool, self.epochs, self.lr, self.holdout_pool)

    def source_pool(self, root: Path) -> Split:
        """The training images of source models."""
        return self.read("source", root)

    def holdout_pool(self, root: Path) -> Split:
        """Held-out images of the source distribution."""
        return self.read("holdout", root)

    def _recipe(self, part: str) -> str:
        how = f" {self.strengths[part]} {code_of(part)}" if part in self.strengths else ""
        return f"{self.name} {RECIPE}{how}"

    def _is_current(self, root: Path, part: str) -> bool:
        try:
            return arrow.header(root / self.path(part)).recipe == self._recipe(part)
        except UserError:
            return False


def cut(labels: Tensor, counts: Sequence[int], draw: torch.Generator) -> list[Tensor]:
    """Splits the indices of each class at random into parts of these sizes and a rest; each part is sorted.

    Raises UserError if a class has too few images to leave a rest.
    """
    parts: list[list[Tensor]] = [[] for _ in range(len(counts) + 1)]
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        if len(members) <= sum(counts):
            raise UserError(
                f"class {label} has {len(members)} images: expected more than {' + '.join(map(str, counts))}"
            )
        shuffled = members[torch.randperm(len(members), generator=draw)]
        for part, indices in zip(parts, shuffled.split([*counts, len(members) - sum(counts)]), strict=True):
            part.append(indices)
    return [torch.cat(part).sort().values for part in parts]


def at_most(labels: Tensor, indices: Tensor, per_class: int | None, draw: torch.Generator) -> Tensor:
    """``per_class`` random indices of each class, sorted, or for None all; raises UserError if there are fewer."""
    if per_class is None:
        return indices
    shuffled = indices[torch.randperm(len(indices), generator=draw)]
    parts = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique().tolist()]
    if min(map(len, parts)) < per_class:
        raise UserError(f"test_per_class: a class has {min(map(len, parts))} test images: expected {per_class}")
    return torch.cat(parts).sort().values


def take(split: Split, indices: Tensor) -> Split:
    """The images and labels at these indices (m,), copied."""
    return Split(split.images[indices], split.labels[indices])


def flip(split: Split, classes: int) -> Split:
    """The same images with label classes - 1 - y for y."""
    return Split(split.images, classes - 1 - split.labels)


def shuffle(split: Split, draw: torch.Generator) -> Split:
    """The same images with their labels in random order."""
    return Split(split.images, split.labels[torch.randperm(len(split), generator=draw)])


def regroup(split: Split, groups: Groups) -> Split:
    """The images whose class is in a group, with the group's index as label."""
    index = torch.full((int(split.labels.max()) + 1,), -1)
    for group, members in enumerate(groups):
        index[list(members)] = group
    labels = index[split.labels]
    return Split(split.images[labels >= 0], labels[labels >= 0])


def pairs(split: Split, per_class: int, draw: torch.Generator) -> Split:
    """``per_class`` pairs of images side by side (.., H, 2 W) for each of 100 classes, 10 * left + right.

    A class uses an image at most once per side. Raises UserError if a digit has fewer images than ``per_class``.
    """
    members = [(split.labels == label).nonzero().flatten() for label in range(10)]
    fewest = min(map(len, members))
    if fewest < per_class:
        raise UserError(f"a class has {fewest} images: expected at least {per_class}, one per pair")
    left, right = [], []
    for first in members:
        for second in members:
            left.append(first[torch.randperm(len(first), generator=draw)[:per_class]])
            right.append(second[torch.randperm(len(second), generator=draw)[:per_class]])
    images = torch.cat([split.images[torch.cat(left)], split.images[torch.cat(right)]], dim=3)
    return Split(images, torch.arange(100).repeat_interleave(per_class))


def corrupted(name: str, data: ImageSet) -> Task:
    """Input-level: the target pool with one corruption per variant, made once; all variants are split alike."""
    return _task(name, data, "input", variants=tuple(data.strengths))


def flipped(name: str, data: ImageSet) -> Task:
    """Output-level: the target pool with label 9 - y for y (CIFAR-Flip; Lee et al., 2022)."""
    return _task(name, data, "output", relabel=lambda split: flip(split, 10))


def permuted(name: str, data: ImageSet, labels: Sequence[int]) -> Task:
    """Output-level: label y becomes labels[y] on the target pool as it is."""
    new = torch.tensor(labels)
    return _task(name, data, "output", relabel=lambda split: Split(split.images, new[split.labels]))


def shuffled(name: str, data: ImageSet) -> Task:
    """Output-level: random labels, those of each split shuffled by the seed (paper, figure 1, case 3)."""
    task = _task(name, data, "output")

    def splits(root: Path, variant: str, seed: int) -> Splits:
        parts = zip(Splits._fields, task.splits(root, variant, seed), strict=True)
        return Splits(*(shuffle(split, generator(seed, "labels", name, part)) for part, split in parts))

    return replace(task, splits=splits)


def masked(name: str, data: ImageSet, model: str, epochs: int, lr: float) -> Task:
    """Input-level: pixels in [0, 1] multiplied by a fixed mask e^z, z standard normal (paper, figure 1, case 2).

    The source model is trained without the mask.
    """
    mask = torch.randn(data.shape, generator=generator(0, "mask", name)).exp()
    return replace(
        _task(name, data, "input"),
        model=model,
        source=replace(data.source(), epochs=epochs, lr=lr),
        transform=lambda images: to_unit(images) * mask.to(images.device),
    )


def regrouped(name: str, data: ImageSet, before: Groups, after: Groups, epochs: int, lr: float) -> Task:
    """Feature-level: each superclass has other subclasses in the target than in the source, as in Living-17."""
    source = Source(
        data=f"{name}/{RECIPE}",
        load=lambda root: regroup(data.source_pool(root), before),
        epochs=epochs,
        lr=lr,
        holdout=lambda root: regroup(data.holdout_pool(root), before),
    )
    task = _task(name, data, "feature", relabel=lambda split: regroup(split, after))
    return replace(task, classes=len(before), source=source)


def paired(
    name: str,
    data: ImageSet,
    corruption: str,
    source_pairs: int,
    originals: tuple[int, int],
    counts: tuple[int, int, int],
    epochs: int,
    lr: float,
) -> Task:
    """Input-level: 100 classes of two corrupted images side by side.

    ``counts`` are the tuning, validation and test pairs per class. The originals of each class are split before they
    are paired, into ``originals`` for tuning and validation and the rest for the test, so the splits share no original.
    """

    def source_set(pool: Callable[[Path], Split], per_class: int) -> Callable[[Path], Split]:
        return lambda root: pairs(pool(root), per_class, generator(0, "pairs", name))

    def splits(root: Path, variant: str, seed: int) -> Splits:
        target, draw = data.read(variant, root), generator(seed, "splits", name)
        pools = cut(target.labels, originals, draw)
        return Splits(*(pairs(take(target, pool), n, draw) for pool, n in zip(pools, counts, strict=True)))

    channels, height, width = data.shape
    return replace(
        _task(name, data, "input", variants=(corruption,)),
        classes=100,
        input_shape=(channels, height, 2 * width),
        source=Source(
            data=f"{name}/{RECIPE}",
            load=source_set(data.source_pool, source_pairs),
            epochs=epochs,
            lr=lr,
            holdout=source_set(data.holdout_pool, counts[1]),
        ),
        splits=splits,
    )


def _task(
    name: str,
    data: ImageSet,
    shift: str,
    variants: tuple[str, ...] = ("",),
    relabel: Callable[[Split], Split] = lambda split: split,
) -> Task:
    def splits(root: Path, variant: str, seed: int) -> Splits:
        target = relabel(data.read(variant or "target", root))
        parts = cut(target.labels, data.counts, generator(seed, "splits", name))
        return Splits(*(take(target, part) for part in parts))

    return Task(
        name=name,
        model=data.model,
        classes=10,
        input_shape=data.shape,
        source=data.source(),
        splits=splits,
        prepare=data.prepare,
        fingerprint=lambda root: data.fingerprint([variant or "target" for variant in variants], root),
        variants=variants,
        shift=shift,
    )
