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

AT_ONCE = 16  # files that are read at a time
PATIENCE = 300.0  # seconds for which a store that does not answer is tried again
MOST_PAUSE = 30.0  # seconds between two tries

T = TypeVar("T")


def is_uri(text: str) -> bool:
    """Whether it names an object store, and not a folder that all nodes see."""
    return "://" in text and urlsplit(text).scheme != "file"


class Storage:
    """A folder of an object store, such as ``s3://bucket/folder``; raises UserError where it cannot be used.

    A call that fails is made again for ``patience`` seconds. Objects are written whole or not at all. The first look at
    the store is not patient: whoever mistyped its name should not wait.
    """

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        self.uri, self.patience = uri, 0.0
        self._same: dict[Path, tuple[int, int]] = {}  # files of this disk as they were when the store had them too
        if urlsplit(uri).scheme in ("gs", "gcs") and "retry_limit_seconds" not in uri:  # else it tries for minutes
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds=10"
        with self._calls():
            self.store, self.root = fs.FileSystem.from_uri(uri)
        if not self.root.strip("/"):
            raise UserError(f"storage {without_password(uri)}: names no folder, such as s3://BUCKET/FOLDER")
        self.holds("lmsa_bench.json")
        self.patience = patience

    def holds(self, name: str) -> bool:
        """Whether the store has this file."""
        return bool(self._again(lambda: self.store.get_file_info(self._at(name)).type == fs.FileType.File))

    def push(self, local: Path, name: str) -> None:
        """Writes a file to the store, unless it is as it was when this process last read or wrote it."""
        stamp = _stamp(local)
        if self._same.get(local) == stamp:
            return
        content = local.read_bytes()

        def write() -> None:
            with self.store.open_output_stream(self._at(name)) as stream:
                stream.write(content)

        self._again(write)
        self._same[local] = stamp

    def pull(self, name: str, local: Path) -> bool:
        """Writes a file of the store to this disk in one step; whether there is one."""

        def read() -> bytes | None:
            try:
                with self.store.open_input_stream(self._at(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        if (content := self._again(read)) is None:
            return False
        local.parent.mkdir(parents=True, exist_ok=True)
        write_whole(local, content)
        self._same[local] = _stamp(local)
        return True

    def pull_changed(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """Brings a folder of this disk up to date with the store's files of which it wants the names."""
        everything = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        changed = []
        for info in self._again(lambda: self.store.get_file_info(everything)):
            name = info.path[len(self.root) :].strip("/")
            if info.type != fs.FileType.File or not wanted(name):
                continue
            stamp = (info.mtime_ns or 0, info.size)
            if (folder / name).exists() and _stamp(folder / name) == stamp:
                self._same[folder / name] = stamp
            else:
                changed.append((name, stamp))

        def take(change: tuple[str, tuple[int, int]]) -> None:
            name, stamp = change
            if self.pull(name, folder / name):  # its time there tells the next listing that it is the same
                os.utime(folder / name, ns=(stamp[0], stamp[0]))
                self._same[folder / name] = _stamp(folder / name)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(take, changed))

    def remove(self, name: str, local: Path) -> None:
        """Drops a file of the store which this process has read or written, and which this disk no longer has."""
        if self._same.pop(local, None) is not None:

            def delete() -> None:
                with suppress(FileNotFoundError):
                    self.store.delete_file(self._at(name))

            self._again(delete)

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _again(self, call: Callable[[], T]) -> T:
        deadline, pause = time.monotonic() + self.patience, 1.0
        while True:
            try:
                with self._calls():
                    return call()
            except UserError:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE)

    @contextmanager
    def _calls(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"storage {without_password(self.uri)}: {one_line(error)[:300]}") from None


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
