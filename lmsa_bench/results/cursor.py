"""What of a results folder is in which tracking store, so that only what is new is sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import StoreUnavailable
from lmsa_bench.trial.spec import canonical

NAME = "mlflow_cursor.json"  # in a results folder
LOCK_SECONDS = 60


@dataclass
class Published:
    """What one store was sent: by suite and trial the stamp that the trial had then."""

    identity: str = ""  # of the store itself: another one may answer at the same address
    suites: dict[str, dict[str, str]] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)  # by suite the store's own stamp when it held all of that


_STORES = TypeAdapter(dict[str, Published])  # by URI


class Cursor:
    """The file that remembers it; one that is not there or not readable remembers nothing, which only costs time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stores = _STORES.validate_python(json.loads(path.read_bytes()))
        except (FileNotFoundError, ValidationError, ValueError, RecursionError):
            self._stores = {}
        self._before = self._text()

    def of(self, uri: str, suite: str) -> dict[str, str]:
        """The stamps of a suite's trials as they were published there, to be changed by whoever publishes."""
        return self._stores.setdefault(uri, Published()).suites.setdefault(suite, {})

    def identity(self, uri: str) -> str:
        """The store that was last published to at this address."""
        return self._stores.setdefault(uri, Published()).identity

    def settled(self, uri: str) -> dict[str, str]:
        """By suite the stamp of the store as it was seen to hold all that it was sent; changed by who sees it."""
        return self._stores.setdefault(uri, Published()).settled

    def forget(self, uri: str) -> None:
        """Nothing is there any more."""
        self._stores.pop(uri, None)

    def confirm(self, uri: str, identity: str) -> None:
        """Forgets what was sent to another store that had this address."""
        if uri in self._stores and self._stores[uri].identity != identity:
            self.forget(uri)
        self._stores.setdefault(uri, Published(identity))

    def save(self) -> None:
        """Writes the file where something has changed."""
        if self._text() != self._before:
            write_whole(self.path, self._text().encode())

    def _text(self) -> str:
        return canonical({uri: asdict(published) for uri, published in self._stores.items()})


@contextmanager
def cursor_of(results: Path) -> Iterator[Cursor]:
    """The cursor of a results folder, which is written at the end, while no other process publishes the same folder."""
    try:
        with FileLock(results / "mlflow.lock", timeout=LOCK_SECONDS):
            cursor = Cursor(results / NAME)
            try:
                yield cursor
            finally:
                cursor.save()
    except Timeout:
        raise StoreUnavailable(f"another process is publishing {results}") from None
    except OSError as error:
        raise StoreUnavailable(f"{results} cannot be published: {error}") from None
