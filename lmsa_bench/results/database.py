"""The SQLite file behind a tracking URI."""

import glob
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock

from lmsa_bench.errors import UserError

SCHEME = "sqlite:///"


def uri_of(path: Path) -> str:
    """The URI of a file, in which ? would begin its options and % is the escape."""
    return SCHEME + str(path).replace("%", "%25").replace("?", "%3F")


def path_of(uri: str) -> Path | None:
    """The file that a URI names, None where it names another kind of store; raises UserError where it is not usable."""
    if not uri.startswith(SCHEME):
        return None
    written = uri.removeprefix(SCHEME)
    if "?" in written or re.search("%(?![0-9a-fA-F]{2})", written):
        raise UserError(f"tracking URI {uri!r}: expected {SCHEME}FILE, in whose path ? is written %3F, and % is %25")
    path = Path(unquote(written))
    # MLflow would try 15 times with growing pauses.
    if path.is_dir() or not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"tracking database {path}: cannot be written; name another")
    if path.exists():
        with open(path, "rb") as file:
            if file.read(16) not in (b"", b"SQLite format 3\0"):
                raise UserError(f"tracking database {path}: is not an SQLite file; name another")
    return path


def stamp(path: Path) -> str:
    """A text that changes whenever the database does."""
    found = []
    for file in (path, Path(f"{path}-wal")):
        with suppress(FileNotFoundError):
            stat = file.stat()
            found.append(f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}")
    return " ".join(found)


@contextmanager
def ready(path: Path, make: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, the database is there, and no other process makes its tables: ``make`` does, at a URI.

    It is made beside its place: one killed over its tables leaves a database that nothing can read.
    """
    # MLflow makes the folder of a URI as it is written, also where it is escaped.
    stray = Path(uri_of(path).removeprefix(SCHEME)).parent
    was_there = stray.exists()
    with FileLock(f"{path}.lock"):
        try:
            for part in path.parent.glob(f".{glob.escape(path.name)}.*"):  # of a process that was killed
                part.unlink(missing_ok=True)
            if not path.exists():
                part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
                make(uri_of(part))
                os.replace(part, path)
            yield
        finally:
            if not was_there:
                with suppress(OSError):
                    os.removedirs(stray)
