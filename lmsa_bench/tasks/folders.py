"""Writes class folders of images, the layout of ImageNet and its corrupted copies, to one Arrow file."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lmsa_bench.download import bar
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.models import weights
from lmsa_bench.tasks import arrow
from lmsa_bench.tasks.task import to_unit

FORMATS = ("JPEG", "PNG")  # those of ImageNet; pillow opens others, such as EPS, with external programs
MAX_PIXELS = 1 << 26  # of a resized image
BATCH = 256  # images that are decoded before they are written

Item = tuple[Path, int]  # an image file and its label
Cut = Callable[[Image.Image, int], Image.Image]


def input_of(model: str) -> Callable[[Tensor], Tensor]:
    """What such images, uint8 (K, 3, H, W), become as the input of a model."""
    standardise = weights.normalised(model)
    return lambda images: standardise(to_unit(images))


def items(folder: Path, labels: dict[str, int], per_class: int | None = None, exact: bool = False) -> list[Item]:
    """The image files in these class folders, sorted by class and file name, at most ``per_class`` of each.

    Raises UserError if a class folder is missing or empty, or with ``exact`` if it does not have ``per_class`` images.
    """
    files: list[Item] = []
    for name, label in labels.items():
        try:
            paths = sorted(path for path in (folder / name).iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise UserError(f"{folder / name}: the class folder cannot be read ({error.strerror})") from None
        if not paths or (exact and len(paths) != per_class):
            expected = per_class if exact else "at least 1"
            raise UserError(f"{folder / name}: has {len(paths)} images, expected {expected}")
        files += [(path, label) for path in paths[:per_class]]
    return files


def as_is(image: Image.Image, size: int) -> Image.Image:
    """The image itself; raises ValueError if it is not size x size pixels, before it is decoded."""
    if image.size != (size, size):
        raise ValueError(f"it is {image.width}x{image.height}, expected {size}x{size}")
    return image


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Resizes the shorter side to 8/7 of ``size`` (256 for 224), then crops the central square of ``size``."""
    short = size * 256 // 224
    width, height = (short * side // min(image.size) for side in image.size)
    if width * height > MAX_PIXELS:
        raise ValueError(f"it is {image.width}x{image.height}, too elongated to resize")
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def write(path: Path, files: Sequence[Item], cut: Cut, size: int, recipe: str) -> None:
    """Decodes images to (n, 3, size, size) uint8 and writes them to an Arrow file; raises UserError."""

    def decoded(item: Item) -> np.ndarray:
        try:
            with Image.open(item[0], formats=FORMATS) as image:
                return np.asarray(cut(image, size).convert("RGB")).transpose(2, 0, 1)
        except Exception as error:  # noqa: BLE001 - a damaged image can raise anything
            raise UserError(f"{item[0]}: not a usable image ({one_line(error)})") from None

    # Decoded pixels go to a temporary file, as a data set can be larger than memory.
    scratch = path.with_name(f".{path.name}.pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(files), 3, size, size))
        with ThreadPoolExecutor() as pool, bar(path.name, len(files), of_bytes=False) as advance:
            for first in range(0, len(files), BATCH):
                part = files[first : first + BATCH]
                for row, image in enumerate(pool.map(decoded, part), first):
                    pixels[row] = image
                advance(len(part))
        arrow.write(path, torch.from_numpy(pixels), torch.tensor([label for _, label in files]), recipe)
    except OSError as error:
        raise UserError(f"cannot write {scratch}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)
