"""Trials as they are sent to a worker: plain values, JSON on the wire."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.spec import Trial, Value

RETRIES = 2  # of a trial whose worker or node dies, from its last epoch, or that of its source model
HANG = "hang.txt"  # in a trial's folder: where its threads were when its worker was considered hung


def why_it_hung(dump: Path, seconds: float) -> str | None:
    """What is said of a process that ``workers.watchdog`` ended, None where it did not."""
    hung = dump.exists() and dump.stat().st_size
    return f"no epoch within {seconds:g} s; its threads were at {dump}" if hung else None


@dataclass(frozen=True)
class Orders:
    """What all trials of a sweep share: where they read and write, and the resources of each."""

    data: str
    results: str
    storage: str | None
    plugins: tuple[str, ...]
    cpus: float
    gpus: float
    timeout: float  # seconds without an epoch after which the worker is considered hung; 0: never
    report_each_epoch: bool = False  # to Ray, for a scheduler that stops trials early
    scratch: str = ""  # a folder of the driver's that a node which shares its disk sees
    peers: int = 1  # workers that start together

    @classmethod
    def of(cls, suite: Suite, journal: Journal, data: Path, report_each_epoch: bool = False) -> "Orders":
        """The orders for a suite's trials; a node that shares no disk has a results folder of its own."""
        uri = journal.storage.uri if journal.storage else None
        results = journal.root / "node" if uri else journal.root
        return cls(
            str(data), str(results), uri, suite.plugins, suite.cpus, suite.gpus, suite.timeout, report_each_epoch
        )


@dataclass(frozen=True)
class Job:
    """One trial with its orders, and the facts that its result records beside what the worker finds."""

    trial: Trial
    facts: Mapping[str, Value]
    orders: Orders
    then: tuple[Trial, ...] = ()  # of the same setting, which the worker runs after it

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that the worker runs, in order."""
        return (self.trial, *self.then)

    def to_config(self) -> dict[str, str]:
        """The configuration of a trial of Ray Tune: one text, for Tune copies each nested value of it many times."""
        return {"job": json.dumps(asdict(self))}

    @classmethod
    def from_config(cls, config: Mapping[str, str]) -> "Job":
        """The job whose configuration this is."""
        raw = json.loads(config["job"])
        orders = raw["orders"] | {"plugins": tuple(raw["orders"]["plugins"])}
        then = tuple(Trial(**one) for one in raw["then"])
        return cls(Trial(**raw["trial"]), raw["facts"], Orders(**orders), then)
