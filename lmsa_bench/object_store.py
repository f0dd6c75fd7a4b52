"""Files in an object store, through pyarrow's file systems, for nodes that share no disk."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError, one_line, without_password

PARALLEL_READS = 16
PATIENCE = 300.0  # seconds for which calls to an unreachable store are retried
MAX_PAUSE = 30.0  # seconds between two attempts

T = TypeVar("T")


def is_uri(text: str) -> bool:
    """Whether the text is the URI of an object store rather than the path of a folder."""
    return "://" in text and urlsplit(text).scheme != "file"


class Storage:
    """A folder of an object store, such as ``s3://bucket/folder``; raises UserError if it cannot be used.

    Objects are written whole or not at all. Failed calls are retried for ``patience`` seconds, except the first: a
    mistyped URI fails at once.
    """

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        self.uri, self.patience = uri, 0.0
        self._synced: dict[Path, tuple[int, int]] = {}  # local files as they were when last read from or written to it
        if urlsplit(uri).scheme in ("gs", "gcs") and "retry_limit_seconds" not in uri:  # the default is minutes
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds=10"
        with self._user_errors():
            self.store, self.root = fs.FileSystem.from_uri(uri)
        if not self.root.strip("/"):
            raise UserError(
                f"storage {without_password(uri)}: expected a folder in a bucket, such as s3://BUCKET/FOLDER"
            )
        self.holds("lmsa_bench.json")
        self.patience = patience

    def holds(self, name: str) -> bool:
        """Whether the store has this file."""
        return bool(self._retry(lambda: self.store.get_file_info(self._key(name)).type == fs.FileType.File))

    def push(self, local: Path, name: str) -> None:
        """Uploads a file, unless it is unchanged since this process last pulled or pushed it."""
        stamp = _stamp(local)
        if self._synced.get(local) == stamp:
            return
        content = local.read_bytes()

        def write() -> None:
            with self.store.open_output_stream(self._key(name)) as stream:
                stream.write(content)

        self._retry(write)
        self._synced[local] = stamp

    def pull(self, name: str, local: Path) -> bool:
        """Downloads a file and replaces the local one in one step; returns False if the store does not have it."""

        def read() -> bytes | None:
            try:
                with self.store.open_input_stream(self._key(name)) as stream:
                    return bytes(stream.read())
            except OSError:  # not a FileNotFoundError where another client removes it between look-up and read
                if self.store.get_file_info(self._key(name)).type == fs.FileType.NotFound:
                    return None
                raise

        if (content := self._retry(read)) is None:
            return False
        local.parent.mkdir(parents=True, exist_ok=True)
        write_whole(local, content)
        self._synced[local] = _stamp(local)
        return True

    def pull_changed(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """Downloads the store's files whose names are ``wanted`` and which differ from those in a local folder."""
        everything = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        changed = []
        for info in self._retry(lambda: self.store.get_file_info(everything)):
            name = info.path[len(self.root) :].strip("/")
            if info.type != fs.FileType.File or not wanted(name):
                continue
            stamp = (info.mtime_ns or 0, info.size)
            if (folder / name).exists() and _stamp(folder / name) == stamp:
                self._synced[folder / name] = stamp
            else:
                changed.append((name, stamp))

        def download(change: tuple[str, tuple[int, int]]) -> None:
            name, stamp = change
            if self.pull(name, folder / name):  # with the store's time, the next call sees it as unchanged
                os.utime(folder / name, ns=(stamp[0], stamp[0]))
                self._synced[folder / name] = _stamp(folder / name)

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            list(pool.map(download, changed))

    def remove(self, name: str, local: Path) -> None:
        """Deletes a file that this process pulled or pushed, and that is no longer on the local disk."""
        if self._synced.pop(local, None) is not None:

            def delete() -> None:
                with suppress(FileNotFoundError):
                    self.store.delete_file(self._key(name))

            self._retry(delete)

    def _key(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _retry(self, call: Callable[[], T]) -> T:
        deadline, pause = time.monotonic() + self.patience, 1.0
        while True:
            try:
                with self._user_errors():
                    return call()
            except UserError:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"storage {without_password(self.uri)}: {one_line(error)[:300]}") from None


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
