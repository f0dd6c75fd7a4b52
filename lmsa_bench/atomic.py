"""Files that are written whole or not at all, and temporary folders that are removed even after a kill."""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

STALE = 3600.0  # seconds after which nobody is still writing a file
_PART = re.compile(r"\..+\.[0-9a-f]{32}|\.new-[0-9a-f]{32}")  # as replacing and scratch_folder name them
_LOCK = ".owned"  # in a scratch folder: locked for as long as its process lives


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file to write that replaces ``path`` in one step at the end of the block, or is discarded if the block raises.

    ``durable`` waits for the disk, so that the file also survives a power failure.
    """
    # A process id would not be unique: two nodes, or two containers, can have the same one.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(part, "xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk it would take the space that the next attempt needs
        raise


def user_cache() -> Path:
    """The folder of what this program keeps for a user and can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmsa_bench"


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replaces a file in one step; see ``replacing``."""
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder for data that is never read back: removed at the end, or after a kill by ``drop_scratch``."""
    name = uuid.uuid4().hex
    hidden, scratch = root / f".new-{name}", root / f".ray-{name}"
    hidden.mkdir()
    try:
        with FileLock(hidden / _LOCK):
            hidden.rename(scratch)  # drop_scratch sees it only once it is locked
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def drop_scratch(root: Path) -> None:
    """Removes the scratch folders of processes that were killed, and what they began to write over an hour ago."""
    for folder in root.glob(".ray-*"):
        with suppress(Timeout, OSError), FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    for path in root.iterdir():
        if _PART.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
