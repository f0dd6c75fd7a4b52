"""From epochs to one number a row and task: the best epoch and the best hyper-parameters, by validation alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmsa_bench.analysis.origins import origins, refuse_mixtures
from lmsa_bench.analysis.ranks import Interval, t_interval
from lmsa_bench.errors import UserError
from lmsa_bench.trial.spec import Trial, TrialResult, Value

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs


class Part(NamedTuple):
    """What a cell averages over: a variant of the task and the values of the row's `averaged` hyper-parameters."""

    variant: str
    averaged: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, trial: Trial, averaged: tuple[str, ...]) -> "Part":
        """The part that a trial of a row with these averaged hyper-parameters counts in."""
        return cls(trial.variant, tuple((name, trial.hparams.get(name)) for name in averaged))

    @property
    def label(self) -> str:
        return " ".join([self.variant] * bool(self.variant) + [f"{name}={value}" for name, value in self.averaged])


class End(NamedTuple):
    """A trial by validation; the figures are those of its best epoch, if it has finished."""

    status: str | None
    reason: str
    epoch: int | None
    val_accuracy: float
    val_loss: float
    layers: tuple[int, ...]
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: TrialResult) -> "End":
        """What a result says of it, for choosing: without layers."""
        accuracy, loss = (math.nan if value is None else value for value in (result.val_accuracy, result.val_loss))
        return cls(result.status, result.reason, result.best_epoch, accuracy, loss, ())


@dataclass(frozen=True)
class Cell:
    """A row's result on one task: accuracies are fractions of the test set at the best epoch by validation."""

    row: str
    task: str
    mean: float | None  # over seeds; None where a selected trial diverged or no seed is complete
    interval: Interval | None = None  # 95 %, over seeds
    n: int = 0  # seeds that are complete in all selected configurations
    seeds: int = 0  # of the suite
    accuracies: Mapping[int, float] = field(default_factory=dict)  # by seed, the mean over variants
    variants: Mapping[str, float] = field(default_factory=dict)  # each variant's own mean over its complete seeds
    selected: Mapping[str, Any] = field(default_factory=dict)  # hyper-parameters, by part where the parts differ
    layers: Mapping[tuple[int, ...], int] = field(default_factory=dict)  # tuned at the best epoch: selected trials
    diverged: int = 0  # trials of the selected configurations
    failed: Mapping[str, int] = field(default_factory=dict)  # reason -> trials, of all configurations
    missing: int = 0  # trials of all configurations that have not ended
    codes: Mapping[str, int] = field(default_factory=dict)  # provenance's trial_code -> trials, of all configurations
    remarks: Mapping[str, int] = field(default_factory=dict)  # remark -> trials, of all configurations
    tried: int = 0  # configurations that were chosen from, for each part
    edges: tuple[str, ...] = ()  # hyper-parameters of which an end of the grid was chosen

    @property
    def score(self) -> float | None:
        """What is ranked: the mean, -inf where the selected configuration diverged, None where there is nothing."""
        return -math.inf if self.diverged else self.mean

    def score_at(self, seed: int) -> float | None:
        """The same for one seed."""
        return -math.inf if self.diverged else self.accuracies.get(seed)


def cells(suite: "Suite", table: pa.Table) -> list[Cell]:
    """All cells of a suite's table; raises UserError where the records do not belong in one table."""
    known = outcomes(of_trials(suite.probes, table))
    probed = [
        trial for trial in suite.probes if trial.id in known and known[trial.id].status in ("finished", "diverged")
    ]
    table = of_suite(suite, table)
    refuse_mixtures(table)
    facts = origins(table)
    ends = outcomes(table)
    tests = tested(table)
    configurations = defaultdict(list)
    for trial in suite.trials:
        configurations[trial.configuration].append(trial)
    found = []
    for row in suite.rows:
        own = {name: trials for name, trials in configurations.items() if name in row.configurations}
        for task in suite.tasks:
            there = {name: trials for name, trials in own.items() if trials[0].task == task}
            shown = _searched(there.values(), row.averaged)
            probes = [t for t in probed if t.configuration in row.configurations and t.task == task]
            found.append(_cell(row, task, choose(there, row.averaged, ends), there, shown, ends, tests, facts, probes))
    return found


def tested(table: pa.Table) -> dict[str, float]:
    """The test accuracy of each trial that has finished, at its best epoch by validation."""
    best = table.filter(pc.equal(table["epoch"], table["best_epoch"]))
    rows = zip(best["trial"].to_pylist(), best["test_accuracy"].to_pylist(), strict=True)
    return {trial: accuracy for trial, accuracy in rows if accuracy is not None}


def of_suite(suite: "Suite", table: pa.Table) -> pa.Table:
    """The rows of the suite's trials."""
    return of_trials(suite.trials, table)


def of_trials(trials: Iterable[Trial], table: pa.Table) -> pa.Table:
    """The rows of these trials."""
    wanted = pa.array([trial.id for trial in trials], pa.string())
    return table.filter(pc.is_in(table["trial"], value_set=wanted))


def outcomes(table: pa.Table) -> dict[str, End]:
    """Each trial by validation; its best epoch is the one with the smallest EpochRecord.stopping_key."""
    order = [("trial", "ascending"), ("val_accuracy", "descending"), ("val_loss", "ascending"), ("epoch", "ascending")]
    rows = table.select(["trial", "status", "reason", "best_epoch", *End._fields[2:]]).sort_by(order)  # null comes last
    names = rows["trial"].to_numpy()
    best = rows.filter(pa.array(np.concatenate([[True], names[1:] != names[:-1]])[: len(names)]))
    ends = {}
    for row in best.to_pylist():
        trial, status, remarks = row["trial"], row["status"], tuple(row["remarks"] or ())
        if status != "finished":
            ends[trial] = End(status, row["reason"] or "", None, math.nan, math.nan, (), remarks)
        elif row["epoch"] is None or row["epoch"] != row["best_epoch"]:
            raise UserError(
                f"trial {trial}: its result names epoch {row['best_epoch']} as the best by validation, its records do "
                "not: its folder was changed; remove it and run the suite again"
            )
        else:
            layers = tuple(row["layers"])
            ends[trial] = End(status, "", row["epoch"], row["val_accuracy"], row["val_loss"], layers, remarks)
    return ends


def choose(
    configurations: Mapping[str, list[Trial]], averaged: tuple[str, ...], ends: Mapping[str, End]
) -> dict[Part, list[Trial]]:
    """For each part of a cell, all trials of the configuration that validation prefers; an empty list where none ran.

    Fewer diverged seeds go first, then the higher mean val accuracy over the finished seeds, then the lower val loss.
    """
    parts: dict[Part, list[str]] = defaultdict(list)
    for name, trials in configurations.items():
        parts[Part.of(trials[0], averaged)].append(name)

    def standing(configuration: str) -> tuple[int, float, float, str] | None:
        ended = [ends[trial.id] for trial in configurations[configuration] if trial.id in ends]
        finished = [end for end in ended if end.status == "finished"]
        diverged = sum(end.status == "diverged" for end in ended)
        if not finished:
            return (diverged, math.inf, math.inf, configuration) if diverged else None
        # Rounded, since the same fractions summed in another order are still a tie.
        accuracy = round(fmean(end.val_accuracy for end in finished), 12)
        return diverged, -accuracy, round(fmean(end.val_loss for end in finished), 12), configuration

    chosen = {}
    for part, names in parts.items():
        standings = [found for name in names if (found := standing(name)) is not None]
        chosen[part] = configurations[min(standings)[-1]] if standings else []
    return chosen


def _cell(
    row: "Row",
    task: str,
    chosen: Mapping[Part, list[Trial]],
    configurations: Mapping[str, list[Trial]],
    shown: list[str],
    ends: Mapping[str, End],
    tests: Mapping[str, float],
    facts: Mapping[str, Mapping[str, Any]],
    probes: Collection[Trial],
) -> Cell:
    variants, accuracies = _by_variant(chosen, tests), accuracies_of(chosen, tests)
    selected = [trial.id for trials in chosen.values() for trial in trials]
    every = [trial for trials in configurations.values() for trial in trials]
    ended = {trial.id: ends[trial.id] for trial in every if trial.id in ends and ends[trial.id].status is not None}
    diverged = sum(trial in ended and ended[trial].status == "diverged" for trial in selected)
    values = [] if diverged else list(accuracies.values())
    return Cell(
        row.name,
        task,
        fmean(values) if values else None,
        interval=t_interval(values),
        n=len(accuracies),
        seeds=len({trial.seed for trial in every}),
        accuracies=accuracies,
        variants={variant: fmean(values.values()) for variant, values in variants.items() if variant and values},
        selected=_selected(chosen, shown),
        layers=Counter(ends[trial].layers for trial in selected if trial in tests),
        diverged=diverged,
        failed=Counter(end.reason for end in ended.values() if end.status == "failed"),
        missing=len(every) - len(ended),
        codes=Counter(str(facts[trial.id].get("trial_code", "")) for trial in every if trial.id in facts),
        remarks=Counter(remark for end in ended.values() for remark in end.remarks),
        tried=len(configurations) // max(1, len(chosen)),
        edges=_edges(chosen, [*every, *probes], row.averaged, shown),
    )


def accuracies_of(chosen: Mapping[Part, list[Trial]], tests: Mapping[str, float]) -> dict[int, float]:
    """The mean over variants of the chosen trials' accuracies, at each seed that all have."""
    return mean_by_seed(list(_by_variant(chosen, tests).values()))


def _by_variant(chosen: Mapping[Part, list[Trial]], tests: Mapping[str, float]) -> dict[str, dict[int, float]]:
    by_part = {part: {t.seed: tests[t.id] for t in trials if t.id in tests} for part, trials in chosen.items()}
    return {
        variant: mean_by_seed([values for part, values in by_part.items() if part.variant == variant])
        for variant in dict.fromkeys(part.variant for part in by_part)
    }


def mean_by_seed(groups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean of the groups at each seed that all of them have."""
    common = set.intersection(*map(set, groups)) if groups else set()
    return {seed: fmean(group[seed] for group in groups) for seed in sorted(common)}


def _searched(configurations: Iterable[list[Trial]], averaged: tuple[str, ...]) -> list[str]:
    """The hyper-parameters that have more than one value in a row's configurations."""
    values = defaultdict(set)
    for trials in configurations:
        for name, value in trials[0].hparams.items():
            values[name].add(value)
    return sorted(name for name, found in values.items() if len(found) > 1 and name not in averaged)


def _edges(
    chosen: Mapping[Part, list[Trial]], tried: Collection[Trial], averaged: tuple[str, ...], shown: list[str]
) -> tuple[str, ...]:
    """The numbers among the searched hyper-parameters of which a part chose the smallest or the largest it tried.

    Only configurations that are like the chosen one otherwise count.
    """
    found = dict[str, None]()
    for part, trials in chosen.items():
        own = [trial for trial in tried if Part.of(trial, averaged) == part]
        for name in shown if trials else ():
            values = {trial.hparams[name] for trial in own if without(trial, name) == without(trials[0], name)}
            numbers = [value for value in values if type(value) in (int, float)]
            searched = len({trial.hparams[name] for trial in own}) > 1
            if searched and len(numbers) == len(values) and trials[0].hparams[name] in (min(numbers), max(numbers)):  # type: ignore[type-var]
                found[name] = None
    return tuple(found)


def without(trial: Trial, name: str) -> dict[str, Value]:
    """A trial's other hyper-parameters."""
    return {other: value for other, value in trial.hparams.items() if other != name}


def _selected(chosen: Mapping[Part, list[Trial]], shown: list[str]) -> dict[str, Any]:
    by_part = {
        part.label: {name: trials[0].hparams[name] for name in shown if name in trials[0].hparams}
        for part, trials in chosen.items()
        if trials
    }
    first = next(iter(by_part.values()), {})
    return first if all(values == first for values in by_part.values()) else by_part
