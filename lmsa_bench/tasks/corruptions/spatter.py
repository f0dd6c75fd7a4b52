"""Drops of water or mud on the lens (make_imagenet_c.py and make_cifar_c.py of arXiv:1903.12261)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from lmsa_bench.tasks.corruptions import filters
from lmsa_bench.tasks.corruptions.draws import normal
from lmsa_bench.tasks.corruptions.pixels import Levels, luma

WATER, MUD = (175, 238, 238), (63, 42, 20)  # red, green, blue: pale turquoise and brown
KNIGHT, DIAGONAL = 2.1969, 1.4  # OpenCV's lengths of a move to (1, 2) and to (1, 1)


def spatter(x: Levels, drops: tuple[float, ...], generator: torch.Generator) -> Levels:
    """Adds water or covers with mud where normal noise of that mean and deviation, blurred, is above a threshold.

    The last two numbers are of water its opacity and 0, of mud the deviation of a second blur and 1.
    """
    mean, deviation, blur, threshold, last, is_mud = drops
    x = x.astype(np.float32)
    liquid = filters.gaussian(normal(x.shape[1:], generator) * deviation + mean, blur)
    colour: Levels = np.array(MUD if is_mud else WATER).reshape(3, 1, 1) / 255
    if len(x) == 1:
        colour = luma(colour)
    if is_mud:
        cover = filters.gaussian((liquid > threshold).astype(np.float32), last)
        cover[cover < 0.8] = 0
        return x * (1 - cover) + colour * cover
    return x + last * light(np.where(liquid < threshold, 0, liquid)) * colour


def light(liquid: Levels) -> Levels:
    """How much light drops reflect (H, W), 1 where most: the deeper the more, and lit from one side at their edges."""
    from scipy import ndimage  # here and below: only a preparation needs it, and it is slow to import

    depth = (liquid * 255).astype(np.int64) % 256
    away = ndimage.uniform_filter(distance(edges(depth, 50, 150), 20), 3, mode="mirror")
    relief = ndimage.correlate(
        equalised(away.astype(np.int64)), np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror"
    )
    shine: Levels = depth * np.rint(ndimage.uniform_filter(np.clip(relief, 0, 255).astype(float), 3, mode="mirror"))
    shine /= max(shine.max(), 1)
    return shine


def edges(x: NDArray[np.int64], low: float, high: float) -> NDArray[np.bool_]:
    """Canny's edges of bytes (H, W): ridges of the gradient's absolute sum above `low` that touch one above `high`."""
    from scipy import ndimage

    down, right = ndimage.sobel(x, 0, mode="nearest"), ndimage.sobel(x, 1, mode="nearest")
    size = np.abs(down) + np.abs(right)
    height, width = x.shape
    around = np.pad(size, 1)

    def beside(rows: int, columns: int) -> NDArray[np.int64]:
        return around[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    # A ridge is higher than both its neighbours along the gradient, in the nearest of four directions.
    level, steep = np.abs(right) * math.tan(math.pi / 8), np.abs(right) / math.tan(math.pi / 8)
    ridge = np.select(
        [np.abs(down) < level, np.abs(down) > steep, down * right >= 0],
        [
            (size > beside(0, -1)) & (size >= beside(0, 1)),
            (size > beside(-1, 0)) & (size >= beside(1, 0)),
            (size > beside(-1, -1)) & (size > beside(1, 1)),
        ],
        (size > beside(-1, 1)) & (size > beside(1, -1)),
    )
    parts, _ = ndimage.label(ridge & (size > low), np.ones((3, 3)))
    strong = np.unique(parts[ridge & (size > high)])
    return np.isin(parts, strong[strong > 0])


def distance(marks: NDArray[np.bool_], most: int) -> Levels:
    """How far each pixel (H, W) is from the nearest mark, at most `most`, by a chess piece's moves.

    Euclid's distance is within 2 % of it, of which the steps that follow would make up to 90 levels.
    """
    from scipy import ndimage

    quarter = np.array([[np.nan, KNIGHT, np.nan], [KNIGHT, DIAGONAL, 1], [np.nan, 1, 0]])
    half = np.hstack([quarter, quarter[:, 1::-1]])
    moves = np.vstack([half, half[1::-1]])
    away: Levels = np.where(marks, 0, most).astype(np.float32)
    for _ in range(most):
        away = ndimage.grey_erosion(away, footprint=~np.isnan(moves), structure=-moves)
    return away


def equalised(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes (H, W) after a change that makes each range of them as frequent; those of one value stay as they are."""
    counts = np.bincount(x.flatten(), minlength=256)
    first = counts[x.min()]
    if first == x.size:
        return x
    table: NDArray[np.int64] = np.rint((counts.cumsum() - first) * (255 / (x.size - first))).astype(np.int64)
    return table[x]
