"""Images and labels in one Arrow file, read back as tensors over the mapped file without a copy."""

import hashlib
import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lmsa_bench.atomic import replacing
from lmsa_bench.errors import UserError
from lmsa_bench.tasks.task import Split

UNVERIFIED = " unverified"  # at the end of a recipe and of a fingerprint
MEND = "write it again with 'python -m lmsa_bench.data'"
# What a damaged file can raise on its way to tensors.
DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, RuntimeError)
_whole = set[tuple[int, ...]]()  # files that this process has compared with their fingerprints


class Header(NamedTuple):
    """What an Arrow file says of itself, readable without its images."""

    shape: tuple[int, int, int]  # C, H, W
    fingerprint: str  # of the content: 16 hex digits
    recipe: str  # how the content was made: a file of another recipe is out of date


def write(path: Path, images: Tensor, labels: Tensor, recipe: str = "") -> str:
    """Writes images (n, C, H, W) uint8 and labels (n,) int64 in one atomic step; returns the content's fingerprint."""
    shape = ",".join(map(str, images.shape[1:]))
    pixels, numbers = images.contiguous().numpy(), labels.to(torch.int64).contiguous().numpy()
    fingerprint = _fingerprint(shape, pixels, numbers)
    kind = pa.binary(images[0].numel())
    column = pa.FixedSizeBinaryArray.from_buffers(kind, len(images), [None, pa.py_buffer(pixels)])
    batch = pa.record_batch(
        [column, pa.array(numbers)],
        schema=pa.schema(
            [("image", kind), ("label", pa.int64())],
            metadata={"shape": shape, "fingerprint": fingerprint, "recipe": recipe},
        ),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True) as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return fingerprint


def header(path: Path) -> Header:
    """Reads what the file says of itself; raises UserError where it is missing or damaged."""
    return _open(path)[0]


def marked(recipe: str, verified: bool) -> str:
    """The recipe of a file whose sources had their published checksums, or of one where that was not looked at."""
    return recipe if verified else f"{recipe}{UNVERIFIED}"


def is_current(path: Path, recipe: str) -> bool:
    """Whether a file of that recipe is there, verified or not."""
    try:
        found = header(path).recipe
    except UserError:
        return False
    return found in (recipe, marked(recipe, False))


def identity(paths: Sequence[Path]) -> str:
    """The fingerprints of these files, and whether one of them was made of files that nobody verified."""
    heads = [header(path) for path in paths]
    unverified = any(head.recipe.endswith(UNVERIFIED) for head in heads)
    return marked("-".join(head.fingerprint for head in heads), not unverified)


def read(path: Path) -> Split:
    """Maps a file as tensors, which may be written without changing it; raises UserError where it is damaged.

    A process reads a file once as a whole, to compare it with its fingerprint.
    """
    head, mapped, reader = _open(path)
    try:
        stat = path.stat()
        batch = reader.get_batch(0)
        batch.validate()
        pixels, labels = batch.columns
        if reader.num_record_batches != 1 or not len(batch) or pixels.null_count or labels.null_count:
            raise ValueError("not one batch of images with labels")
        start = pa.py_buffer(mapped).address

        def tensor(column: pa.Array, count: int, dtype: torch.dtype) -> Tensor:
            return torch.frombuffer(mapped, dtype=dtype, count=count, offset=column.buffers()[1].address - start)

        images = tensor(pixels, len(batch) * math.prod(head.shape), torch.uint8).view(len(batch), *head.shape)
        found = Split(images, tensor(labels, len(batch), torch.int64))
        version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version not in _whole:
            shape = ",".join(map(str, head.shape))
            if _fingerprint(shape, found.images.numpy(), found.labels.numpy()) != head.fingerprint:
                raise ValueError("its content has another fingerprint")
            _whole.add(version)
        return found
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _open(path: Path) -> tuple[Header, mmap.mmap, pa.ipc.RecordBatchFileReader]:
    try:
        with open(path, "rb") as file:
            # A private map is writable, as torch wants its memory, and leaves the file as it is.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        metadata = reader.schema.metadata or {}
        channels, height, width = map(int, metadata[b"shape"].split(b","))
        head = Header((channels, height, width), metadata[b"fingerprint"].decode(), metadata[b"recipe"].decode())
        columns = [("image", pa.binary(math.prod(head.shape))), ("label", pa.int64())]
        if not reader.schema.equals(pa.schema(columns)):
            raise ValueError(f"its columns are not images of {channels}x{height}x{width} and labels")
        return head, mapped, reader
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {MEND}") from error
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _fingerprint(shape: str, pixels: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(shape.encode())
    digest.update(pixels.data)
    digest.update(labels.data)
    return digest.hexdigest()[:16]


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is not a whole Arrow file of images ({' '.join(str(why).split())}): {MEND}")
