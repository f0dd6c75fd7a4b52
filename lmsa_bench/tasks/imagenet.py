"""The tasks on ImageNet's validation images after published corruptions, and on Living-17's classes of ImageNet.

ImageNet-C and ImageNet-3DCC: of one corruption's 50 images a class, a seed tunes on 5, validates on 10 and tests on the
rest. Living-17: of the target subclasses' training images, 50 a class tune and 10 validate; their 1,700 validation
images test.
"""

import csv
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.models import weights
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import arrow, folders, shifts
from lmsa_bench.tasks.cifar import LP_FT, Count, Severity
from lmsa_bench.tasks.published import (
    COMMON15,
    COMMON19,
    CORRUPTIONS_3D,
    IMAGENET,
    IMAGENET_3DCC,
    IMAGENET_C,
    DataSet,
)
from lmsa_bench.tasks.task import Source, Split, Splits, Task, Variants, to_unit, view

RECIPE = 1  # raised whenever a prepared file or a source's training set would be another one
SIZE = 224
CLASSES = 1000
PER_CLASS = 50  # images of ImageNet's validation set, and so of each corruption
HOLDOUT_PER_CLASS = 10  # of the validation images that a source model's accuracy is measured on
COUNTS = (5, 10)  # tuning and validation images a class of a corruption
LIVING_COUNTS = (50, 10)
LIVING17 = Path(__file__).with_name("living17.csv")


@cache
def wnids() -> dict[str, int]:
    """ImageNet's class folders and their labels."""
    from timm.data.imagenet_info import ImageNetInfo  # here: it takes seconds

    return {name: label for label, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}


@cache
def subclasses(side: str) -> dict[str, int]:
    """The class folders of Living-17's source or target subclasses, and their superclass of 17 as label."""
    with open(LIVING17, newline="", encoding="utf-8") as file:
        return {row["wnid"]: int(row["label"]) for row in csv.DictReader(file) if row["split"] == side}


def prepare_corrupted(data: DataSet, root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
    """Writes these corruptions of ImageNet's validation images as Arrow files, unless they are there."""
    for name in corruptions:
        path, recipe = _corrupted(data, root, name, severity), f"{data.name} {RECIPE}"
        if not arrow.is_current(path, recipe):
            folder = data.find(root, name) / str(severity)
            files = folders.items(folder, wnids(), PER_CLASS, exact=True)
            whole = verify and data.was_verified(root, name)
            folders.write(path, files, folders.as_it_is, SIZE, arrow.marked(recipe, whole))


def prepare_living17(root: Path, verify: bool = True, sides: Sequence[str] = ("source", "target")) -> None:
    """Writes Living-17's training and validation images, of these subclasses, as Arrow files, unless they are there."""
    for side in sides:
        for part in ("train", "val"):
            _prepare_part(root, part, _living(root, side, part), f"living17 {RECIPE}", subclasses(side), None)


def prepare_holdout(root: Path) -> None:
    """Writes the validation images that source models of all 1000 classes are measured on."""
    _prepare_part(root, "val", _holdout(root), f"imagenet {RECIPE}", wnids(), HOLDOUT_PER_CLASS)


def imagenet_c(
    corruptions: Annotated[list[str], Variants] = list(COMMON15),  # noqa: B006 - a schema's default is never changed
    severity: Severity = 5,
    test_per_class: Count | None = None,
    model: str = "resnet50",
) -> Task:
    """ImageNet's validation images after one published corruption at a time, 1000 classes."""
    return _corruptions("imagenet_c", IMAGENET_C, COMMON19, corruptions, severity, test_per_class, model)


def imagenet_3dcc(
    corruptions: Annotated[list[str], Variants] = list(CORRUPTIONS_3D),  # noqa: B006 - as above
    severity: Severity = 5,
    test_per_class: Count | None = None,
    model: str = "resnet50",
) -> Task:
    """The same with corruptions that know the scene's depth (Kar et al., arXiv:2203.01441)."""
    return _corruptions("imagenet_3dcc", IMAGENET_3DCC, CORRUPTIONS_3D, corruptions, severity, test_per_class, model)


def living17(test_per_class: Count | None = None, model: str = "resnet50", source_epochs: Count = 30) -> Task:
    """17 superclasses of animals, of which the source model knows other subclasses than the target's."""

    def splits(root: Path, variant: str, seed: int) -> Splits:
        pool, test = (arrow.read(_living(root, "target", part)) for part in ("train", "val"))
        train, val, _ = shifts.cut(pool.labels, LIVING_COUNTS, generator(seed, "splits", "living17"))
        draw = generator(seed, "test", "living17")
        kept = shifts.at_most(test.labels, torch.arange(len(test)), test_per_class, draw)
        return Splits(view(pool, train), view(pool, val), view(test, kept))

    source = Source(
        data=f"living17/{RECIPE}",
        load=lambda root: arrow.read(_living(root, "source", "train")),
        epochs=source_epochs,
        lr=1e-3,
        holdout=lambda root: _where_there(_living(root, "source", "val")),
        transform=_input(model),
        weights=weights.default(model),
        stages=LP_FT,
        prepare=partial(prepare_living17, sides=("source",)),
        fingerprint=lambda root: arrow.identity([_living(root, "source", "train")]),
        needs={"imagenet": ()},
    )
    return Task(
        name="living17",
        model=model,
        classes=len(set(subclasses("target").values())),
        input_shape=(3, SIZE, SIZE),
        source=source,
        splits=splits,
        prepare=partial(prepare_living17, sides=("target",)),
        fingerprint=lambda root: arrow.identity([_living(root, "target", part) for part in ("train", "val")]),
        transform=_input(model),
        needs={"imagenet": ()},
        tuning=len(set(subclasses("target").values())) * LIVING_COUNTS[0],
        shift="feature",
    )


def _corruptions(
    name: str,
    data: DataSet,
    known: Sequence[str],
    corruptions: Sequence[str],
    severity: int,
    test_per_class: int | None,
    model: str,
) -> Task:
    for corruption in corruptions:
        if corruption not in known:
            raise UserError(f"{name} has no corruption {corruption!r}: {nearest(corruption, known)}")

    def splits(root: Path, variant: str, seed: int) -> Splits:
        # Sorted by class and file name, every corruption has the same base images in the same rows.
        images = arrow.read(_corrupted(data, root, variant, severity))
        train, val, test = shifts.cut(images.labels, COUNTS, generator(seed, "splits", name))
        test = shifts.at_most(images.labels, test, test_per_class, generator(seed, "test", name))
        return Splits(*(view(images, part) for part in (train, val, test)))

    return Task(
        name=name,
        model=model,
        classes=CLASSES,
        input_shape=(3, SIZE, SIZE),
        source=Source(
            data="imagenet",
            load=None,
            epochs=0,
            lr=0.0,
            holdout=lambda root: _where_there(_holdout(root)),
            transform=_input(model),
            weights=weights.default(model),
            accuracy=weights.PUBLISHED[model].accuracy if model in weights.PUBLISHED else None,
        ),
        splits=splits,
        prepare=lambda root: prepare_corrupted(data, root, True, corruptions, severity),
        fingerprint=lambda root: arrow.identity([_corrupted(data, root, each, severity) for each in corruptions]),
        variants=tuple(corruptions),
        transform=_input(model),
        needs={data.name: tuple(corruptions)},
        tuning=CLASSES * COUNTS[0],
        shift="input",
    )


def _prepare_part(
    root: Path, part: str, path: Path, recipe: str, labels: dict[str, int], per_class: int | None
) -> None:
    if not arrow.is_current(path, recipe):
        files = folders.items(IMAGENET.find(root, part), labels, per_class)
        folders.write(path, files, folders.central, SIZE, arrow.marked(recipe, False))  # no checksums are published


def _input(model: str) -> Callable[[Tensor], Tensor]:
    standardise = weights.normalised(model)
    return lambda images: standardise(to_unit(images))


def _where_there(path: Path) -> Split | None:
    return arrow.read(path) if path.exists() else None


def _corrupted(data: DataSet, root: Path, name: str, severity: int) -> Path:
    return root / data.name / f"{name}-{severity}.arrow"


def _living(root: Path, side: str, part: str) -> Path:
    return root / "living17" / f"{side}-{part}.arrow"


def _holdout(root: Path) -> Path:
    return root / "imagenet" / "holdout.arrow"
