"""Corruptions of the weather (make_imagenet_c.py and make_cifar_c.py of arXiv:1903.12261)."""

import numpy as np
import torch

from lmsa_bench.tasks.corruptions import filters
from lmsa_bench.tasks.corruptions.draws import normal, uniform
from lmsa_bench.tasks.corruptions.pixels import Levels, luma, to_bytes


def snow(x: Levels, flakes: tuple[float, ...], generator: torch.Generator) -> Levels:
    """Adds flakes that fall, and the same turned by 180 degrees, to an image that is made paler.

    Flakes are what lies above a threshold in normal noise of that mean and deviation, enlarged, then blurred along a
    steep line by half a Gaussian of that radius and length; `kept` is the part of the image that is not made paler.
    """
    mean, deviation, zoom, threshold, radius, length, kept = flakes
    x = x.astype(np.float32)
    noise = filters.zoomed(normal((1, *x.shape[1:]), generator) * deviation + mean, zoom)
    layer = _in_bytes(np.where(noise < threshold, 0, noise))
    layer = _in_bytes(filters.motion(layer, radius, length, uniform(-135, -45, (), generator).item()))
    pale: Levels = kept * x + (1 - kept) * np.maximum(x, luma(x) * 1.5 + 0.5)
    return pale + layer + layer[:, ::-1, ::-1]


def fog(x: Levels, haze: tuple[float, float], generator: torch.Generator) -> Levels:
    """Adds a fractal of that thickness, and scales back to the image's brightest value."""
    thickness, decay = haze
    _, height, width = x.shape
    brightest = x.max()
    hazy = x + thickness * plasma(max(height, width), decay, generator)[:height, :width]
    scaled: Levels = hazy * brightest / (brightest + thickness)
    return scaled


def frost(x: Levels, ice: tuple[float, float, float], generator: torch.Generator) -> Levels:
    """That part of the image and that part of a frozen pane, of which it shows every `stride`-th pixel.

    The pane is our own drawing: the published scripts cut theirs out of photographs that are not part of this package.
    It has their mean, spread, colours and grain, measured over crops of 224 pixels, but not their shapes.
    """
    kept, weight, stride = ice[0], ice[1], int(ice[2])
    _, height, width = x.shape
    shown = pane(max(height, width) * stride, generator)[:, ::stride, ::stride][:, :height, :width]
    mixed: Levels = kept * x + weight * (luma(shown) if len(x) == 1 else shown)
    return mixed


def pane(side: int, generator: torch.Generator) -> Levels:
    """A frozen pane (3, n, n): clouds, and needles of ice in three directions; blue where dark, white where light."""
    margin = 10  # where needles meet the border
    whole = side + 2 * margin
    clouds = plasma(whole, 1.2, generator)[:whole, :whole]
    needles = np.zeros((1, whole, whole), np.float32)
    for angle in uniform(0, 360, (3,), generator).tolist():
        seeds = uniform(0, 1, needles.shape, generator) < 0.1
        needles += filters.motion(seeds.astype(np.float32), 10, 5, angle)
    grain = _standard(_standard(clouds) + _standard(filters.gaussian(needles, 0.5)))
    # In levels of 255. The published crops have a mean luma of 160 with deviation 38, and 24.7 within a crop.
    light = uniform(-66, 66, (), generator).item()
    colour = np.array([144, 165, 177]) + light * np.array([1.31, 0.92, 0.88])
    frozen = np.clip((colour[:, None, None] + 24.7 * grain) / 255, 0, 1)
    return frozen[:, margin : margin + side, margin : margin + side]


def plasma(side: int, decay: float, generator: torch.Generator) -> Levels:
    """A fractal (n, n) in [0, 1] by the diamond-square algorithm on a torus, n the next power of two from `side`.

    At each halving of the step the noise becomes smaller by the decay's square.
    """
    size = 1 << (side - 1).bit_length()
    heights = np.zeros((size, size))
    step, amplitude = size, 100.0

    def noisy(total: Levels) -> Levels:
        return total / 4 + amplitude * uniform(-amplitude, amplitude, total.shape, generator)

    while step > 1:
        half = step // 2
        corners, middles = heights[::step, ::step], heights[half::step, half::step]
        middles[:] = noisy(_with_next(_with_next(corners, 0), 1))
        heights[::step, half::step] = noisy(middles + np.roll(middles, 1, 0) + _with_next(corners, 1))
        heights[half::step, ::step] = noisy(middles + np.roll(middles, 1, 1) + _with_next(corners, 0))
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / (heights.max() or 1)


def _with_next(x: Levels, axis: int) -> Levels:
    total: Levels = x + np.roll(x, -1, axis)
    return total


def _standard(x: Levels) -> Levels:
    scaled: Levels = (x - x.mean()) / x.std()
    return scaled


def _in_bytes(x: Levels) -> Levels:
    return to_bytes(x, "published") / 255
