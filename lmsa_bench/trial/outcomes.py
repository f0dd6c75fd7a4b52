"""Which test images a trial got right: one bit an image, kept beside its result."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Outcomes:
    """Of a trial's test split in its order, at the best epoch by validation."""

    correct: bytes  # a bit an image, the first in the highest bit of the first byte
    margins: bytes = b""  # float16, little-endian: the label's logit minus the highest other one; b"" unless asked for


def of(correct: "Tensor", margins: "Tensor | None") -> Outcomes:
    """The outcomes of these images, from bool (n,) and, where asked for, the margins of their logits (n,)."""
    kept = b"" if margins is None else margins.clamp(-LARGEST, LARGEST).cpu().numpy().astype("<f2").tobytes()
    return Outcomes(np.packbits(correct.cpu().numpy()).tobytes(), kept)


def margins_of(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """The label's logit minus the highest other one (n,), of logits (n, classes)."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -np.inf).amax(1)


def unpacked(correct: bytes, size: int) -> NDArray[np.bool_]:
    """One bool an image (size,)."""
    bits: NDArray[Any] = np.unpackbits(np.frombuffer(correct, np.uint8), count=size)
    return bits.astype(bool)


def check(correct: bytes, size: int, accuracy: float | None) -> None:
    """Raises ValueError where these are not the outcomes of so many images with that accuracy."""
    if len(correct) != -(-size // 8):
        raise ValueError(f"outcomes: {len(correct)} bytes are not those of {size} images")
    right = int(np.unpackbits(np.frombuffer(correct, np.uint8)).sum())
    if accuracy is None or abs(right - accuracy * size) > 1e-6 * size:
        raise ValueError(f"outcomes: {right} of {size} images are right, the result's test accuracy is {accuracy}")
