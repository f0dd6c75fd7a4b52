"""Files that are whole or not there, and folders that go, whatever is killed meanwhile."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_OWNED = ".owned"  # in a scratch folder: locked for as long as its process lives


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replaces a file in one step; ``durable`` waits for the disk, so that it also outlives a loss of power."""
    # A process id would not do: two nodes, or two containers, have the same ones.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)  # on a full disk a part takes the room that the next try needs
        raise


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder of which nothing is ever read back: it goes at the end, or after a kill by ``drop_scratch``."""
    name = uuid.uuid4().hex
    hidden, scratch = root / f".new-{name}", root / f".ray-{name}"
    hidden.mkdir()
    try:
        with FileLock(hidden / _OWNED):
            hidden.rename(scratch)  # is seen once it is locked
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def drop_scratch(root: Path) -> None:
    """Removes the scratch folders of processes that were killed."""
    for left in root.glob(".ray-*"):
        with suppress(Timeout, OSError), FileLock(left / _OWNED, timeout=0):
            shutil.rmtree(left, ignore_errors=True)
