"""One image as an array (C, H, W) of one or three channels: its bytes, its levels and its colours."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]  # 0 to 255
Levels = NDArray[np.floating[Any]]  # 1 is white
Rounding = Literal["nearest", "published"]


def to_bytes(x: Levels, rounding: Rounding) -> Bytes:
    """Levels as bytes: the nearest one, or the one below, as in the published sets; what lies outside is clipped."""
    scaled = np.clip(x, 0, 1) * 255
    return (np.rint(scaled) if rounding == "nearest" else scaled).astype(np.uint8)


def in_colour(x: Levels) -> Levels:
    """The image in three channels, which are equal where it has one."""
    return np.repeat(x, 3, axis=0) if len(x) == 1 else x


def luma(x: Levels) -> Levels:
    """What an image looks like in grey (1, H, W), by the weights of ITU-R BT.601."""
    return np.tensordot(np.array([[0.299, 0.587, 0.114]], x.dtype), x, 1) if len(x) == 3 else x


def hsv(x: Levels) -> tuple[Levels, Levels, Levels]:
    """Hue in [0, 1), saturation and value (H, W) of an image of three channels; those of grey have hue 0."""
    red, green, blue = x
    value = x.max(axis=0)
    spread = value - x.min(axis=0)
    safe = np.where(spread == 0, 1, spread)
    sixths = np.select(
        [spread == 0, value == blue, value == green],
        [0, 4 + (red - green) / safe, 2 + (blue - red) / safe],
        (green - blue) / safe,
    )
    return sixths / 6 % 1, spread / np.where(spread == 0, 1, value), value


def from_hsv(hue: Levels, saturation: Levels, value: Levels) -> Levels:
    """The image (3, H, W) of that hue, saturation and value."""
    sixth = np.floor(hue * 6)
    within = hue * 6 - sixth
    low = value * (1 - saturation)
    falling = value * (1 - within * saturation)
    rising = value * (1 - (1 - within) * saturation)
    sectors = [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ]
    channels = zip(*sectors, strict=True)
    return np.stack([np.choose(sixth.astype(np.int64) % 6, channel) for channel in channels])
