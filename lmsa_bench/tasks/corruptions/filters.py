"""The filters of several corruptions, as scikit-image, SciPy and ImageMagick have them; images are (C, H, W)."""

import math

import numpy as np

from lmsa_bench.tasks.corruptions.pixels import Levels


def gaussian(x: Levels, deviation: float, mode: str = "nearest", cut: float = 4) -> Levels:
    """Blurs rows and columns with a Gaussian of that deviation in pixels, cut off at that many of them.

    `mode` is SciPy's word for what is outside the image.
    """
    from scipy import ndimage  # here and below: only a preparation needs it, and it is slow to import

    deviations = (0, deviation, deviation)[-x.ndim :]
    blurred: Levels = ndimage.gaussian_filter(x, deviations, mode=mode, truncate=cut)
    return blurred


def motion(x: Levels, radius: float, deviation: float, angle: float) -> Levels:
    """Blurs with half a Gaussian over 2 * radius + 1 pixels, from each one on in the direction of an angle.

    The angle is in degrees, clockwise from the right. The border's pixels go on outside, and levels are rounded to 16
    bits, both as in ImageMagick.
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    # The nearest pixel to each step, where a half goes back.
    down, right = (np.ceil(steps * f(math.radians(angle)) - 0.5).astype(int) for f in (math.sin, math.cos))
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (len(steps), len(steps)), (len(steps), len(steps))), mode="edge")
    blurred = np.zeros_like(x)
    for weight, i, j in zip(weights / weights.sum(), down + len(steps), right + len(steps), strict=True):
        blurred += weight * padded[:, i : i + height, j : j + width]
    return np.rint(blurred * 65535) / 65535


def sample(x: Levels, places: Levels, mode: str) -> Levels:
    """The image at other rows and columns (2, H, W), bilinearly; `mode` is SciPy's word for what is outside."""
    from scipy import ndimage

    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode=mode) for channel in x])


def zoomed(x: Levels, factor: float) -> Levels:
    """Enlarges the middle of an image by that factor, bilinearly, to the image's size."""
    from scipy import ndimage

    sides = x.shape[1:]
    part = [math.ceil(side / factor) for side in sides]
    top, left = ((side - kept) // 2 for side, kept in zip(sides, part, strict=True))
    large: Levels = ndimage.zoom(x[:, top : top + part[0], left : left + part[1]], (1, factor, factor), order=1)
    top, left = ((now - side) // 2 for now, side in zip(large.shape[1:], sides, strict=True))
    return large[:, top : top + sides[0], left : left + sides[1]]
