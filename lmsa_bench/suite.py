"""From a YAML file of tune_configs/ to a checked list of trials."""

from dataclasses import dataclass

from lmsa_bench.trial.spec import Trial


@dataclass(frozen=True)
class Row:
    """A row of the suite's table: the configurations that compete for it."""

    name: str
    ranked: bool
    averaged: tuple[str, ...]  # hyper-parameters whose values are averaged over, not chosen from (LIFT's order)
    configurations: frozenset[str]  # Trial.configuration


@dataclass(frozen=True)
class Suite:
    """A checked suite file."""

    name: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    trials: tuple[Trial, ...]  # all rows x tasks x variants x grid x seeds, each once
