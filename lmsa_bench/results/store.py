"""The results in MLflow: a mirror of the journal, one run a trial, that can be replayed at any time."""

import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from filelock import FileLock, Timeout

from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Entry, Journal, epoch_record, rows
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, canonical

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "lmsa_bench"
CURSOR = "mlflow_cursor.json"
TAG_LENGTH = 4900  # servers of MLflow 2 refuse more than 5,000 characters and MLflow 3 cuts at 8,000, silently
BATCH = 800  # metrics a call; with params and tags below the limit of 1,000
LIST_FROM = 20  # with so many unknown trials one listing of all runs costs less than a search for each
LOCK_SECONDS = 60
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # by default a server that is down blocks each call for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class StoreUnavailable(UserError):
    """The tracking server does not answer, or another publisher is at work: nothing is lost, publish again later."""


def default_uri(results: Path) -> str:
    """MLflow's SQLite database inside a results folder."""
    return f"sqlite:///{results.absolute()}/mlflow.db"


class ResultStore:
    """An MLflow tracking store; raises UserError for a URI that cannot be one, StoreUnavailable while it is down."""

    def __init__(self, uri: str) -> None:
        if "://" not in uri or uri.startswith("file:"):
            raise UserError(f"tracking URI {uri!r}: expected sqlite:///FILE or http://HOST:PORT")
        self.uri = uri
        self._database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
        self._connection: tuple[MlflowClient, str] | None = None

    def publish(self, journal: Journal, suite_name: str, trial_ids: Collection[str] | None = None) -> int:
        """Brings these trials (default: all), if they have started, up to date; returns how many had something new."""
        started = journal.ids()
        wanted = started if trial_ids is None else sorted(set(started) & set(trial_ids))
        try:
            with FileLock(journal.root / "mlflow.lock", timeout=LOCK_SECONDS):
                return self._publish(journal, suite_name, wanted)
        except Timeout:
            raise StoreUnavailable(f"another process is publishing {journal.root} to {self.uri}") from None

    def table(self) -> pa.Table:
        """The journal's table (see journal.SCHEMA), from MLflow alone."""
        if self._database is not None and not self._database.exists():
            raise UserError(f"tracking database {self._database}: there is none; publish results first or name another")
        with self._calls():
            entries = {entry.trial.id: entry for entry in map(_entry, self._runs()) if entry is not None}
        return rows(entries.values())

    def publish_summary(self, suite_name: str, files: Iterable[Path]) -> None:
        """Puts a suite's table and figures on the suite's own run; a .txt file is also the run's description."""
        with self._calls():
            client, _ = self._connected()
            run_id = self._suite_run(suite_name)
            for file in files:
                client.log_artifact(run_id, str(file))
                if file.suffix == ".txt":
                    client.set_tag(run_id, "mlflow.note.content", f"```\n{file.read_text()[:TAG_LENGTH]}\n```")
            client.set_terminated(run_id)

    def _publish(self, journal: Journal, suite_name: str, trial_ids: Collection[str]) -> int:
        path = journal.root / CURSOR
        cursor = _read(path)
        if self._database is not None and not self._database.exists():
            cursor.pop(self.uri, None)
        published = cursor.setdefault(self.uri, {}).setdefault(suite_name, {})
        # The stamp is taken before the trial is read, so that what is written in between is published next time.
        stamps = {trial: journal.stamp(trial) for trial in trial_ids}
        pending = [trial for trial, stamp in stamps.items() if published.get(trial) != stamp]
        if not pending:
            return 0
        try:
            with self._calls():
                parent = self._suite_run(suite_name)
                known = self._known(pending)
                for trial in pending:
                    self._write(journal.entry(trial), suite_name, parent, known.get(trial))
                    published[trial] = stamps[trial]
        finally:
            write_whole(path, canonical(cursor).encode())
        return len(pending)

    def _write(self, entry: Entry, suite_name: str, parent: str, run_id: str | None) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client, experiment = self._connected()
        trial, records, result = entry
        new, tags = run_id is None, _tags(entry, suite_name)
        if run_id is None:
            # A run's first tags are written in one go, later ones with a query each.
            tags |= {"lmsa.trial_key": trial.id, "lmsa.suite": suite_name, "mlflow.parentRunId": parent}
            start = _milliseconds(records[0].time - records[0].seconds) if records else None
            run_id = client.create_run(experiment, start_time=start, tags=tags, run_name=trial.label).info.run_id
        metrics = [Metric(*values) for values in _metrics(records, result)]
        for start in range(BATCH, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        client.log_batch(
            run_id,
            metrics=metrics[:BATCH],
            params=[Param(name, str(value)) for name, value in _params(trial).items()],
            tags=[] if new else [RunTag(*item) for item in tags.items()],
        )
        if result is not None:
            status = "FAILED" if result.status == "failed" else "FINISHED"
            client.set_terminated(run_id, status, _milliseconds(records[-1].time) if records else None)
        elif not new:
            client.update_run(run_id, "RUNNING")  # a failed trial that is run again

    def _known(self, trial_ids: Collection[str]) -> dict[str, str]:
        """The run of each of these trials that has one."""
        if len(trial_ids) >= LIST_FROM:
            found = list(self._runs())
        else:
            found = [run for trial in trial_ids for run in self._runs(f"tags.`lmsa.trial_key` = '{trial}'")]
        return {run.data.tags["lmsa.trial_key"]: run.info.run_id for run in found if "lmsa.trial_key" in run.data.tags}

    def _suite_run(self, suite_name: str) -> str:
        client, experiment = self._connected()
        found = list(self._runs(f"tags.`lmsa.suite_key` = '{suite_name}'"))
        if found:
            return str(found[0].info.run_id)
        tags = {"lmsa.suite_key": suite_name, "lmsa.suite": suite_name}
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
        if self._connection is None:
            from mlflow import MlflowClient

            artifacts = None
            if self._database is not None:
                self._check_database(self._database)
                artifacts = (self._database.parent / "artifacts").absolute().as_uri()
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            experiment = client.get_experiment_by_name(EXPERIMENT)
            found = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, artifacts)
            self._connection = client, str(found)
        return self._connection

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
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        except ImportError as error:
            raise UserError(f"tracking store {self.uri}: {error}") from None
        except (MlflowException, SQLAlchemyError, OSError) as error:
            about = str(error).strip().partition("\n")[0][:300]
            if getattr(error, "error_code", "INTERNAL_ERROR") in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
                raise StoreUnavailable(f"tracking store {self.uri} does not answer: {about}") from error
            raise UserError(f"tracking store {self.uri}: {about}") from error


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _metrics(records: list[EpochRecord], result: TrialResult | None) -> Iterator[tuple[str, float, int, int]]:
    """(name, value, milliseconds, step); times come from the records, so that MLflow ignores what it already has."""
    for record in records:
        for name in ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy"):
            if (value := getattr(record, name)) is not None:
                yield name, float(value), _milliseconds(record.time), record.epoch
    if result is None or not records:
        return
    # MLflow's list shows the last value of a metric, so the early-stopped figures need names of their own.
    figures = {
        f"best_{name}": getattr(result, name) for name in ("val_accuracy", "val_loss", "test_accuracy", "test_loss")
    }
    for name, value in (
        figures | {"best_epoch": result.best_epoch, "total_seconds": result.seconds, "bytes": result.bytes}
    ).items():
        if value is not None:
            yield name, float(value), _milliseconds(records[-1].time), 0


def _params(trial: Trial) -> dict[str, Any]:
    return {**trial.hparams} | {
        name: getattr(trial, name) for name in ("task", "variant", "method", "seed", "epochs", "batch_size")
    }


def _tags(entry: Entry, suite_name: str) -> dict[str, str]:
    trial, records, result = entry
    best = [r.layers for r in records if result is not None and r.epoch == result.best_epoch]
    return {
        f"lmsa.suite.{suite_name}": "true",  # a trial can belong to several suites, but to one parent run only
        "lmsa.status": result.status if result is not None else "running",
        "layers": " ".join(map(str, best[0])) if best else "",
        **_split("lmsa.trial", canonical(trial.to_json())),
        **_split("lmsa.records", canonical([asdict(record) for record in records])),
        **_split("lmsa.result", canonical(asdict(result) if result is not None else None)),
    }


def _split(name: str, text: str) -> dict[str, str]:
    return {f"{name}.{i}": text[start : start + TAG_LENGTH] for i, start in enumerate(range(0, len(text), TAG_LENGTH))}


def _join(name: str, tags: dict[str, str]) -> Any:
    """What _split wrote; a longer text that stood there before has left its end behind, which is not read."""
    text = "".join(tags[f"{name}.{i}"] for i in range(len(tags)) if f"{name}.{i}" in tags)
    return json.JSONDecoder().raw_decode(text)[0]


def _entry(run: "Run") -> Entry | None:
    """The trial that a run mirrors; None for a suite's run, and where the publisher was killed before it wrote one."""
    tags = run.data.tags
    if "lmsa.result.0" not in tags:
        return None
    result = _join("lmsa.result", tags)
    return Entry(
        Trial(**_join("lmsa.trial", tags)),
        [epoch_record(raw) for raw in _join("lmsa.records", tags)],
        TrialResult(**result) if result is not None else None,
    )


def _read(cursor: Path) -> dict[str, dict[str, dict[str, str]]]:
    """What was published, URI -> suite -> trial -> stamp; empty where the file is not there or not readable."""
    try:
        found = json.loads(cursor.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
