"""The results in MLflow: a mirror of the journal, one run a trial, that can be replayed at any time."""

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
from filelock import FileLock, Timeout

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError, first_cause, one_line, without_password
from lmsa_bench.results import run_tags
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.quiet import quiet
from lmsa_bench.results.table import Entry, rows
from lmsa_bench.trial.spec import canonical

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "lmsa_bench"
CURSOR = "mlflow_cursor.json"
BATCH = 800  # metrics a call; with params and tags below the limit of 1,000
LIST_FROM = 20  # with so many unknown trials one listing of all runs costs less than a search for each
LOCK_SECONDS = 60
SUMMARY = "summary"  # in the cursor, among trials' ids
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")  # errors that a later try may not get
Cursor = dict[str, dict[str, dict[str, str]]]  # URI -> suite -> trial -> stamp


class StoreUnavailable(UserError):
    """The tracking server does not answer, or another publisher is at work: nothing is lost, publish again later."""


def default_uri(results: Path) -> str:
    """MLflow's SQLite database inside a results folder."""
    return f"sqlite:///{results.absolute()}/mlflow.db"


def chosen_uri(given: str | None, results: Path) -> str:
    """The store given on the command line, else in the environment, else the folder's own."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(results)


class ResultStore:
    """An MLflow tracking store; raises UserError for a URI that cannot be one, StoreUnavailable while it is down."""

    def __init__(self, uri: str) -> None:
        if "://" not in uri or urlsplit(uri).scheme.partition("+")[0] not in SCHEMES:
            raise UserError(f"tracking URI {without_password(uri)!r}: expected sqlite:///FILE or http://HOST:PORT")
        self.uri, self.shown, self.is_server = uri, without_password(uri), uri.startswith(("http://", "https://"))
        self._database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
        if self._database is not None:
            self._check_database(self._database)
        self._connection: tuple[MlflowClient, str] | None = None

    def publish(
        self, journal: Journal, suite_name: str, trial_ids: Collection[str] | None = None, *, anew: bool = False
    ) -> int:
        """Brings these trials (default: all) up to date, with ``anew`` old ones too; returns how many were not."""
        with self._publishing(journal) as cursor:
            published = self._published(cursor, suite_name)
            if anew:
                published.clear()
            wanted = sorted(set(journal.ids()).intersection(journal.ids() if trial_ids is None else trial_ids))
            # The stamp is taken before the trial is read, so that what is written in between is published next time.
            stamps = {trial: journal.stamp(trial) for trial in wanted}
            pending = [trial for trial, stamp in stamps.items() if published.get(trial) != stamp]
            if not pending:
                return 0
            written = 0
            with self._calls():
                parent = self._suite_run(suite_name)
                known = self._known(pending)
                for trial in pending:
                    written += self._write(journal.entry(trial), suite_name, parent, known.get(trial))
                    published[trial] = stamps[trial]
            return written

    def table(self) -> pa.Table:
        """The journal's table (see journal.SCHEMA), from MLflow alone."""
        if self._database is not None and not self._database.exists():
            raise UserError(f"tracking database {self._database}: there is none; publish results first or name another")
        with self._calls():
            doubled = _by_tag(self._runs(), run_tags.KEY).values()
            found = [[entry for run in runs if (entry := run_tags.entry_of(run.data.tags))] for runs in doubled]
        return rows(entries[0] for entries in found if entries)

    def publish_summary(self, journal: Journal, suite_name: str) -> None:
        """Puts a suite's table and figures on the suite's own run; the table is also the run's description."""
        folder = journal.root / "summary" / suite_name
        files = sorted(file for file in folder.glob("*") if file.is_file())
        stamp = " ".join(f"{file.name}-{file.stat().st_mtime_ns}" for file in files)
        with self._publishing(journal) as cursor:
            published = self._published(cursor, suite_name)
            if published.get(SUMMARY, "") == stamp:
                return
            with self._calls():
                client, _ = self._connected()
                run_id = self._suite_run(suite_name)
                for file in files:
                    client.log_artifact(run_id, str(file))
                    if file.suffix == ".txt":
                        text = file.read_text()[: run_tags.TAG_LENGTH]
                        client.set_tag(run_id, "mlflow.note.content", f"```\n{text}\n```")
                client.set_terminated(run_id)
            published[SUMMARY] = stamp

    def deduplicate(self) -> int:
        """Deletes all but one of the runs that two publishers at once made for a trial or suite; returns how many."""
        with self._calls():
            client, _ = self._connected()
            runs, deleted = list(self._runs()), 0
            for tag in (run_tags.KEY, run_tags.SUITE_KEY):
                for kept, *others in _by_tag(runs, tag).values():
                    for other in others:
                        for child in runs:
                            if child.data.tags.get("mlflow.parentRunId") == other.info.run_id:
                                client.set_tag(child.info.run_id, "mlflow.parentRunId", kept.info.run_id)
                        client.delete_run(other.info.run_id)
                        runs.remove(other)
                        deleted += 1
            return deleted

    @contextmanager
    def _publishing(self, journal: Journal) -> "Iterator[Cursor]":
        """The cursor, which is written at the end, while no other process publishes the same folder."""
        path = journal.root / CURSOR
        try:
            with FileLock(journal.root / "mlflow.lock", timeout=LOCK_SECONDS):
                cursor = _read(path)
                before = canonical(cursor)
                try:
                    yield cursor
                finally:
                    if canonical(cursor) != before:
                        write_whole(path, canonical(cursor).encode())
        except Timeout:
            raise StoreUnavailable(f"another process is publishing {journal.root} to {self.shown}") from None
        except OSError as error:
            raise StoreUnavailable(f"cannot publish {journal.root} to {self.shown}: {error}") from None

    def _published(self, cursor: "Cursor", suite_name: str) -> dict[str, str]:
        if self._database is not None and not self._database.exists():
            cursor.pop(self.uri, None)
        return cursor.setdefault(self.uri, {}).setdefault(suite_name, {})

    def _write(self, entry: Entry, suite_name: str, parent: str, run: "Run | None") -> bool:
        """Brings a trial's run up to date, and makes it where it is None; returns whether there was something new."""
        from mlflow.entities import Metric, Param, RunTag

        client, experiment = self._connected()
        trial, records, result, _ = entry
        tags, status = run_tags.tags(entry, suite_name), run_tags.run_status(result)
        if run is not None and run_tags.is_of_other_code(run.data.tags, result):
            client.delete_run(run.info.run_id)  # its metrics would go on beside ours
            run = None
        # Written after the metrics: the tag and MLflow's own status tell a run that is whole.
        last = {run_tags.STATUS: tags[run_tags.STATUS]}
        if run is None:
            # A run's first tags are written in one go, later ones with a query each.
            first = {name: text for name, text in tags.items() if name not in last}
            first |= {run_tags.KEY: trial.id, "lmsa.suite": suite_name, "mlflow.parentRunId": parent}
            start = run_tags.milliseconds(records[0].time - records[0].seconds) if records else None
            run_id = client.create_run(experiment, start_time=start, tags=first, run_name=trial.label).info.run_id
        elif run_tags.is_current(run.data.tags, run.info.status, entry):
            tags = {run_tags.suite_tag(suite_name): "true"}
            if new := not tags.items() <= run.data.tags.items():
                client.set_tag(run.info.run_id, *next(iter(tags.items())))
            return new
        elif tags.items() <= run.data.tags.items() and run.info.status == status:
            return False
        else:
            run_id, last = run.info.run_id, tags
        metrics = [Metric(*values) for values in run_tags.metrics(records, result)]
        for start in range(BATCH, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        client.log_batch(
            run_id,
            metrics=metrics[:BATCH],
            params=[Param(name, str(value)) for name, value in run_tags.params(trial).items()],
            tags=[RunTag(*item) for item in last.items()],
        )
        if result is not None:
            client.set_terminated(run_id, status, run_tags.milliseconds(records[-1].time) if records else None)
        elif run is not None:
            client.update_run(run_id, status)  # a failed trial that is run again
        return True

    def _known(self, trial_ids: Collection[str]) -> "dict[str, Run]":
        """The run of each of these trials that has one."""
        if len(trial_ids) >= LIST_FROM:
            found = list(self._runs())
        else:
            found = [run for trial in trial_ids for run in self._runs(f"tags.`{run_tags.KEY}` = '{trial}'")]
        return {trial: runs[0] for trial, runs in _by_tag(found, run_tags.KEY).items()}

    def _suite_run(self, suite_name: str) -> str:
        client, experiment = self._connected()
        found = _by_tag(self._runs(f"tags.`{run_tags.SUITE_KEY}` = '{suite_name}'"), run_tags.SUITE_KEY)
        if found:
            return str(found[suite_name][0].info.run_id)
        tags = {run_tags.SUITE_KEY: suite_name, "lmsa.suite": suite_name}
        return str(client.create_run(experiment, tags=tags, run_name=suite_name).info.run_id)

    def _runs(self, matching: str = "") -> "Iterator[Run]":
        client, experiment = self._connected()
        token = None
        while True:
            page = client.search_runs([experiment], matching, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _connected(self) -> "tuple[MlflowClient, str]":
        """The client and the experiment's id; MLflow is imported late, since that alone takes seconds."""
        if self._connection is None:  # two processes that make one database's tables would trip over each other
            with FileLock(f"{self._database}.lock") if self._database is not None else nullcontext():
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> "tuple[MlflowClient, str]":
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        artifacts = (self._database.parent / "artifacts").absolute().as_uri() if self._database is not None else None
        if self._database is not None and not self._database.exists():
            # Made beside it: one killed over its tables leaves a database that nothing can read.
            part = self._database.with_name(f".{self._database.name}.{uuid.uuid4().hex}")
            MlflowClient(f"sqlite:///{part}").search_experiments()
            os.replace(part, self._database)
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        if (found := client.get_experiment_by_name(EXPERIMENT)) is None:
            try:
                return client, str(client.create_experiment(EXPERIMENT, artifacts))
            except MlflowException:
                if (found := client.get_experiment_by_name(EXPERIMENT)) is None:  # or another publisher has made it
                    raise
        return client, str(found.experiment_id)

    @staticmethod
    def _check_database(path: Path) -> None:
        # MLflow would try 15 times with growing pauses.
        if path.is_dir() or not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise UserError(f"tracking database {path}: cannot be written; name another")
        if path.exists():
            with open(path, "rb") as file:
                if file.read(16) not in (b"", b"SQLite format 3\0"):
                    raise UserError(f"tracking database {path}: is not an SQLite file; name another")

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Around all that talks to MLflow: keeps it quiet and quick to give up, and turns its errors into ours."""
        try:
            with quiet():
                yield
        except ImportError as error:
            raise UserError(f"tracking store {self.shown}: {error}: install its driver here") from None
        except _errors() as error:
            about = without_password(one_line(first_cause(error))[:300])
            if getattr(error, "error_code", "INTERNAL_ERROR") in PASSING:
                raise StoreUnavailable(f"tracking store {self.shown} does not answer: {about}") from error
            raise UserError(f"tracking store {self.shown}: {about}") from error


def _errors() -> tuple[type[Exception], ...]:
    """What MLflow and its database raise."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _by_tag(runs: "Iterable[Run]", tag: str) -> "dict[str, list[Run]]":
    """The runs that have a tag, by its value; of several, which two publishers made, the one that counts is first."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if tag in run.data.tags:
            found[run.data.tags[tag]].append(run)
    for several in found.values():
        several.sort(key=lambda run: (run.info.status != "FINISHED", run.info.start_time, run.info.run_id))
    return found


def _read(cursor: Path) -> Cursor:
    """What was published; empty where the file is not there or not readable."""
    try:
        found = json.loads(cursor.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
