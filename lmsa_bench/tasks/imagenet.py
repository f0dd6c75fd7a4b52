"""The tasks on corrupted ImageNet validation images and on Living-17's ImageNet classes (paper, appendix A.2.1).

ImageNet-C and ImageNet-3DCC: a seed splits one corruption's 50 images per class into 5 tuning, 10 validation and 35
test images. Living-17: a seed draws 50 tuning and 10 validation images per class from the target subclasses' training
images; their 1,700 validation images are the test set.
"""

import csv
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import torch

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
from lmsa_bench.tasks.task import Source, Split, Splits, Task, Variants, view

RECIPE = 1  # increased whenever the content of a prepared file or of a source's training set changes
SIZE = 224
CLASSES = 1000
PER_CLASS = 50  # images in ImageNet's validation set, and in each corruption of it
HOLDOUT_PER_CLASS = 10  # validation images on which a source model's accuracy is measured
COUNTS = (5, 10)  # tuning and validation images per class of a corruption
LIVING_COUNTS = (50, 10)
LIVING17 = Path(__file__).with_name("living17.csv")


@cache
def wnids() -> dict[str, int]:
    """ImageNet's class folders and their labels, 0 to 999."""
    from timm.data.imagenet_info import ImageNetInfo  # takes seconds to import

    return {name: label for label, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}


@cache
def subclasses(side: str) -> dict[str, int]:
    """The class folders of Living-17's "source" or "target" subclasses, and their superclasses, 0 to 16."""
    with open(LIVING17, newline="", encoding="utf-8") as file:
        return {row["wnid"]: int(row["label"]) for row in csv.DictReader(file) if row["split"] == side}


def prepare_corrupted(data: DataSet, root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
    """Writes these corruptions of ImageNet's validation images as Arrow files, unless they are current."""
    for name in corruptions:
        path, recipe = _corrupted(data, root, name, severity), f"{data.name} {RECIPE}"
        if not arrow.is_current(path, recipe):
            folder = data.find(root, name) / str(severity)
            files = folders.items(folder, wnids(), PER_CLASS, exact=True)
            verified = verify and data.was_verified(root, name)
            folders.write(path, files, folders.as_is, SIZE, arrow.marked(recipe, verified))


def prepare_living17(root: Path, verify: bool = True, sides: Sequence[str] = ("source", "target")) -> None:
    """Writes the training and validation images of Living-17's sides as Arrow files, unless they are current."""
    for side in sides:
        for part in ("train", "val"):
            _prepare_part(root, part, _living(root, side, part), f"living17 {RECIPE}", subclasses(side), None)


def prepare_holdout(root: Path) -> None:
    """Writes the validation images on which the accuracy of 1000-class source models is measured."""
    _prepare_part(root, "val", _holdout(root), f"imagenet {RECIPE}", wnids(), HOLDOUT_PER_CLASS)


def imagenet_c(
    corruptions: Annotated[list[str], Variants] = list(COMMON15),  # noqa: B006 - a default in a schema is never mutated
    severity: Severity = 5,
    test_per_class: Count | None = None,
    model: str = "resnet50",
) -> Task:
    """ImageNet's validation images with one published corruption per variant, 1000 classes."""
    return _corruptions("imagenet_c", IMAGENET_C, COMMON19, corruptions, severity, test_per_class, model)


def imagenet_3dcc(
    corruptions: Annotated[list[str], Variants] = list(CORRUPTIONS_3D),  # noqa: B006 - as above
    severity: Severity = 5,
    test_per_class: Count | None = None,
    model: str = "resnet50",
) -> Task:
    """The same with corruptions based on the scene's depth (Kar et al., arXiv:2203.01441)."""
    return _corruptions("imagenet_3dcc", IMAGENET_3DCC, CORRUPTIONS_3D, corruptions, severity, test_per_class, model)


def living17(test_per_class: Count | None = None, model: str = "resnet50", source_epochs: Count = 30) -> Task:
    """17 superclasses of animals; source and target have different subclasses of each (Santurkar et al., 2020)."""

    def splits(root: Path, variant: str, seed: int) -> Splits:
        pool, test = (arrow.read(_living(root, "target", part)) for part in ("train", "val"))
        train, val, _ = shifts.cut(pool.labels, LIVING_COUNTS, generator(seed, "splits", "living17"))
        draw = generator(seed, "test", "living17")
        tested = shifts.at_most(test.labels, torch.arange(len(test)), test_per_class, draw)
        return Splits(view(pool, train), view(pool, val), view(test, tested))

    source = Source(
        data=f"living17/{RECIPE}",
        load=lambda root: arrow.read(_living(root, "source", "train")),
        epochs=source_epochs,
        lr=1e-3,
        holdout=lambda root: _read_if_present(_living(root, "source", "val")),
        transform=folders.input_of(model),
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
        transform=folders.input_of(model),
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
        # Files are sorted by class and name, so every corruption has the same base image in the same row.
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
            holdout=lambda root: _read_if_present(_holdout(root)),
            transform=folders.input_of(model),
            weights=weights.default(model),
            accuracy=weights.PUBLISHED[model].accuracy if model in weights.PUBLISHED else None,
        ),
        splits=splits,
        prepare=lambda root: prepare_corrupted(data, root, True, corruptions, severity),
        fingerprint=lambda root: arrow.identity([_corrupted(data, root, each, severity) for each in corruptions]),
        variants=tuple(corruptions),
        transform=folders.input_of(model),
        needs={data.name: tuple(corruptions)},
        tuning=CLASSES * COUNTS[0],
        shift="input",
    )


def _prepare_part(
    root: Path, part: str, path: Path, recipe: str, labels: dict[str, int], per_class: int | None
) -> None:
    if not arrow.is_current(path, recipe):
        files = folders.items(IMAGENET.find(root, part), labels, per_class)
        folders.write(path, files, folders.center_crop, SIZE, arrow.marked(recipe, False))  # no checksums are published


def _read_if_present(path: Path) -> Split | None:
    return arrow.read(path) if path.exists() else None


def _corrupted(data: DataSet, root: Path, name: str, severity: int) -> Path:
    return root / data.name / f"{name}-{severity}.arrow"


def _living(root: Path, side: str, part: str) -> Path:
    return root / "living17" / f"{side}-{part}.arrow"


def _holdout(root: Path) -> Path:
    return root / "imagenet" / "holdout.arrow"
