"""Files from the web, whole and of the right checksum or not there."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from filelock import FileLock
from tqdm import tqdm

from lmsa_bench.errors import UserError

CHUNK = 1 << 20
SECONDS = 60  # without a byte, after which a connection counts as lost


def checksum(path: Path, kind: str) -> str:
    """The file's md5 or sha256, with a progress bar where it is large; raises UserError where it cannot be read."""
    try:
        size = path.stat().st_size
        hidden = True if size < 64 * CHUNK else None
        with open(path, "rb") as file, _bar(f"checking {path.name}", size, hidden=hidden) as bar:
            digest = hashlib.new(kind, usedforsecurity=False)
            while block := file.read(CHUNK):
                digest.update(block)
                bar.update(len(block))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def fetch(url: str, path: Path, checksums: Mapping[str, str] | None = None, size: int | None = None) -> Path:
    """Downloads a file, going on where an earlier attempt was cut off; nothing where it is there.

    ``checksums`` maps "md5" or "sha256" to hex digits, or to the first of them. Raises UserError where the file cannot
    be had; one of a wrong checksum is removed.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return path
        free, there = shutil.disk_usage(path.parent).free, part.stat().st_size if part.exists() else 0
        if size is not None and size - there > free:
            raise UserError(
                f"{path.name} needs {(size - there) / 1e9:.1f} GB in {path.parent}, {free / 1e9:.1f} are free"
            )
        _download(url, part)
        check(part, checksums or {}, url)
        os.replace(part, path)
    return path


def check(path: Path, checksums: Mapping[str, str], url: str) -> None:
    """Removes a downloaded file of a wrong checksum and raises UserError."""
    for kind, expected in checksums.items():
        found = checksum(path, kind)
        if not found.startswith(expected):
            path.unlink()
            raise UserError(f"{url}: its {kind} is {found}, expected {expected}; the download was removed")


def _download(url: str, part: Path) -> None:
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "lmsa_bench"})
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            if answer.status != 206:
                there = 0  # a server that knows no ranges sends the whole file
            length = answer.headers.get("Content-Length")
            total = there + int(length) if length else None
            with open(part, "ab" if there else "wb") as file, _bar(part.stem, total, there) as bar:
                while block := answer.read(CHUNK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left of it: the checksum says whether it is whole
            return
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise UserError(f"{url}: cannot be reached ({error.reason}); is this machine on the internet?") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cut off ({error}): run the same command again to go on") from None
    if total is not None and (size := part.stat().st_size) < total:
        raise UserError(f"{url}: cut off after {size} of {total} bytes: run the same command again to go on")


def _bar(text: str, total: int | None, initial: int = 0, hidden: bool | None = None) -> "tqdm[NoReturn]":
    return tqdm(desc=text, total=total, initial=initial, unit="B", unit_scale=True, disable=hidden, leave=False)
