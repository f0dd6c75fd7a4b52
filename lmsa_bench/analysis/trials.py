"""Each trial of a suite as it went: its end, its epochs, what it spent and where it comes from."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs

_EPOCH = ("epoch", "train_loss", "val_loss", "val_accuracy", "flops", "kept_bytes", "peak_bytes", "seconds", "time")
_END = ("status", "reason", "best_epoch", "selection_flops", "state_flops", "provenance")


class EpochLine(NamedTuple):
    """One epoch."""

    epoch: int
    train_loss: float | None
    val_loss: float
    val_accuracy: float


class Spent(NamedTuple):
    """What training cost, evaluation apart: FLOPs and bytes counted, seconds timed."""

    flops: int  # of update steps, scoring of layers, and the states below the tuned layers
    bytes: int  # highest of all steps, beside the model
    seconds: float


@dataclass(frozen=True)
class History:
    """A trial that has started; test accuracy is that of its best epoch by validation."""

    trial: Trial
    status: str  # finished, diverged, failed or running
    reason: str
    best_epoch: int | None
    test_accuracy: float | None
    spent: Spent
    epochs: tuple[EpochLine, ...]
    provenance: Mapping[str, Any]
    time: float | None  # seconds since 1970, at the end of its last epoch

    @property
    def best(self) -> EpochLine | None:
        """The epoch that validation chose."""
        return next((one for one in self.epochs if one.epoch == self.best_epoch), None)


def histories(suite: "Suite", table: pa.Table) -> tuple[History, ...]:
    """The trials of the suite that have started, in its order."""
    rows = defaultdict[str, list[dict[str, Any]]](list)
    for row in table.select(["trial", "test_accuracy", *_EPOCH, *_END]).to_pylist():
        rows[row["trial"]].append(row)
    return tuple(_history(trial, rows[trial.id]) for trial in suite.trials if trial.id in rows)


def _history(trial: Trial, rows: list[dict[str, Any]]) -> History:
    end, epochs = rows[0], sorted((row for row in rows if row["epoch"] is not None), key=lambda row: row["epoch"])
    tested = [row["test_accuracy"] for row in epochs if row["epoch"] == end["best_epoch"]]
    return History(
        trial,
        end["status"] or "running",
        end["reason"] or "",
        end["best_epoch"],
        tested[0] if tested else None,
        Spent(
            sum(row["flops"] for row in epochs) + (end["selection_flops"] or 0) + (end["state_flops"] or 0),
            max((row["peak_bytes"] or row["kept_bytes"] for row in epochs), default=0),
            sum(row["seconds"] for row in epochs),
        ),
        tuple(EpochLine(*(row[name] for name in EpochLine._fields)) for row in epochs),
        json.loads(end["provenance"] or "{}"),
        max((row["time"] for row in epochs), default=None),
    )
