"""All that the trial folders hold as one Arrow file, which spares reading them again; never the truth."""

import hashlib
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError
from lmsa_bench.results.table import SCHEMA, Entry, rows
from lmsa_bench.trial.provenance import code_of_package
from lmsa_bench.trial.spec import Trial, TrialResult

NAME = "index.arrow"  # in a results folder: an Arrow stream, and after its end a digest of it
DIGEST = hashlib.sha256
CODE = "trial_code"  # in a result's provenance
STAMP, SECONDS = "stamp", "total_seconds"  # columns beside the table's: of the files as they were read, of the result


class End(NamedTuple):
    """How a trial ended, as far as a sweep asks."""

    trial: str
    task: str
    method: str
    epochs: int
    status: str
    reason: str
    total_seconds: float  # of training
    code: str  # that it ran on, "" where that is not known

    @property
    def lasts(self) -> bool:
        """Whether the trial needs no further run: one that failed is tried again."""
        return self.status != "failed"

    @classmethod
    def of(cls, trial: Trial, result: TrialResult) -> "End":
        """The end that a result tells."""
        code = str(result.provenance.get(CODE, ""))
        kind = trial.task, trial.method, trial.epochs
        return cls(trial.id, *kind, result.status, result.reason, result.seconds, code)


def ends_of(table: pa.Table) -> Iterator[End]:
    """The ends of an index's trials."""
    names = [*(name for name in End._fields if name != "code"), "provenance"]
    ended = table.filter(pc.is_valid(table["status"])).select(names).group_by(names).aggregate([])
    for row in ended.to_pylist():
        yield End(code=str(json.loads(row.pop("provenance")).get(CODE, "")), **row)


class Index:
    """The rows of each trial as of one stamp.

    A file that is missing, damaged or written by other code holds nothing, and a trial whose stamp has changed is read
    again. Several processes may write it: each writes all that it knows, and what another one knew is read again.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._table: pa.Table | None = None
        self._stamps = dict[str, str]()  # by trial

    def stamps(self) -> Mapping[str, str]:
        """Which version of each trial is known."""
        with self._lock:
            self._load()
            return self._stamps

    def current(self, stamps: Mapping[str, str], read: Callable[[str], Entry]) -> tuple[pa.Table, dict[str, str]]:
        """The rows of the trials with these stamps, and by trial what is wrong with those that cannot be read."""
        with self._lock:
            table = self._load()
            stale = [trial for trial, stamp in stamps.items() if self._stamps.get(trial) != stamp]
            entries, damaged = list[Entry](), dict[str, str]()
            for trial in stale:
                try:
                    entries.append(read(trial))
                except UserError as error:
                    damaged[trial] = str(error)
            if entries or self._stamps.keys() - (stamps.keys() - damaged.keys()):
                self._stamps = {trial: stamp for trial, stamp in stamps.items() if trial not in damaged}
                kept = pa.array(sorted(self._stamps.keys() - stale), pa.string())
                table = pa.concat_tables([table.filter(pc.is_in(table["trial"], value_set=kept)), self._rows(entries)])
                self._table = table = table.sort_by("trial").combine_chunks()  # stable: epochs stay in order
                with suppress(OSError):  # a folder that is read-only or full does without
                    self._write(table)
            return table, damaged

    def _rows(self, entries: Collection[Entry]) -> pa.Table:
        table = rows(entries)
        seconds = {entry.trial.id: entry.result.seconds for entry in entries if entry.result is not None}
        trials = table["trial"].to_pylist()
        own = [pa.array([self._stamps[trial] for trial in trials]), pa.array(map(seconds.get, trials), pa.float64())]
        return pa.table([*own, *table.columns], schema=_schema())

    def _load(self) -> pa.Table:
        if self._table is None:
            self._table = _schema().empty_table()
            with suppress(OSError, pa.ArrowException):
                content = memoryview(self._path.read_bytes())
                stream, digest = content[: -DIGEST().digest_size], content[-DIGEST().digest_size :]
                if DIGEST(stream).digest() == digest:
                    found = pa.ipc.open_stream(stream).read_all()
                    if found.schema.equals(_schema(), check_metadata=True):
                        self._table = found
            known = self._table.select(["trial", STAMP]).group_by(["trial", STAMP]).aggregate([])
            self._stamps = dict(zip(known["trial"].to_pylist(), known[STAMP].to_pylist(), strict=True))
        return self._table

    def _write(self, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
            stream.write_table(table)
        content = sink.getvalue().to_pybytes()
        write_whole(self._path, content + DIGEST(content).digest())


@cache
def _schema() -> pa.Schema:
    """The columns; what other code has read, it may have judged otherwise."""
    own = [pa.field(STAMP, pa.string()), pa.field(SECONDS, pa.float64())]
    return pa.schema([*own, *SCHEMA], metadata={"code": code_of_package()})
