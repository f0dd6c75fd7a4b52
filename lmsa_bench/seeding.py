"""The only source of randomness: a generator for each (seed, purpose)."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on the seed and on every word of the purpose."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> "torch.Generator":
    """A fresh CPU generator for a seed and a purpose, such as (0, "order", epoch)."""
    import torch  # here: what draws other numbers does without it

    return torch.Generator().manual_seed(derive(seed, *purpose))
