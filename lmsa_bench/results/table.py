"""All epochs of all trials as one table, whose columns follow from the fields of trials, records and results."""

import json
from collections.abc import Iterable
from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, canonical

if TYPE_CHECKING:
    import pandas as pd

_ARROW: dict[Any, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _column(hint: Any) -> pa.DataType:
    """The Arrow type of a field: a tuple is a list, a mapping the text of its canonical JSON."""
    origin, inner = get_origin(hint), [part for part in get_args(hint) if part is not type(None)]
    if origin in (Annotated, Union, UnionType):
        return _column(inner[0])
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_column(inner[0]))
    return _ARROW.get(hint, pa.string())


def _columns(kind: type[Trial] | type[EpochRecord] | type[TrialResult]) -> dict[str, pa.DataType]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _column(hints[field.name]) for field in fields(kind)}


# One row an epoch: the trial's columns, the epoch's, and those of the trial's end (null while it runs), which repeat in
# each row. What a trial's end has in common with its best epoch, such as test figures, is in that epoch's row.
_TRIAL, _EPOCH = _columns(Trial), _columns(EpochRecord)
_END = {name: kind for name, kind in _columns(TrialResult).items() if name not in _EPOCH}
# So are its outcomes, packed as in trial.outcomes; null where they were not kept.
_ALL = {"trial": pa.string(), "configuration": pa.string()} | _TRIAL | _EPOCH | _END | {"outcomes": pa.binary()}
SCHEMA = pa.schema([*_ALL.items()])


class Entry(NamedTuple):
    """What one trial's folder holds."""

    trial: Trial
    records: list[EpochRecord]
    result: TrialResult | None
    outcomes: bytes | None = None  # of a trial that has finished: see trial.outcomes


def rows(entries: Iterable[Entry]) -> pa.Table:
    """One table of all epochs of these trials, in a fixed order; a trial that ended without an epoch has one row."""
    columns: list[dict[str, Any]] = []
    for trial, records, result, outcomes in sorted(entries, key=lambda entry: entry.trial.id):
        shared = {"trial": trial.id, "configuration": trial.configuration} | _plain(trial, _TRIAL)
        if result is not None:
            shared |= _plain(result, _END)
        epochs: list[EpochRecord | None] = [*records] or [None]
        for record in epochs:
            row = dict(shared)
            if record is not None:
                row |= _plain(record, _EPOCH)
                if result is not None and record.epoch == result.best_epoch:
                    row |= {"test_loss": result.test_loss, "test_accuracy": result.test_accuracy}
                    row["outcomes"] = outcomes
            columns.append(row)
    return pa.Table.from_pylist(columns, schema=SCHEMA)


def _plain(one: Trial | EpochRecord | TrialResult, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in names}
    return {name: canonical(value) if isinstance(value, dict) else value for name, value in values.items()}


def frame(table: pa.Table) -> "pd.DataFrame":
    """The same rows for pandas, with a column for each hyper-parameter (``hparam_…`` where its name is taken)."""
    import pandas as pd  # here: a table alone does without it

    found = table.to_pandas()
    wide = pd.DataFrame(map(json.loads, found.pop("hparams")), index=found.index)
    return found.join(wide.rename(columns={name: f"hparam_{name}" for name in wide if name in found}))
