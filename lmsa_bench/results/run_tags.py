"""What an MLflow run says of a trial, and back: plain values, no MLflow."""

import json
import math
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from lmsa_bench.errors import UserError, one_line
from lmsa_bench.results import reading
from lmsa_bench.results.table import Entry
from lmsa_bench.trial.spec import PROTOCOL, EpochRecord, Trial, TrialResult, canonical, metrics_of

KEY = "lmsa.trial_key"
SUITE_KEY = "lmsa.suite_key"
STATUS = "lmsa.status"
EPOCH_METRICS, RESULT_METRICS = metrics_of(EpochRecord), metrics_of(TrialResult)
# What is read back, and nothing that a person reads: MLflow's pages list no tag that begins like its own.
DOCUMENTS = "mlflow.lmsa"
TAG_LENGTH = 4900  # servers of MLflow 2 refuse more than 5,000 characters and MLflow 3 cuts at 8,000, silently
SOURCE = {"commit": "mlflow.source.git.commit", "command": "mlflow.source.name"}  # provenance that MLflow's pages show


class Draft(NamedTuple):
    """A run that is not there yet, as MLflow would keep it."""

    name: str
    status: str
    start: int | None  # milliseconds, as is the end; None: now
    end: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[tuple[str, float, int, int]]  # name, value, milliseconds, step


def milliseconds(seconds: float) -> int:
    """Seconds as MLflow counts time."""
    return round(seconds * 1000)


def metrics(records: list[EpochRecord], result: TrialResult | None) -> Iterator[tuple[str, float, int, int]]:
    """(name, value, milliseconds, step); times come from the records, so that MLflow ignores what it already has."""
    for record in records:
        for name, metric in EPOCH_METRICS.items():
            if metric.tracked and (value := getattr(record, name)) is not None:
                yield metric.tracked, float(value), milliseconds(record.time), record.epoch
    if result is None or not records:
        return
    # MLflow's list shows the last value of a metric, so the early-stopped figures have names of their own.
    for name, metric in RESULT_METRICS.items():
        if metric.tracked and (value := getattr(result, name)) is not None:
            yield metric.tracked, float(value), milliseconds(records[-1].time), 0


def params(trial: Trial) -> dict[str, Any]:
    """A trial's hyper-parameters and all that tells it from others."""
    return {**trial.hparams} | {
        name: getattr(trial, name) for name in ("task", "variant", "method", "seed", "epochs", "batch_size")
    }


def suite_tag(suite_name: str) -> str:
    """The name of the tag by which a trial belongs to a suite: to several perhaps, but to one parent run only."""
    return f"lmsa.suite.{suite_name}"


def tags(entry: Entry, suite_name: str) -> dict[str, str]:
    """All that a trial's folder holds, for people and to be read back by ``entry_of``."""
    trial, records, result, outcomes = entry
    best = [r.layers for r in records if result is not None and r.epoch == result.best_epoch]
    facts = result.provenance if result is not None else {}
    return {
        suite_tag(suite_name): "true",
        STATUS: result.status if result is not None else "running",
        "layers": " ".join(map(str, best[0])) if best else "",
        **{tag: str(facts[name])[:TAG_LENGTH] for name, tag in SOURCE.items() if facts.get(name)},
        **_split(f"{DOCUMENTS}.trial", canonical(trial.to_json())),
        **_split(f"{DOCUMENTS}.records", canonical([asdict(record) for record in records])),
        **_split(f"{DOCUMENTS}.result", canonical(asdict(result) if result is not None else None)),
        **_split(f"{DOCUMENTS}.outcomes", canonical(None if outcomes is None else b64encode(outcomes).decode())),
    }


def draft(entry: Entry, suite_name: str, parent: str) -> Draft:
    """The whole run of a trial, below the suite's."""
    trial, records, result, _ = entry
    start = milliseconds(records[0].time - records[0].seconds) if records else None
    end = milliseconds(records[-1].time) if records else None
    own = {KEY: trial.id, "lmsa.suite": suite_name, "mlflow.parentRunId": parent}
    shown = {name: str(value) for name, value in params(trial).items()}
    told = list(metrics(records, result))
    return Draft(trial.label, run_status(result), start, end, tags(entry, suite_name) | own, shown, told)


def entry_of(tags: dict[str, str]) -> Entry | None:
    """The trial that a run's tags tell of; None where it is a suite's, of another protocol, or not filled yet.

    Raises UserError where a tag says what no trial can have left.
    """
    # Older versions had another name for the documents, and no outcomes.
    at = next((name for name in (DOCUMENTS, "lmsa") if f"{name}.result.0" in tags), None)
    if at is None:
        return None
    key = tags.get(KEY, "")
    try:
        trial, raw, result = (_join(f"{at}.{name}", tags) for name in ("trial", "records", "result"))
        outcomes = _join(f"{at}.outcomes", tags) if f"{at}.outcomes.0" in tags else None
        if reading.protocol_of(canonical(trial)) != PROTOCOL:
            return None
        return reading.whole(
            reading.parse(Trial, canonical(trial), key, f"{at}.trial"),
            reading.records(map(canonical, raw), key, f"{at}.records"),
            None if result is None else reading.parse(TrialResult, canonical(result), key, f"{at}.result"),
            None if outcomes is None else b64decode(outcomes, validate=True),
        )
    except (ValueError, TypeError, RecursionError) as error:
        name = tags.get("mlflow.runName", "")
        raise UserError(
            f"MLflow run {name!r} of trial {key}: cannot be read ({one_line(error)}); delete it and run "
            "python -m lmsa_bench.results sync"
        ) from None


def run_status(result: TrialResult | None) -> str:
    """MLflow's word for it: to have diverged is a result."""
    return "RUNNING" if result is None else "FAILED" if result.status == "failed" else "FINISHED"


def is_beyond_repair(
    tags: dict[str, str], shown: Mapping[str, float], shown_params: Mapping[str, str], ours: Entry
) -> bool:
    """Whether a run with these is made anew: what it says cannot be taken back, and is not what its trial left.

    That is another end than ours, such as by other code, a tag that cannot be read, or a metric or parameter that
    somebody else has written.
    """
    try:
        there = entry_of(tags)
    except UserError:
        return True
    if any(shown_params.get(name, str(value)) != str(value) for name, value in params(ours.trial).items()):
        return True
    if there is None or there.result is None or STATUS not in tags:
        return False
    last = {name: value for name, value, _, _ in metrics(there.records, there.result)}
    if not all(name in shown and _same(shown[name], value) for name, value in last.items()):
        return True
    if ours.result is None or "failed" in (ours.result.status, there.result.status):
        return False
    return _numbers(there) != _numbers(ours)


def _same(shown: float, value: float) -> bool:
    """Whether a database shows this value; infinity it keeps as its largest number."""
    largest = sys.float_info.max
    return shown == max(-largest, min(largest, value)) or (math.isnan(shown) and math.isnan(value))


def is_current(tags: dict[str, str], status: str, ours: Entry) -> bool:
    """Whether a run with these tags and MLflow's status stays, written from another folder that had the trial run.

    Its numbers are ours then, or it is further; only its times are its own.
    """
    try:
        there = entry_of(tags)
    except UserError:  # it is written anew
        return False
    if there is None or STATUS not in tags or status != run_status(there.result):
        return False
    if status == "FINISHED":
        return run_status(ours.result) != "FINISHED" or _numbers(there) == _numbers(ours)
    if there.result is not None or ours.result is not None or not there.records or not ours.records:
        return False
    return there.records[0].time != ours.records[0].time and len(there.records) >= len(ours.records)


def _numbers(entry: Entry) -> str:
    """What a trial's run anew gives again; as text, in which nan equals itself."""
    trial, records, result, outcomes = entry
    assert result is not None
    data = {name: result.provenance.get(name) for name in ("data", "source", "trial_code")}
    timeless: list[Mapping[str, Any]] = [asdict(replace(record, seconds=0.0, time=0.0)) for record in records]
    known = None if outcomes is None else outcomes.hex()
    return canonical([trial.to_json(), timeless, asdict(replace(result, seconds=0.0, provenance=data)), known])


def _split(name: str, text: str) -> dict[str, str]:
    return {f"{name}.{i}": text[start : start + TAG_LENGTH] for i, start in enumerate(range(0, len(text), TAG_LENGTH))}


def _join(name: str, tags: dict[str, str]) -> Any:
    """What _split wrote; a longer text that stood there before has left its end behind, which is not read."""
    text = "".join(tags[f"{name}.{i}"] for i in range(len(tags)) if f"{name}.{i}" in tags)
    return json.JSONDecoder().raw_decode(text)[0]
