"""Corruptions that blur (make_imagenet_c.py and make_cifar_c.py of arXiv:1903.12261)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from lmsa_bench.tasks.corruptions import filters
from lmsa_bench.tasks.corruptions.draws import integers, uniform
from lmsa_bench.tasks.corruptions.pixels import Levels, to_bytes


def gaussian_blur(x: Levels, deviation: float, generator: torch.Generator) -> Levels:
    """Blurs with a Gaussian of that deviation in pixels."""
    return filters.gaussian(x, deviation)


def defocus_blur(x: Levels, lens: tuple[float, float], generator: torch.Generator) -> Levels:
    """Blurs with a disk of that radius, its edge smoothed by a Gaussian of that deviation, both in pixels."""
    from scipy import ndimage  # here: only a preparation needs it, and it is slow to import

    blurred: Levels = ndimage.correlate(x, disk(*lens)[None], mode="mirror")
    return blurred


def disk(radius: float, deviation: float) -> NDArray[np.float32]:
    """The kernel of a lens out of focus: a disk of sum 1, then blurred with a Gaussian of that deviation.

    The grid ends at 8 pixels from the middle, or at the radius where that is larger, and is mirrored there. What the
    Gaussian takes beyond comes back, so a disk that fills its grid gets a larger sum: 1.0130 at radius 8.
    """
    reach, taps = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    grid = np.arange(-reach, reach + 1)
    kernel = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float32)
    kernel /= kernel.sum()
    bell = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * deviation**2))
    bell = (bell / bell.sum()).astype(np.float32)[taps:]
    for _ in range(2):  # rows, then columns, in the order of OpenCV's sums: cutting to bytes shows their last bit
        wide = np.pad(kernel, ((0, 0), (taps, taps)), mode="reflect")
        near = np.lib.stride_tricks.sliding_window_view(wide, 2 * taps + 1, axis=1)
        kernel = bell[0] * near[..., taps]
        for i in range(1, taps + 1):
            kernel = kernel + bell[i] * (near[..., taps - i] + near[..., taps + i])
        kernel = kernel.T
    return kernel


def glass_blur(x: Levels, glass: tuple[float, float, float], generator: torch.Generator) -> Levels:
    """Blurs, moves pixels by up to `reach` rows and columns in that many rounds, and blurs again.

    The published scripts mean to swap two pixels and copy one over the other, since a pixel of theirs is a view.
    """
    deviation, reach, rounds = glass[0], int(glass[1]), int(glass[2])
    channels, height, width = x.shape
    # The pixels in the order of the scripts: from the last row and column up, but for a border.
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    targets = np.tile((rows[:, None] * width + columns).flatten(), rounds)
    moves = integers(-reach, reach, (len(targets), 2), generator)  # right and down
    source = list(range(height * width))
    for target, origin in zip(targets.tolist(), (targets + moves @ [1, width]).tolist(), strict=True):
        source[target] = source[origin]
    blurred = to_bytes(filters.gaussian(x, deviation), "published").astype(x.dtype) / 255
    return filters.gaussian(blurred.reshape(channels, -1)[:, source].reshape(x.shape), deviation)


def motion_blur(x: Levels, motion: tuple[float, float], generator: torch.Generator) -> Levels:
    """Blurs along a line at up to 45 degrees from the horizontal, with half a Gaussian of that radius and deviation."""
    radius, deviation = motion
    return filters.motion(x, radius, deviation, uniform(-45, 45, (), generator).item())


def zoom_blur(x: Levels, zoom: tuple[float, float], generator: torch.Generator) -> Levels:
    """The mean of the image and of its enlargements by 1 to `stop`, in steps."""
    stop, step = zoom
    x = x.astype(np.float32)  # as in the scripts
    factors = np.arange(1, stop, step)
    total = np.zeros_like(x)
    for factor in factors.tolist():
        total += filters.zoomed(x, factor)
    return (x + total) / (len(factors) + 1)
