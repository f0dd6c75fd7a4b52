"""Downloads that resume, and appear under their name only when complete and verified."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from lmsa_bench.errors import UserError

CHUNK = 1 << 20
SECONDS = 60  # without data, after which a connection is considered lost


def checksum(path: Path, kind: str) -> str:
    """The file's md5 or sha256 in hex, with a progress bar if it is large; raises UserError if it cannot be read."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file, bar(f"checking {path.name}", size, hidden=size < 64 * CHUNK) as advance:
            digest = hashlib.new(kind, usedforsecurity=False)
            while block := file.read(CHUNK):
                digest.update(block)
                advance(len(block))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def fetch(url: str, path: Path, checksums: Mapping[str, str] | None = None, size: int | None = None) -> Path:
    """Downloads a file unless it exists, resuming an interrupted attempt; returns its path.

    ``checksums`` maps "md5" or "sha256" to hex digits, or to the first few; ``size`` is in bytes. Raises UserError if
    the download fails or has another checksum, in which case it is removed.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return path
        free, received = shutil.disk_usage(path.parent).free, _size(part)
        if size is not None and size - received > free:
            raise UserError(
                f"{path.name} needs {(size - received) / 1e9:.1f} GB in {path.parent}, {free / 1e9:.1f} are free"
            )
        _download(url, part)
        check(part, checksums or {}, url)
        os.replace(part, path)
    return path


def check(path: Path, checksums: Mapping[str, str], url: str) -> None:
    """Raises UserError if a downloaded file has another checksum than expected, and removes it."""
    for kind, expected in checksums.items():
        actual = checksum(path, kind)
        if not actual.startswith(expected):
            path.unlink()
            raise UserError(f"{url}: its {kind} is {actual}, expected {expected}; the download was removed")


def _download(url: str, part: Path) -> None:
    received = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "lmsa_bench"})
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            if response.status != 206:
                received = 0  # a server without support for ranges sends the whole file
            length = response.headers.get("Content-Length")
            total = received + int(length) if length else None
            with open(part, "ab" if received else "wb") as file, bar(part.stem, total, received) as advance:
                while block := response.read(CHUNK):
                    file.write(block)
                    advance(len(block))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing left to send: the checksum tells whether the file is complete
            return
        raise UserError(f"{url}: the server returned {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise UserError(f"{url}: unreachable ({error.reason}); is this machine online?") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{url}: interrupted ({error}): run the same command again to resume") from None
    if total is not None and (size := part.stat().st_size) < total:
        raise UserError(f"{url}: interrupted after {size} of {total} bytes: run the same command again to resume")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def bar(
    text: str, total: int | None, done: int = 0, *, hidden: bool = False, of_bytes: bool = True
) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal while the block runs; the function it yields adds to what is done."""
    console, columns = Console(stderr=True), [*Progress.get_default_columns(), *[DownloadColumn()] * of_bytes]
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        yield partial(progress.advance, progress.add_task(text, total=total, completed=done))
