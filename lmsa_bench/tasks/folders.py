"""Class folders of images, as ImageNet and its corrupted copies are published, into one Arrow file."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lmsa_bench.errors import UserError, one_line
from lmsa_bench.tasks import arrow

FORMATS = ("JPEG", "PNG")  # all that ImageNet has; pillow hands others, such as EPS, to other programs
MOST_PIXELS = 1 << 26  # of a resized image
BATCH = 256  # images that are decoded before any is written

Item = tuple[Path, int]  # an image file and its label
Cut = Callable[[Image.Image, int], Image.Image]


def items(folder: Path, labels: dict[str, int], per_class: int | None = None, exact: bool = False) -> list[Item]:
    """The image files of these class folders, class by class and sorted by name, the first ``per_class`` of each.

    Raises UserError where a class folder is missing or empty, or, where ``exact``, of any other number of images.
    """
    found = []
    for name, label in labels.items():
        try:
            paths = sorted(path for path in (folder / name).iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise UserError(f"{folder / name}: the class folder cannot be read ({error.strerror})") from None
        if not paths or (exact and len(paths) != per_class):
            raise UserError(f"{folder / name}: has {len(paths)} images, expected {per_class if exact else 'some'}")
        found += [(path, label) for path in paths[:per_class]]
    return found


def as_it_is(image: Image.Image, size: int) -> Image.Image:
    """The image, which has that many pixels each way; raises ValueError where it has not, before it is decoded."""
    if image.size != (size, size):
        raise ValueError(f"it is {image.width}x{image.height}, expected {size}x{size}")
    return image


def central(image: Image.Image, size: int) -> Image.Image:
    """The shorter side to 8/7 of ``size`` (256 for 224), then the square of ``size`` in the middle."""
    short = size * 256 // 224
    width, height = (short * side // min(image.size) for side in image.size)
    if width * height > MOST_PIXELS:
        raise ValueError(f"it is {image.width}x{image.height}, too long for its other side")
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def write(path: Path, files: Sequence[Item], cut: Cut, size: int, recipe: str) -> None:
    """Decodes images to (n, 3, size, size) bytes on disk, then into one Arrow file; raises UserError."""

    def decoded(item: Item) -> np.ndarray:
        try:
            with Image.open(item[0], formats=FORMATS) as image:
                return np.asarray(cut(image, size).convert("RGB")).transpose(2, 0, 1)
        except Exception as error:  # noqa: BLE001 - a damaged image can raise anything
            raise UserError(f"{item[0]}: not an image that can be used ({one_line(error)})") from None

    # Decoded pixels go through a file, as a set can be larger than the memory.
    scratch = path.with_name(f".{path.name}.pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(files), 3, size, size))
        with ThreadPoolExecutor() as pool, tqdm(total=len(files), desc=path.name, unit="image", disable=None) as bar:
            for first in range(0, len(files), BATCH):
                part = files[first : first + BATCH]
                for row, image in enumerate(pool.map(decoded, part), first):
                    pixels[row] = image
                bar.update(len(part))
        arrow.write(path, torch.from_numpy(pixels), torch.tensor([label for _, label in files]), recipe)
    except OSError as error:
        raise UserError(f"cannot write {scratch}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)
