"""A picture that every machine makes alike, for comparisons with numbers from elsewhere."""

import numpy as np
import torch
from torch import Tensor


def picture(side: int) -> Tensor:
    """An image (1, 3, n, n) uint8: a slope with a black and a white corner in red, squares in green, waves in blue."""
    row, column = np.indices((side, side)) * 32 // side
    fine, across = np.indices((side, side)) * 64 // side
    red = np.clip(row * 6 + column * 5 - 40, 0, 255)
    green = 40 + 170 * ((row // 4 + column // 5) % 2)
    blue = (fine * fine + 3 * fine * across) % 97 * 2 + 30
    return torch.from_numpy(np.stack([red, green, blue]).astype(np.uint8))[None]
