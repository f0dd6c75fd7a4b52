"""The results in MLflow: a mirror of the journal, one run a trial, that can be replayed at any time."""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa

from lmsa_bench.errors import StoreUnavailable, UserError, first_cause, one_line, without_password
from lmsa_bench.results import database, overview, run_tags
from lmsa_bench.results.cursor import Cursor, cursor_of
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.quiet import quiet
from lmsa_bench.results.runs import BATCH, by_tag, insert, named, show, tagged
from lmsa_bench.results.table import Entry, rows

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "lmsa_bench"
AT_ONCE = 100  # new runs a transaction
PAGE = 500  # runs a call, whose answer is bounded
LIST_FROM = 20  # from so many runs on, one listing of all costs less than asking for each
UI = "http://127.0.0.1:5000"  # where ``mlflow ui`` answers
SUMMARY = "summary"  # in the cursor, among trials' ids
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")  # errors that a later try may not get


def default_uri(results: Path) -> str:
    """MLflow's SQLite database inside a results folder."""
    return database.uri_of(results.absolute() / "mlflow.db")


def chosen_uri(given: str | None, results: Path) -> str:
    """The store given on the command line, else in the environment, else the folder's own."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(results)


def import_mlflow() -> None:
    """Imports what a store needs, which takes seconds."""
    with quiet():
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


class ResultStore:
    """An MLflow tracking store; raises UserError for a URI that cannot be one, StoreUnavailable while it is down."""

    def __init__(self, uri: str) -> None:
        if "://" not in uri or urlsplit(uri).scheme.partition("+")[0] not in SCHEMES:
            raise UserError(f"tracking URI {without_password(uri)!r}: expected sqlite:///FILE or http://HOST:PORT")
        self.uri, self.shown, self.is_server = uri, without_password(uri), uri.startswith(("http://", "https://"))
        self._database = database.path_of(uri)
        self._connection: tuple[MlflowClient, str, str] | None = None

    def publish(
        self, journal: Journal, suite_name: str, trial_ids: Collection[str] | None = None, *, anew: bool = False
    ) -> int:
        """Brings these trials (default: all) up to date, with ``anew`` old ones too; returns how many were not.

        Those that cannot be published are left out; after all others they raise UserError.
        """
        with self._cursor(journal) as cursor:
            wanted = sorted(set(journal.ids()).intersection(journal.ids() if trial_ids is None else trial_ids))
            # The stamp is taken before the trial is read, so that what is written in between is published next time.
            stamps = {trial: journal.stamp(trial) for trial in wanted}
            if not anew and cursor.of(self.uri, suite_name).items() >= stamps.items():
                return 0
            written, refused = 0, dict[str, UserError]()
            with self._calls():
                cursor.confirm(self.uri, self._identity())
                published = cursor.of(self.uri, suite_name)
                pending = [trial for trial, stamp in stamps.items() if anew or published.get(trial) != stamp]
                parent = self._suite_run(suite_name)
                known = self._known(pending)
                if self._database is not None:
                    new = [trial for trial in pending if trial not in known]
                    for start in range(0, len(new), AT_ONCE):
                        done = self._insert(journal, new[start : start + AT_ONCE], suite_name, parent)
                        published |= {trial: stamps[trial] for trial in done}
                        written += len(done)
                        pending = [trial for trial in pending if trial not in done]
                for trial in pending:
                    try:
                        with self._calls():
                            written += self._write(journal.entry(trial), suite_name, parent, known.get(trial))
                        published[trial] = stamps[trial]
                    except StoreUnavailable:
                        raise
                    except UserError as error:
                        refused[trial] = error
                        published.pop(trial, None)
            if refused:
                raise UserError(
                    f"{len(refused)} of {len(wanted)} trials are not published: {next(iter(refused.values()))}"
                )
            return written

    def settle(self, journal: Journal, suite_name: str, trial_ids: Collection[str] | None = None) -> int:
        """Publishes what the store itself lacks of these, whatever was published before; returns how many."""
        written = self.publish(journal, suite_name, trial_ids, anew=True)
        if written and (lost := self.publish(journal, suite_name, trial_ids, anew=True)):
            raise StoreUnavailable(f"tracking store {self.shown} has not kept {lost} trials that it was sent")
        if self._database is not None:
            with self._cursor(journal) as cursor:
                cursor.settled(self.uri)[suite_name] = database.stamp(self._database)
        return written

    def is_settled(self, journal: Journal, suite_name: str, trial_ids: Collection[str]) -> bool:
        """Whether all of these are published, and nobody has written into the store's file since it held them all.

        A server may always have lost something.
        """
        if self._database is None:
            return False
        with self._cursor(journal) as cursor:
            stamps = {trial: journal.stamp(trial) for trial in set(journal.ids()).intersection(trial_ids)}
            published = cursor.of(self.uri, suite_name).items() >= stamps.items()
            return published and cursor.settled(self.uri).get(suite_name) == database.stamp(self._database)

    def table(self) -> pa.Table:
        """The journal's table (see journal.SCHEMA), from MLflow alone."""
        if self._database is not None and not self._database.exists():
            raise UserError(f"tracking database {self._database}: there is none; publish results first or name another")
        with self._calls():
            doubled = by_tag(self._runs(), run_tags.KEY).values()
            found = [[entry for run in runs if (entry := run_tags.entry_of(run.data.tags))] for runs in doubled]
        return rows(entries[0] for entries in found if entries)

    def publish_summary(self, journal: Journal, suite_name: str, *, anew: bool = False) -> str:
        """Puts a suite's table, figures and page on its own run, and its overview where MLflow shows it at sight.

        Returns the link to that, as ``link`` does.
        """
        folder = journal.root / "summary" / suite_name
        files = sorted(file for file in folder.glob("*") if file.is_file())
        stamp = " ".join(f"{file.name}-{file.stat().st_mtime_ns}" for file in files)
        with self._cursor(journal) as cursor:
            if not anew and cursor.of(self.uri, suite_name).get(SUMMARY, "") == stamp:
                return self._link(cursor.identity(self.uri), suite_name)
            was_settled = self._database and cursor.settled(self.uri).get(suite_name) == database.stamp(self._database)
            for left in (2, 1, 0):
                try:
                    with self._calls():
                        cursor.confirm(self.uri, self._identity())
                        self._put_summary(suite_name, folder, files)
                    break
                except UserError as error:
                    # Another publisher has set the same tag of the same run at the same moment.
                    if not left or "unique constraint" not in str(error).lower():
                        raise
            cursor.of(self.uri, suite_name)[SUMMARY] = stamp
            if self._database and was_settled:
                cursor.settled(self.uri)[suite_name] = database.stamp(self._database)
            return self._link(cursor.identity(self.uri), suite_name)

    def _put_summary(self, suite_name: str, folder: Path, files: Collection[Path]) -> None:
        (client, experiment), run_id = self._connected(), self._suite_run(suite_name)
        for file in files:
            client.log_artifact(run_id, str(file))
        if (found := overview.read(folder)) is None:
            client.set_terminated(run_id)
        else:
            show(client, experiment, found, run_id, self._runs)

    def link(self, suite_name: str) -> str:
        """The page that lists the suite's methods, the best first: of the server, or of ``mlflow ui`` on this store."""
        with self._calls():
            return self._link(self._identity(), suite_name)

    def _link(self, identity: str, suite_name: str) -> str:
        return overview.link(self.shown if self.is_server else UI, identity.partition(" ")[0], suite_name)

    def deduplicate(self) -> int:
        """Deletes all but one of the runs that two publishers at once made for a trial or suite; returns how many."""
        with self._calls():
            client, _ = self._connected()
            runs, deleted = list(self._runs()), 0
            for tag in (run_tags.KEY, run_tags.SUITE_KEY, overview.METHOD_KEY):
                for kept, *others in by_tag(runs, tag).values():
                    for other in others:
                        for child in runs:
                            if child.data.tags.get("mlflow.parentRunId") == other.info.run_id:
                                client.set_tag(child.info.run_id, "mlflow.parentRunId", kept.info.run_id)
                        client.delete_run(other.info.run_id)
                        runs.remove(other)
                        deleted += 1
            return deleted

    @contextmanager
    def _cursor(self, journal: Journal) -> Iterator[Cursor]:
        with cursor_of(journal.root) as cursor:
            if self._database is not None and not self._database.exists():
                cursor.forget(self.uri)
            yield cursor

    def _identity(self) -> str:
        """The store that answers now, as it may be another than a moment ago: its experiment, and since when."""
        self._connection = None
        self._connected()
        assert self._connection is not None
        return self._connection[2]

    def _insert(self, journal: Journal, trial_ids: Iterable[str], suite_name: str, parent: str) -> set[str]:
        """Writes these trials into a database that has no run of theirs; returns those that it now has, all or none.

        A trial that cannot be read or written is none of them.
        """
        entries = list[Entry]()
        for trial in trial_ids:
            with suppress(UserError):  # told where it is written alone
                entries.append(journal.entry(trial))
        try:
            with self._calls():
                insert(*self._connected(), (run_tags.draft(entry, suite_name, parent) for entry in entries))
        except StoreUnavailable:
            raise
        except UserError:
            return set()
        return {entry.trial.id for entry in entries}

    def _write(self, entry: Entry, suite_name: str, parent: str, run: "Run | None") -> bool:
        """Brings a trial's run up to date, and makes it where it is None; returns whether there was something new."""
        from mlflow.entities import Metric, Param, RunTag

        client, experiment = self._connected()
        trial, records, result, _ = entry
        tags, status = run_tags.tags(entry, suite_name), run_tags.run_status(result)
        if run is not None and run_tags.is_beyond_repair(run.data.tags, run.data.metrics, run.data.params, entry):
            client.delete_run(run.info.run_id)  # its metrics would go on beside ours
            run = None
        # Written after the metrics: the tag and MLflow's own status tell a run that is whole.
        last = {run_tags.STATUS: tags[run_tags.STATUS]}
        if run is None:
            # A run's first tags are written in one go, later ones with a query each.
            new = run_tags.draft(entry, suite_name, parent)
            first = {name: text for name, text in new.tags.items() if name not in last}
            run_id = named(client.create_run(experiment, start_time=new.start, tags=first, run_name=new.name))
        elif run_tags.is_current(run.data.tags, run.info.status, entry):
            tags = {run_tags.suite_tag(suite_name): "true"}
            if lacks := not tags.items() <= run.data.tags.items():
                client.set_tag(run.info.run_id, *next(iter(tags.items())))
            return lacks
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
        client, experiment = self._connected()
        ids = None if self._database is None else tagged(client, experiment, run_tags.KEY, list(trial_ids))
        if len(trial_ids if ids is None else ids) >= LIST_FROM:
            found = list(self._runs())
        elif ids is not None:
            found = list(map(client.get_run, ids))
        else:
            found = [run for trial in trial_ids for run in self._runs(f"tags.`{run_tags.KEY}` = '{trial}'")]
        return {trial: runs[0] for trial, runs in by_tag(found, run_tags.KEY).items()}

    def _suite_run(self, suite_name: str) -> str:
        client, experiment = self._connected()
        found = by_tag(self._runs(f"tags.`{run_tags.SUITE_KEY}` = '{suite_name}'"), run_tags.SUITE_KEY)
        if found:
            return named(next(iter(found.values()))[0])
        tags = {run_tags.SUITE_KEY: suite_name, "lmsa.suite": suite_name}
        return named(client.create_run(experiment, tags=tags, run_name=suite_name))

    def _runs(self, matching: str = "") -> "Iterator[Run]":
        client, experiment = self._connected()
        tokens: list[str | None] = [None]
        while True:
            page = client.search_runs([experiment], matching, max_results=PAGE, page_token=tokens[-1])
            yield from page
            if not page.token:
                return
            if page.token in tokens:
                raise StoreUnavailable(f"tracking store {self.shown} lists its runs without an end")
            tokens.append(page.token)

    def _connected(self) -> "tuple[MlflowClient, str]":
        """The client and the experiment's id; MLflow is imported late, since that alone takes seconds."""
        if self._connection is None:
            from mlflow import MlflowClient

            path = self._database
            with database.ready(path, lambda uri: MlflowClient(uri).search_experiments()) if path else nullcontext():
                self._connection = self._connect()
        return self._connection[:2]

    def _connect(self) -> "tuple[MlflowClient, str, str]":
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if self.is_server:
            from mlflow.utils import request_utils

            from lmsa_bench.results import answers

            answers.bound(request_utils)
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        if (found := client.get_experiment_by_name(EXPERIMENT)) is None:
            artifacts = (self._database.parent / "artifacts").absolute().as_uri() if self._database else None
            try:
                client.create_experiment(EXPERIMENT, artifacts)
            except MlflowException:  # or another publisher has made it
                if client.get_experiment_by_name(EXPERIMENT) is None:
                    raise
            found = client.get_experiment_by_name(EXPERIMENT)
        if found is None or not found.experiment_id or found.name != EXPERIMENT:
            raise StoreUnavailable(f"tracking store {self.shown} does not answer as an MLflow server does")
        if found.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise UserError(f"tracking store {self.shown}: its experiment {EXPERIMENT} is deleted: {restore}")
        return client, str(found.experiment_id), f"{found.experiment_id} {found.creation_time}"

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
    """What MLflow, its reader of answers and its database raise."""
    from google.protobuf.json_format import Error
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, Error, SQLAlchemyError, OSError
