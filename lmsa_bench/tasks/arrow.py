"""Images and labels in an Arrow file, read as tensors that share the memory-mapped file, without a copy."""

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
REMEDY = "delete it, and the next run prepares it again"
# What reading a damaged file can raise.
DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, RuntimeError)
_verified = set[tuple[int, ...]]()  # files that this process has compared with their fingerprints


class Header(NamedTuple):
    """An Arrow file's metadata, which is read without its images."""

    shape: tuple[int, int, int]  # C, H, W
    fingerprint: str  # of the content: 16 hex digits
    recipe: str  # how the content was produced: a file with another recipe is out of date


def write(path: Path, images: Tensor, labels: Tensor, recipe: str = "") -> str:
    """Writes images (n, C, H, W) uint8 and labels (n,) atomically; returns their fingerprint; raises UserError."""
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
    """Reads a file's metadata; raises UserError if it is missing or damaged."""
    return _open(path)[0]


def marked(recipe: str, verified: bool) -> str:
    """A recipe, with a mark if the checksums of its source files were not verified."""
    return recipe if verified else f"{recipe}{UNVERIFIED}"


def is_current(path: Path, recipe: str) -> bool:
    """Whether the file exists with that recipe, verified or not."""
    try:
        return header(path).recipe in (recipe, marked(recipe, False))
    except UserError:
        return False


def identity(paths: Sequence[Path]) -> str:
    """The fingerprints of these files, with a mark if any was made from unverified files; raises UserError."""
    headers = [header(path) for path in paths]
    unverified = any(h.recipe.endswith(UNVERIFIED) for h in headers)
    return marked("-".join(h.fingerprint for h in headers), not unverified)


def read(path: Path) -> Split:
    """Memory-maps a file as tensors (writing to them does not change it); raises UserError if it is damaged.

    The first time a process reads a file, it compares the whole content with the fingerprint.
    """
    head, mapped, reader = _open(path)
    try:
        stat = path.stat()
        batch = reader.get_batch(0)
        batch.validate()
        pixels, labels = batch.columns
        if reader.num_record_batches != 1 or not len(batch) or pixels.null_count or labels.null_count:
            raise ValueError("expected one batch of images with labels")
        start = pa.py_buffer(mapped).address

        def tensor(column: pa.Array, count: int, dtype: torch.dtype) -> Tensor:
            return torch.frombuffer(mapped, dtype=dtype, count=count, offset=column.buffers()[1].address - start)

        images = tensor(pixels, len(batch) * math.prod(head.shape), torch.uint8).view(len(batch), *head.shape)
        split = Split(images, tensor(labels, len(batch), torch.int64))
        version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version not in _verified:
            shape = ",".join(map(str, head.shape))
            if _fingerprint(shape, split.images.numpy(), split.labels.numpy()) != head.fingerprint:
                raise ValueError("its content does not match its fingerprint")
            _verified.add(version)
        return split
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _open(path: Path) -> tuple[Header, mmap.mmap, pa.ipc.RecordBatchFileReader]:
    try:
        with open(path, "rb") as file:
            # A private map is writable, which torch requires, and does not change the file.
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
        raise UserError(f"{path} is missing: run task.prepare or 'python -m lmsa_bench.data' first") from error
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _fingerprint(shape: str, pixels: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(shape.encode())
    digest.update(pixels.data)
    digest.update(labels.data)
    return digest.hexdigest()[:16]


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a complete Arrow file of images ({' '.join(str(error).split())}): {REMEDY}")
