"""The state of a running training on disk: the last epoch's, and the one before in case that is damaged."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError, one_line

if TYPE_CHECKING:
    import torch

SECONDS = 1.0  # epochs shorter than this share a checkpoint: writing one takes 20 ms
NAME = "checkpoint.pt"
_NAMES = (NAME, "checkpoint.previous.pt")
_DIGEST = hashlib.sha256().digest_size


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values below a digest of them; the checkpoint before stays beside it."""
    import torch  # late: who ends a trial that never ran needs none

    buffer = io.BytesIO()
    torch.save(state, buffer)
    last, previous = (folder / name for name in _NAMES)
    if last.exists():
        os.replace(last, previous)
    write_whole(last, hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())


def load(folder: Path, device: "torch.device") -> dict[str, Any] | None:
    """The newest checkpoint that is whole, None where there is none: never runs code that a file might hold.

    Raises UserError where one is whole, but was written by another program.
    """
    import torch

    for name in _NAMES:
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            try:
                state: dict[str, Any] = torch.load(io.BytesIO(data[_DIGEST:]), map_location=device, weights_only=True)
                return state
            except Exception as error:  # noqa: BLE001 - such a file can raise anything
                raise UserError(f"{folder / name}: not a checkpoint ({one_line(error)}); remove it") from None
    return None


def remove(folder: Path) -> None:
    """Removes the checkpoints of a trial that has ended."""
    for name in _NAMES:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Around loading a checkpoint: one without the expected content raises UserError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{folder}: its checkpoint does not fit ({one_line(error)}); remove it") from None
