"""The tasks on CIFAR-10, CIFAR-10-C and CIFAR-100 (paper, appendix A.2.1), from the published files.

CIFAR-10: a seed splits the 10,000 test images, or one corruption of them, into 100 tuning and 10 validation images per
class and a test set of the rest. CIFAR-100: a seed splits the 50,000 training images into 50 validation images per
class and tuning images; the test images are the test set.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.models import weights
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import arrow, shifts
from lmsa_bench.tasks.batches import SHAPE, read_batch, read_corrupted, stack
from lmsa_bench.tasks.published import CIFAR10, CIFAR10_C, CIFAR100, COMMON15, COMMON19
from lmsa_bench.tasks.task import Source, Split, Splits, Stage, Task, Variants, to_unit

RECIPE = 1  # increased whenever the content of a prepared file or of a source's training set changes
COUNTS = (100, 10)  # CIFAR-10's tuning and validation images per class
VAL_PER_CLASS = 50  # of CIFAR-100's training images
PROBE = Stage("head", 3, 1e-3)
LP_FT = (PROBE, Stage("all", 2, 1e-4))  # linear probing, then fine-tuning (paper, appendix A.2.3)
Count = Annotated[int, Gt(0)]
Severity = Annotated[int, Ge(1), Le(5)]


def prepare_cifar10(root: Path, verify: bool = True) -> None:
    """Writes CIFAR-10's training and test images as Arrow files, unless they are current; raises UserError."""
    parts = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
    for part, names in parts.items():
        path, recipe = root / "cifar10" / f"{part}.arrow", f"cifar10 {RECIPE}"
        if not arrow.is_current(path, recipe):
            files = [CIFAR10.checked(root, name, verify) for name in names]
            arrow.write(path, *stack([read_batch(file, "labels", 10) for file in files]), arrow.marked(recipe, verify))


def prepare_cifar100(root: Path, verify: bool = True) -> None:
    """Writes CIFAR-100's training and test images with fine labels, unless they are current; raises UserError."""
    for part in ("train", "test"):
        path, recipe = root / "cifar100" / f"{part}.arrow", f"cifar100 {RECIPE}"
        if not arrow.is_current(path, recipe):
            split = read_batch(CIFAR100.checked(root, part, verify), "fine_labels", 100)
            arrow.write(path, *split, arrow.marked(recipe, verify))


def prepare_cifar10_c(
    root: Path, verify: bool = True, corruptions: Sequence[str] = COMMON15, severity: int = 5
) -> None:
    """Writes corruptions of CIFAR-10-C at one severity, unless they are current; raises UserError."""
    for name in corruptions:
        path, recipe = _corrupted(root, name, severity), f"cifar10_c {RECIPE}"
        if not arrow.is_current(path, recipe):
            images, labels = (CIFAR10_C.checked(root, f"{file}.npy", verify) for file in (name, "labels"))
            arrow.write(path, *read_corrupted(images, labels, severity), arrow.marked(recipe, verify))


def cifar10_c(
    corruptions: Annotated[list[str], Variants] = list(COMMON15),  # noqa: B006 - a default in a schema is never mutated
    severity: Severity = 5,
    test_per_class: Count | None = None,
    model: str = "wrn_28_10",
    source_epochs: Count = 10,
) -> Task:
    """CIFAR-10's test images with one published corruption per variant; all variants are split alike."""
    for name in corruptions:
        if name not in COMMON19:
            raise UserError(f"CIFAR-10-C has no corruption {name!r}: {nearest(name, COMMON19)}")

    def splits(root: Path, variant: str, seed: int) -> Splits:
        return _cut(arrow.read(_corrupted(root, variant, severity)), "cifar10_c", seed, test_per_class)

    return Task(
        name="cifar10_c",
        model=model,
        classes=10,
        input_shape=SHAPE,
        source=_cifar10_source(model, source_epochs),
        splits=splits,
        prepare=partial(prepare_cifar10_c, corruptions=corruptions, severity=severity),
        fingerprint=lambda root: arrow.identity([_corrupted(root, name, severity) for name in corruptions]),
        variants=tuple(corruptions),
        transform=_input(model),
        needs={"cifar10_c": ("labels.npy", *(f"{name}.npy" for name in corruptions))},
        tuning=10 * COUNTS[0],
        shift="input",
    )


def cifar_flip(test_per_class: Count | None = None, model: str = "wrn_28_10", source_epochs: Count = 10) -> Task:
    """CIFAR-10's test images with label 9 - y, for a source model of its training images."""

    def splits(root: Path, variant: str, seed: int) -> Splits:
        return _cut(shifts.flip(arrow.read(_cifar10(root, "test")), 10), "cifar_flip", seed, test_per_class)

    return Task(
        name="cifar_flip",
        model=model,
        classes=10,
        input_shape=SHAPE,
        source=_cifar10_source(model, source_epochs),
        splits=splits,
        prepare=prepare_cifar10,
        fingerprint=lambda root: arrow.identity([_cifar10(root, "test")]),
        transform=_input(model),
        needs={"cifar10": ()},
        tuning=10 * COUNTS[0],
        shift="output",
    )


def cifar100(model: str = "deit_tiny", resolution: Count = 224) -> Task:
    """CIFAR-100 for an ImageNet model, with a new head from a linear probe on each seed's tuning images."""
    return _cifar100("cifar100", model, resolution, _probed(model), shift="input")


def cifar100_random(model: str = "deit_tiny", resolution: Count = 224) -> Task:
    """CIFAR-100 with random labels: the images' labels, shuffled by each seed (paper, figure 1, case 3)."""

    def shuffle(split: Split, part: str, seed: int) -> Split:
        return shifts.shuffle(split, generator(seed, "labels", "cifar100_random", part))

    return _cifar100("cifar100_random", model, resolution, _probed(model), shift="output", relabel=shuffle)


def cifar100_masked(model: str = "deit_tiny", resolution: Count = 224, source_epochs: Count = 10) -> Task:
    """CIFAR-100 with pixels in [0, 1] multiplied by a fixed mask e^z, z standard normal (paper, figure 1, case 2).

    The source model is trained on CIFAR-100 without the mask.
    """
    mask = torch.randn(SHAPE, generator=generator(0, "mask", "cifar100_masked")).exp()
    source = Source(
        data=f"cifar100/{RECIPE}",
        load=lambda root: arrow.read(_cifar100_part(root, "train")),
        epochs=source_epochs,
        lr=1e-3,
        holdout=lambda root: arrow.read(_cifar100_part(root, "test")),
        transform=_input(model, resolution),
        weights=weights.default(model),
        stages=LP_FT,
        prepare=prepare_cifar100,
        fingerprint=lambda root: arrow.identity([_cifar100_part(root, "train")]),
        needs={"cifar100": ()},
    )
    return _cifar100("cifar100_masked", model, resolution, source, shift="input", mask=mask)


def _cifar10(root: Path, part: str) -> Path:
    return root / "cifar10" / f"{part}.arrow"


def _cifar100_part(root: Path, part: str) -> Path:
    return root / "cifar100" / f"{part}.arrow"


def _corrupted(root: Path, name: str, severity: int) -> Path:
    return root / "cifar10_c" / f"{name}-{severity}.arrow"


def _cut(split: Split, name: str, seed: int, test_per_class: int | None) -> Splits:
    train, val, test = shifts.cut(split.labels, COUNTS, generator(seed, "splits", name))
    test = shifts.at_most(split.labels, test, test_per_class, generator(seed, "test", name))
    return Splits(*(shifts.take(split, part) for part in (train, val, test)))


def _input(model: str, resolution: int = SHAPE[1], mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    standardise = weights.normalised(model)

    def transform(images: Tensor) -> Tensor:
        x = to_unit(images)
        x = x if mask is None else x * mask.to(x.device)
        if x.shape[-1] != resolution:
            x = F.interpolate(x, size=(resolution, resolution), mode="bicubic", antialias=True)
        return standardise(x)

    return transform


def _cifar10_source(model: str, epochs: int) -> Source:
    def holdout(root: Path) -> Split | None:
        if not _cifar10(root, "test").exists() and CIFAR10.missing(root):
            return None
        prepare_cifar10(root)
        return arrow.read(_cifar10(root, "test"))

    return Source(
        data=f"cifar10/{RECIPE}",
        load=lambda root: arrow.read(_cifar10(root, "train")),
        epochs=epochs,
        lr=3e-3,
        holdout=holdout,
        transform=_input(model),
        weights=weights.default(model),
        accuracy=weights.PUBLISHED[model].accuracy if model in weights.PUBLISHED else None,
        prepare=prepare_cifar10,
        fingerprint=lambda root: arrow.identity([_cifar10(root, "train")]),
        needs={"cifar10": ()},
    )


def _probed(model: str) -> Source:
    return Source("imagenet", None, 0, 0.0, weights=weights.default(model), stages=(PROBE,), on_tuning=True)


def _cifar100(
    name: str,
    model: str,
    resolution: int,
    source: Source,
    shift: str,
    mask: Tensor | None = None,
    relabel: Callable[[Split, str, int], Split] = lambda split, part, seed: split,
) -> Task:
    def splits(root: Path, variant: str, seed: int) -> Splits:
        pool, test = (relabel(arrow.read(_cifar100_part(root, part)), part, seed) for part in ("train", "test"))
        val, train = shifts.cut(pool.labels, (VAL_PER_CLASS,), generator(seed, "splits", name))
        return Splits(shifts.take(pool, train), shifts.take(pool, val), test)

    return Task(
        name=name,
        model=model,
        classes=100,
        input_shape=(3, resolution, resolution),
        source=source,
        splits=splits,
        prepare=prepare_cifar100,
        fingerprint=lambda root: arrow.identity([_cifar100_part(root, part) for part in ("train", "test")]),
        transform=_input(model, resolution, mask),
        needs={"cifar100": ()},
        tuning=100 * (500 - VAL_PER_CLASS),
        shift=shift,
    )
