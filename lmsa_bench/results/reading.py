"""What was written of a trial, read back: every value in its range, and records and result of one trial."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lmsa_bench.errors import one_line
from lmsa_bench.results.table import Entry
from lmsa_bench.trial.outcomes import check
from lmsa_bench.trial.spec import PROTOCOL, EpochRecord, Trial, TrialResult

T = TypeVar("T", bound=Trial | EpochRecord | TrialResult)
_KINDS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Trial, EpochRecord, TrialResult)}
FIGURES = ("best_epoch", "val_accuracy", "val_loss", "test_accuracy", "test_loss")  # of a trial that has finished
LOSSES = ("train_loss", "val_loss", "test_loss")


def parse(kind: type[T], text: bytes | str, trial_id: str, place: str) -> T:
    """The trial, record or result whose JSON this is, of that trial; raises ValueError in one line."""
    try:
        found: T = _KINDS[kind].validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise ValueError(one_line(f"{place}: {at}: {_message(first)}")) from None
    if unknown := set(json.loads(text)) - {field.name for field in fields(kind)}:
        raise ValueError(f"{place} has unknown keys: {sorted(unknown)!r:.80}")
    if trial_id != (found.id if isinstance(found, Trial) else found.trial):
        raise ValueError(f"{place} is not this trial's")
    if isinstance(found, TrialResult) and found.status == "finished":
        for name in FIGURES:
            value = getattr(found, name)
            if value is None or not math.isfinite(value):
                raise ValueError(f"{place}: {name}: {value}, though the trial has finished")
        optional = {"final_train_loss": [found.final_train_loss or 0.0], **found.scores}
        for name, values in optional.items():
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{place}: {name} is not finite, though the trial has finished")
    return found


def records(texts: Iterable[bytes | str], trial_id: str, place: str) -> list[EpochRecord]:
    """A trial's epochs, one JSON each; raises ValueError in one line."""
    found = [parse(EpochRecord, text, trial_id, place) for text in texts]
    for before, after in pairwise(found):
        if after.epoch <= before.epoch:
            raise ValueError(f"{place}: epoch {after.epoch} follows epoch {before.epoch}")
    return found


def whole(trial: Trial, epochs: list[EpochRecord], result: TrialResult | None, outcomes: bytes | None = None) -> Entry:
    """All that is known of a trial; raises ValueError where records or outcomes do not lead to its result."""
    if result is not None and result.status == "finished":
        for record in epochs:
            losses = {name: getattr(record, name) for name in LOSSES}
            values: Sequence[tuple[str, float | None]] = [*losses.items(), *(("step", v) for v in record.step_losses)]
            for name, value in values:
                if value is not None and not math.isfinite(value):
                    raise ValueError(f"epoch {record.epoch}: {name}: {value}, though the trial has finished")
    known = outcomes if result is not None and result.status == "finished" else None
    if known is not None and result is not None:
        check(known, result.test_size, result.test_accuracy)
    return Entry(trial, epochs, result, known)


def protocol_of(text: bytes | str) -> int:
    """The protocol of the trial whose JSON this is; this program's where it tells none."""
    try:
        found = json.loads(text)["protocol"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return PROTOCOL
    return found if isinstance(found, int) else PROTOCOL


def _message(error: Any) -> str:
    """What is wrong with a value, and what was expected."""
    if error["type"] == "missing":
        return str(error["msg"])
    predicates = {"isfinite": "Input should be a finite number", "not_negative": "Input should be at least 0"}
    message = str(error["msg"])
    for name, text in predicates.items():
        if error["type"] == "predicate_failed" and name in message:
            message = text
    return f"{error['input']!r:.40}: {message}"
