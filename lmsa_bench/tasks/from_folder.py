"""A task of one's own from two folders of images: those before the shift and those after it."""

import hashlib
from functools import partial
from pathlib import Path

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.models import weights
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import arrow, folders, shifts
from lmsa_bench.tasks.cifar import LP_FT
from lmsa_bench.tasks.task import Source, Split, Splits, Task, view

RECIPE = 1  # increased whenever a prepared file's content changes
SIDES = ("before", "after")


def folder_task(
    name: str,
    folder: str | Path,
    model: str = "wrn_16_1",
    size: int = 32,
    counts: tuple[int, int] = (50, 10),
    epochs: int = 10,
    lr: float = 3e-3,
    shift: str = "",
) -> Task:
    """A task from FOLDER/before/CLASS and FOLDER/after/CLASS, folders of JPEG or PNG images, cut to ``size`` pixels.

    The source model learns ``before``, a tenth of which is held out: from random weights, or from the model's published
    ones by linear probing and fine-tuning. A seed draws ``counts`` tuning and validation images per class of ``after``;
    the others are the test images. Raises UserError where the folders do not have the same classes.
    """
    folder = Path(folder).expanduser().absolute()
    labels = _labels(folder)

    def path(root: Path, side: str) -> Path:
        return root / name / f"{side}.arrow"

    def prepare(side: str, root: Path) -> None:
        files = folders.items(folder / side, labels)
        stats = [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file, _ in files]
        recipe = hashlib.sha256(repr((RECIPE, size, stats)).encode()).hexdigest()
        if not arrow.is_current(path(root, side), recipe):
            folders.write(path(root, side), files, folders.center_crop, size, recipe)

    def before(held_out: bool, root: Path) -> Split:
        images = arrow.read(path(root, "before"))
        fewest = int(images.labels.bincount().min())
        holdout, rest = shifts.cut(images.labels, (max(1, fewest // 10),), generator(0, "holdout", name))
        return view(images, holdout if held_out else rest)

    def splits(root: Path, variant: str, seed: int) -> Splits:
        images = arrow.read(path(root, "after"))
        return Splits(
            *(view(images, part) for part in shifts.cut(images.labels, counts, generator(seed, "splits", name)))
        )

    source = Source(
        data=f"{name}/{RECIPE}",
        load=partial(before, False),
        epochs=epochs,
        lr=lr,
        holdout=partial(before, True),
        transform=folders.input_of(model),
        weights=weights.default(model),
        stages=LP_FT if weights.default(model) == "hub" else (),
        prepare=partial(prepare, "before"),
        fingerprint=lambda root: arrow.identity([path(root, "before")]),
    )
    return Task(
        name=name,
        model=model,
        classes=len(labels),
        input_shape=(3, size, size),
        source=source,
        splits=splits,
        prepare=partial(prepare, "after"),
        fingerprint=lambda root: arrow.identity([path(root, "after")]),
        transform=folders.input_of(model),
        tuning=len(labels) * counts[0],
        shift=shift,
    )


def _labels(folder: Path) -> dict[str, int]:
    """The class folders, in alphabetical order, with their labels; raises UserError."""
    found = {}
    for side in SIDES:
        if not (folder / side).is_dir():
            raise UserError(f"{folder / side}: there is no such folder; put a folder of images for each class there")
        found[side] = sorted(path.name for path in (folder / side).iterdir() if path.is_dir())
    before, after = found.values()
    if len(before) < 2:
        raise UserError(f"{folder / 'before'}: has {len(before)} class folders, expected at least 2")
    for missing in set(before) ^ set(after):
        side = "after" if missing in before else "before"
        raise UserError(
            f"{folder / side}: has no folder {missing!r}, which the other side has: {nearest(missing, found[side])}"
        )
    return {name: label for label, name in enumerate(before)}
