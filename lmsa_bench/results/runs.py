"""MLflow's runs: found by their tags, and those that show a suite at sight."""

import colorsys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lmsa_bench.errors import StoreUnavailable
from lmsa_bench.results import overview
from lmsa_bench.results.run_tags import SUITE_KEY, TAG_LENGTH, Draft, milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 800  # metrics a call; with params and tags below the limit of 1,000
NOTE = "mlflow.note.content"  # the tag that MLflow shows as a description
COLOUR = "mlflow.runColor"  # the tag with the colour of a run in MLflow's charts


def show(
    client: "MlflowClient",
    experiment: str,
    found: overview.Overview,
    suite_run: str,
    runs: "Callable[[str], Iterable[Run]]",
) -> None:
    """Puts a suite's overview on its run, which ends, on a run for each method, and on the experiment's page.

    ``runs`` lists those that a filter of MLflow's matches.
    """
    _log(client, client.get_run(suite_run), found.metrics(), {}, {NOTE: found.description[:TAG_LENGTH]})
    known = by_tag(runs(overview.matching(found.suite)), overview.METHOD_KEY)
    for i, method in enumerate(found.methods):
        key = overview.method_key(found.suite, method.name)
        tags = {overview.METHOD_KEY: key, "lmsa.suite": found.suite}  # no parent's: its children are not listed
        run = next(iter(known.pop(key, [])), None)
        run = run or client.create_run(experiment, tags=tags, run_name=f"{method.name} ({found.suite})")
        # The parameter is what tells runs apart where MLflow compares them; without the tag colours repeat.
        colour = _colour(i / len(found.methods), dark=i % 2 == 0)
        _log(client, run, method.metrics(), {"method": method.name}, {COLOUR: colour})
    for run in (run for several in known.values() for run in several):  # of a row that the suite no longer has
        client.delete_run(run.info.run_id)
    notes = [run.data.tags.get(NOTE, "") for run in runs(f"tags.`{SUITE_KEY}` != ''")]
    client.set_experiment_tag(experiment, NOTE, "\n\n".join(notes)[:TAG_LENGTH])
    client.set_experiment_tag(experiment, overview.VIEW + overview.view_key(found.suite), found.view())


def insert(client: "MlflowClient", experiment: str, drafts: Iterable[Draft]) -> None:
    """Writes runs into a database by MLflow's own classes, all or none: its client takes seven commits for each."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
    from mlflow.utils.validation import _validate_batch_log_data

    store, location = client._tracking_client.store, client.get_experiment(experiment).artifact_location
    now, rows = milliseconds(time.time()), list[object]()
    for draft in drafts:
        metrics, params, tags = _validate_batch_log_data(  # type: ignore[no-untyped-call]
            [Metric(*values) for values in draft.metrics],
            [Param(*item) for item in draft.params.items()],
            [RunTag(*item) for item in {**draft.tags, MLFLOW_RUN_NAME: draft.name}.items()],
        )
        run = uuid.uuid4().hex
        rows.append(
            SqlRun(
                run_uuid=run,
                name=draft.name,
                experiment_id=int(experiment),
                artifact_uri=f"{location}/{run}/artifacts",
                status=draft.status,
                start_time=now if draft.start is None else draft.start,
                end_time=None if draft.status == "RUNNING" else now if draft.end is None else draft.end,
                user_id="unknown",
                source_type="UNKNOWN",
                source_name="",
                entry_point_name="",
                source_version="",
                lifecycle_stage="active",
            )
        )
        rows += [SqlTag(run_uuid=run, key=tag.key, value=tag.value) for tag in tags]
        rows += [SqlParam(run_uuid=run, key=param.key, value=param.value) for param in params]
        last = dict[str, SqlMetric]()
        for metric in dict.fromkeys(metrics):
            is_nan, value = store.sanitize_metric_value(metric.value)
            place = {"run_uuid": run, "key": metric.key, "timestamp": metric.timestamp, "step": metric.step}
            rows.append(SqlMetric(**place, value=value, is_nan=is_nan))
            one = SqlLatestMetric(**place, value=value, is_nan=is_nan)
            before = last.setdefault(metric.key, one)
            if (one.step, one.timestamp, one.value) > (before.step, before.timestamp, before.value):
                last[metric.key] = one
        rows += last.values()
    with store.ManagedSessionMaker(read_only=False) as session:
        session.add_all(rows)


def tagged(client: "MlflowClient", experiment: str, tag: str, values: Sequence[str]) -> list[str]:
    """The ids of a database's runs that have this tag with one of these values: its client takes a search for each."""
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

    found = list[str]()
    with client._tracking_client.store.ManagedSessionMaker(read_only=True) as session:
        active = session.query(SqlTag.run_uuid).join(SqlRun, SqlRun.run_uuid == SqlTag.run_uuid)
        active = active.filter(SqlRun.experiment_id == int(experiment), SqlRun.lifecycle_stage == "active")
        for start in range(0, len(values), BATCH):
            some = active.filter(SqlTag.key == tag, SqlTag.value.in_(values[start : start + BATCH]))
            found += [run for (run,) in some]
    return found


def _colour(hue: float, dark: bool) -> str:
    """A colour of this hue, from 0 to 1, as #rrggbb."""
    channels = colorsys.hls_to_rgb(hue, 0.38 if dark else 0.62, 0.7)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _log(
    client: "MlflowClient",
    run: "Run",
    values: Iterable[tuple[str, float, int]],
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> None:
    """Logs metrics as of now and ends the run; of each step MLflow shows the latest value."""
    from mlflow.entities import Metric, Param, RunTag

    run_id = named(run)
    now = max(milliseconds(time.time()), (run.info.end_time or 0) + 1)  # also where the clock was put back
    metrics = [Metric(name, value, now, step) for name, value, step in values]
    beside = [Param(*item) for item in params.items()], [RunTag(*item) for item in tags.items()]
    for start in range(0, len(metrics) or 1, BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH], *beside)
    client.set_terminated(run_id, end_time=now)


def named(run: "Run") -> str:
    """A run's id; raises StoreUnavailable where an answer has none."""
    if not run.info.run_id:
        raise StoreUnavailable("the tracking store's answer holds no run")
    return str(run.info.run_id)


def by_tag(runs: "Iterable[Run]", tag: str) -> "dict[str, list[Run]]":
    """The runs that have a tag, by its value; of several, which two publishers made, the one that counts is first."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if tag in run.data.tags:
            found[run.data.tags[tag]].append(run)
    for several in found.values():
        several.sort(key=lambda run: (run.info.status != "FINISHED", run.info.start_time, run.info.run_id))
    return found
