"""Corruptions of light, shape and storage (make_imagenet_c.py and make_cifar_c.py of arXiv:1903.12261)."""

import io

import numpy as np
import torch
from PIL import Image

from lmsa_bench.tasks.corruptions import filters
from lmsa_bench.tasks.corruptions.draws import uniform
from lmsa_bench.tasks.corruptions.pixels import Levels, from_hsv, hsv, in_colour, luma, to_bytes


def brightness(x: Levels, added: float, generator: torch.Generator) -> Levels:
    """Adds to the value of HSV, which is the largest channel, at the same hue and saturation."""
    hue, saturation, value = hsv(in_colour(x))
    return from_hsv(hue, saturation, np.clip(value + added, 0, 1))[: len(x)]


def contrast(x: Levels, factor: float, generator: torch.Generator) -> Levels:
    """Pulls each value towards the mean of its image and channel, to that fraction of its distance."""
    # Values that end in a half are common here, so the sums' order shows: NumPy's is that of the published sets.
    if x.dtype == np.float64:
        mean = np.ascontiguousarray(np.moveaxis(x, 0, 2)).mean(axis=(0, 1))[:, None, None]
    else:
        mean = torch.from_numpy(x).mean(dim=(1, 2), keepdim=True).numpy()
    pulled: Levels = (x - mean) * factor + mean
    return pulled


def saturate(x: Levels, change: tuple[float, float], generator: torch.Generator) -> Levels:
    """Multiplies the saturation of HSV by a factor and adds to it, which makes grey red and an image of grey darker."""
    factor, added = change
    hue, saturation, value = hsv(in_colour(x))
    changed = from_hsv(hue, np.clip(saturation * factor + added, 0, 1), value)
    return luma(changed) if len(x) == 1 else changed


def elastic_transform(x: Levels, stretch: tuple[float, float, float], generator: torch.Generator) -> Levels:
    """Moves three points by up to `jitter` pixels and the image with them, then each pixel by its own distance.

    Those distances are uniform in [-1, 1], blurred with a Gaussian of that deviation in pixels, times `distance`.
    """
    distance, deviation, jitter = stretch
    _, height, width = x.shape
    centre, reach = np.array([height // 2, width // 2]), min(height, width) // 3
    before = centre + reach * np.array([[1, 1], [-1, 1], [-1, -1]])  # row and column
    after = before + uniform(-jitter, jitter, (3, 2), generator)[:, ::-1]
    # Where a pixel of the new image comes from: the affine map that takes the points back.
    back = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)
    grid = np.indices((height, width)).astype(np.float64)
    places = np.tensordot(back[:2].T, grid, 1) + back[2][:, None, None]
    x = filters.sample(x.astype(np.float32), places, "mirror")
    right, down = (uniform(-1, 1, (height, width), generator) for _ in range(2))
    moves = distance * np.stack([filters.gaussian(move, deviation, "reflect", 3) for move in (down, right)])
    return filters.sample(x, grid + moves.astype(np.float32), "reflect")


def pixelate(x: Levels, scale: float, generator: torch.Generator) -> Levels:
    """Shrinks with a box filter to that fraction of height and width, and enlarges again."""
    whole = _picture(x)
    small = (max(1, int(whole.width * scale)), max(1, int(whole.height * scale)))
    shrunk = whole.resize(small, Image.Resampling.BOX)
    return _levels(shrunk.resize(whole.size, Image.Resampling.BOX), x)


def jpeg_compression(x: Levels, quality: float, generator: torch.Generator) -> Levels:
    """Writes and reads the image as JPEG of that quality."""
    file = io.BytesIO()
    _picture(x).save(file, "JPEG", quality=int(quality))
    return _levels(Image.open(file), x)


def _picture(x: Levels) -> Image.Image:
    image = to_bytes(x, "nearest")
    return Image.fromarray(image[0] if len(x) == 1 else np.moveaxis(image, 0, 2))


def _levels(picture: Image.Image, like: Levels) -> Levels:
    levels = np.asarray(picture, like.dtype) / 255
    return levels[None] if len(like) == 1 else np.moveaxis(levels, 2, 0)
