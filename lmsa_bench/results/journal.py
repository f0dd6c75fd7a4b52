"""The results folder: each trial's own folder is the truth, every file in it written in one piece."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.object_store import PATIENCE, Storage, is_uri
from lmsa_bench.results import index, reading
from lmsa_bench.results.index import End, Index, ends_of
from lmsa_bench.results.table import SCHEMA, Entry, frame
from lmsa_bench.trial.outcomes import Outcomes
from lmsa_bench.trial.spec import PROTOCOL, EpochRecord, Trial, TrialResult, canonical

if TYPE_CHECKING:
    import pandas as pd

ERROR = "error.txt"  # in a trial's folder: the traceback of what it failed by
FORMAT = 1  # of the results folder
MARKER = "lmsa_bench.json"
# A trial's files in the order in which an object store gets or loses them: records before the checkpoint of their
# epoch, and a checkpoint is removed once the result is there.
OUTCOMES, MARGINS = "outcomes.bin", "margins.bin"  # see trial.outcomes
FILES = ("trial.json", "records.jsonl", ERROR, OUTCOMES, MARGINS, "result.json", "checkpoint.pt")
READ = ("trial.json", "records.jsonl", "result.json", OUTCOMES)  # what a trial's rows in the table are made of
# All that is pulled from an object store, whose names could lead anywhere.
PULLED = re.compile(rf"trials/\w+/({'|'.join(map(re.escape, FILES))})|suites/[\w.-]+\.json|code/\w+\.json", re.ASCII)

T = TypeVar("T", Trial, TrialResult)


class Journal:
    """The trials of a results folder; raises UserError where the folder cannot be used, or is not there.

    With an object store the folder is a copy of a part of it, kept up to date by ``refresh``, ``pull`` and ``push``.
    ``make`` makes a folder that is not there.
    """

    def __init__(self, root: Path, storage: Storage | None = None, *, make: bool = False) -> None:
        self.root, self.storage = root, storage
        self.trials = root / "trials"
        self.suites_folder = root / "suites"
        self._protocols: dict[str, int] = {}  # by trial id
        self._codes: set[str] = set()  # that this process has written
        self._index = Index(root / index.NAME)
        marker = root / MARKER
        try:
            if make:
                self.trials.mkdir(parents=True, exist_ok=True)
            if storage is not None:
                storage.pull(MARKER, marker)
            if make and not marker.exists():
                write_whole(marker, canonical({"format": FORMAT}).encode(), durable=True)
            if storage is not None:
                storage.push(marker, MARKER)
            found = json.loads(marker.read_text()).get("format")
        except FileNotFoundError:
            raise UserError(f"results folder {root}: there are no results; a sweep makes them") from None
        except OSError as error:
            raise UserError(f"results folder {root}: cannot be written ({error.strerror}); name another") from None
        except (ValueError, AttributeError, RecursionError):
            raise UserError(f"results folder {root}: {marker.name} is not this program's; name another") from None
        if found != FORMAT:
            raise UserError(f"results folder {root}: format {found}, this version writes {FORMAT}; name another folder")

    def folder(self, trial: Trial) -> Path:
        """The trial's own folder, made with its `trial.json` where it is missing."""
        folder = self.trials / trial.id
        if not (folder / "trial.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "trial.json", canonical(trial.to_json()).encode())
        return folder

    def append(self, record: EpochRecord) -> None:
        """Adds an epoch's record; replaces the same and later epochs of a killed run."""
        _refuse_unreadable(record)
        path = self.trials / record.trial / "records.jsonl"
        kept = [r for r in self.records(record.trial) if r.epoch < record.epoch]
        with self._writing(record.trial):
            write_whole(path, "".join(canonical(asdict(r)) + "\n" for r in [*kept, record]).encode())

    def finish(self, result: TrialResult, outcomes: Outcomes | None = None) -> None:
        """Writes how a trial ended; after this it is never run again, unless it failed."""
        _refuse_unreadable(result)
        kept = outcomes or Outcomes(b"")
        with self._writing(result.trial):
            for name, content in ((OUTCOMES, kept.correct), (MARGINS, kept.margins)):
                if content:
                    write_whole(self.trials / result.trial / name, content, durable=True)
                else:
                    (self.trials / result.trial / name).unlink(missing_ok=True)
            write_whole(self.trials / result.trial / "result.json", canonical(asdict(result)).encode(), durable=True)

    def forget(self, trial_id: str, code: str) -> None:
        """Removes what a trial left that ran on that code, so that it is run anew, unless another process has done so.

        The caller has seen its result.
        """
        with self.lock(trial_id):
            result = self.result(trial_id)
            if result is not None and result.provenance.get("trial_code", "") == code:
                for path in (self.trials / trial_id).iterdir():
                    if path.name not in ("trial.json", "lock"):
                        path.unlink(missing_ok=True)
                self.push(trial_id)

    def add_code(self, name: str, modules: Mapping[str, str]) -> None:
        """Keeps which files' code decides a trial, under the hash of it."""
        if name not in self._codes:
            path = self.root / "code" / f"{name}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                write_whole(path, canonical(dict(modules)).encode())
            self.push_file(f"code/{name}.json")
            self._codes.add(name)

    def code(self, name: str) -> dict[str, str]:
        """The files of that hash, each with a digest of its code; empty where they are not known."""
        if re.fullmatch(r"\w+", name, re.ASCII):
            with suppress(OSError, ValueError):
                found = json.loads((self.root / "code" / f"{name}.json").read_bytes())
                if isinstance(found, dict) and all(isinstance(digest, str) for digest in found.values()):
                    return found
        return {}

    def refresh(self) -> None:
        """Pulls all records, results and suites of the object store into the folder."""
        if self.storage is not None:
            self.storage.pull_changed(self.root, lambda name: bool(PULLED.fullmatch(name)) and name[-3:] != ".pt")

    def pull(self, trial_id: str) -> None:
        """Brings a trial's folder up to date with the object store, to resume on this node."""
        if self.storage is not None:
            for name in FILES[1:]:
                path = self.trials / trial_id / name
                if not self.storage.pull(f"trials/{trial_id}/{name}", path):
                    path.unlink(missing_ok=True)

    def push(self, trial_id: str) -> None:
        """Pushes what is new in a trial's folder to the object store."""
        if self.storage is not None:
            for name in FILES:
                self.push_file(f"trials/{trial_id}/{name}")

    def push_file(self, name: str) -> None:
        """Pushes a file of the folder where it is new, and removes one there that is gone here."""
        if self.storage is not None:
            if (self.root / name).exists():
                self.storage.push(self.root / name, name)
            else:
                self.storage.remove(name, self.root / name)

    def lock(self, trial_id: str) -> FileLock:
        """Held by the one process that runs a trial; released by the system when that is killed."""
        return FileLock(self.trials / trial_id / "lock", thread_local=False)

    def unlock(self, trial_id: str, lock: FileLock) -> None:
        """Releases a trial's lock; of one that has ended nothing else is left, of killed processes neither."""
        folder = self.trials / trial_id
        if lock.is_locked and (folder / "result.json").exists():
            if self.storage is None:  # else another thread may be pulling
                for part in folder.glob(".*"):
                    part.unlink(missing_ok=True)
            (folder / "lock").unlink(missing_ok=True)  # last: whoever waits for it sees that and takes a new one
        lock.release()

    def add_suite(self, name: str, trial_ids: Collection[str]) -> None:
        """Notes which trials belong to a suite, beside those it had before."""
        self.suites_folder.mkdir(exist_ok=True)
        with FileLock(self.suites_folder / "lock"):
            known = self.suites().get(name, set())
            if not known.issuperset(trial_ids):
                text = canonical(sorted(known.union(trial_ids)))
                write_whole(self.suites_folder / f"{name}.json", text.encode())
                self.push_file(f"suites/{name}.json")

    def suites(self) -> dict[str, set[str]]:
        """The trials of each suite, started or not; a damaged file is left out, and written anew."""
        found = {}
        for path in sorted(self.suites_folder.glob("*.json")):
            with suppress(ValueError):
                found[path.stem] = set(json.loads(path.read_text()))
        return found

    def ids(self) -> list[str]:
        """All trials of this protocol that ever started."""
        known = self._index.stamps()
        return [name for name in self._started() if name in known or self._protocol(name) == PROTOCOL]

    def others(self) -> list[str]:
        """A line for each protocol but this version's that has ended trials in the folder, which are not used."""
        others = set(self._started()).difference(self.ids())
        found = Counter(self._protocol(name) for name in others if (self.trials / name / "result.json").exists())
        return [
            f"{count} finished trial{'s' * (count > 1)} of protocol {protocol} {'are' if count > 1 else 'is'} in this "
            f"folder; this version runs protocol {PROTOCOL}"
            for protocol, count in sorted(found.items())
        ]

    def ends(self) -> list[End]:
        """How the trials ended that have."""
        table, damaged = self._current()
        found = list(ends_of(table))
        for name in damaged:  # beside damaged records, say, a result may stand
            if (result := self.result(name)) is not None:
                found.append(End.of(self.trial(name), result))
        return found

    def finished(self) -> set[str]:
        """The trials that have ended and need no further run: finished and diverged ones, not failed ones."""
        return {end.trial for end in self.ends() if end.lasts}

    def records(self, trial_id: str) -> list[EpochRecord]:
        """The trial's epochs so far; raises UserError where they are damaged."""
        name = "records.jsonl"
        with self._damaged(trial_id):
            return reading.records((self._bytes(trial_id, name) or b"").splitlines(), trial_id, name)

    def result(self, trial_id: str) -> TrialResult | None:
        """How a trial ended, None while it has not; raises UserError where that is damaged."""
        return self._one(TrialResult, trial_id, "result.json")

    def trial(self, trial_id: str) -> Trial:
        """The trial of that id; raises UserError where its file is missing or damaged."""
        found = self._one(Trial, trial_id, "trial.json")
        with self._damaged(trial_id):
            if found is None:
                raise ValueError("it has no trial.json")
        return found

    def entry(self, trial_id: str) -> Entry:
        """All that a trial's folder holds."""
        trial, records, result = self.trial(trial_id), self.records(trial_id), self.result(trial_id)
        with self._damaged(trial_id):
            return reading.whole(trial, records, result, self._bytes(trial_id, OUTCOMES))

    def margins(self, trial_id: str) -> NDArray[np.float16] | None:
        """The margins of a trial's logits (images,), None where they were not kept; see trial.outcomes."""
        found = self._bytes(trial_id, MARGINS)
        return None if found is None else np.frombuffer(found, "<f2")

    def stamp(self, trial_id: str, names: Sequence[str] = ("records.jsonl", "result.json")) -> str:
        """A text that changes whenever a trial's records or result (these files) do; nothing is read for it."""
        found, folder = [], f"{self.trials}/{trial_id}"
        for name in names:
            try:
                stat = os.stat(f"{folder}/{name}")
                found.append(f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_ctime_ns}-{stat.st_size}")
            except FileNotFoundError:
                found.append("none")
        return " ".join(found)

    def entries(self) -> Iterator[Entry]:
        """All trials of this protocol that ever started."""
        return map(self.entry, self.ids())

    def table(self) -> pa.Table:
        """All records as one table (see table.SCHEMA)."""
        table, damaged = self.readable()
        for reason in damaged.values():
            raise UserError(reason)
        return table

    def readable(self) -> tuple[pa.Table, dict[str, str]]:
        """The table without the trials whose files are damaged, and by trial what is wrong with those."""
        table, damaged = self._current()
        return table.select(SCHEMA.names).replace_schema_metadata(None), damaged

    def frame(self) -> "pd.DataFrame":
        """The table for a notebook, with a column for each hyper-parameter."""
        return frame(self.table())

    def _current(self) -> tuple[pa.Table, dict[str, str]]:
        """The index of the trials of this protocol, and what is wrong with those that are not in it."""
        return self._index.current({name: self.stamp(name, READ) for name in self.ids()}, self.entry)

    def _started(self) -> list[str]:
        """All trials that ever started, of any protocol."""
        with os.scandir(self.trials) as folders:
            return sorted(folder.name for folder in folders if os.path.exists(f"{folder.path}/trial.json"))

    def _protocol(self, name: str) -> int:
        """The protocol of a trial; those of others have other ids, and other records."""
        if name not in self._protocols:
            try:
                self._protocols[name] = reading.protocol_of((self.trials / name / "trial.json").read_bytes())
            except OSError:
                return PROTOCOL
        return self._protocols[name]

    def _bytes(self, trial_id: str, name: str) -> bytes | None:
        try:
            return (self.trials / trial_id / name).read_bytes()
        except FileNotFoundError:
            return None

    def _one(self, kind: type[T], trial_id: str, name: str) -> T | None:
        """The only line of a trial's file; None where there is no file."""
        with self._damaged(trial_id):
            text = self._bytes(trial_id, name)
            if text is None:
                return None
            lines = text.splitlines()
            if len(lines) != 1:
                raise ValueError(f"{name} has {len(lines)} lines")
            return reading.parse(kind, lines[0], trial_id, name)

    @contextmanager
    def _writing(self, trial_id: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            told = f"cannot be written ({error.strerror}): was it removed or closed while the trial ran?"
            raise UserError(f"{self.trials / trial_id}: {told}") from None

    @contextmanager
    def _damaged(self, trial_id: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{self.trials / trial_id}: cannot be read ({one_line(error)}); remove it and run the suite again"
            ) from None


def _refuse_unreadable(one: EpochRecord | TrialResult) -> None:
    """Raises UserError at what could not be read again, such as a plug-in's negative loss."""
    try:
        reading.parse(type(one), canonical(asdict(one)), one.trial, "what the trial left")
    except ValueError as error:
        raise UserError(one_line(error)) from None


def opened(results: Path, storage: str | None = None, *, make: bool = False) -> Journal:
    """The journal of a results folder, up to date with its object store; a path as storage is the folder itself."""
    if storage is None or not is_uri(storage):
        return Journal(Path(storage.removeprefix("file://") if storage else results).absolute(), make=make)
    journal = Journal(results.absolute(), Storage(storage, PATIENCE), make=True)
    journal.refresh()
    return journal
