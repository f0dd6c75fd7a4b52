"""What the trials of a suite measured, beyond the cells of its table: for figures and for the fidelity of criteria."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lmsa_bench.analysis.selection import End, choose, mean_by_seed, outcomes
from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs

COLUMNS = (
    *("trial", "epoch", "val_accuracy", "val_loss", "test_accuracy", "flops", "seconds", "layers"),
    *("step_losses", "accuracy_steps", "step_accuracies"),
    *("best_epoch", "final_train_loss", "selection_flops", "scores"),
)

Layers = tuple[int, ...]  # ascending
Place = tuple[str, int]  # a variant and a seed of one task


class Epoch(NamedTuple):
    """One epoch; test accuracies and the losses of its steps are there where the trial has curves."""

    seconds: float
    test_accuracy: float | None
    step_losses: list[float]
    accuracies: list[tuple[int, float]]  # of the test after single steps, which count from 1 through all epochs


class Measured(NamedTuple):
    """A finished trial; accuracies are those of its best epoch by validation."""

    trial: Trial
    val_accuracy: float
    val_loss: float
    test_accuracy: float
    train_loss: float | None  # on the tuning set after training; None where nothing is trained
    layers: Layers  # tuned, or chosen where nothing is trained
    badness: tuple[float, ...]  # a criterion's score of each layer, smaller is better
    epochs: tuple[Epoch, ...]
    selection_flops: int = 0
    epoch_flops: int = 0  # of the update steps, the most of any epoch

    @property
    def place(self) -> Place:
        return self.trial.variant, self.trial.seed

    @property
    def trained(self) -> bool:
        return self.trial.epochs > 0


class Truth(NamedTuple):
    """What tuning each layer alone, or each set of so many, led to, at one variant and seed of a task.

    A list has one value for each of ``subsets``.
    """

    accuracies: list[float]  # of the test, at the lr that validation chooses
    losses: list[float]  # on the tuning set after training, at the lr where its mean over seeds is lowest


@dataclass(frozen=True)
class Measures:
    """The finished trials of a suite, by what figures ask for."""

    suite: "Suite"
    ends: Mapping[str, End]  # by trial id
    found: Mapping[str, Measured]  # by trial id

    def configurations(self, row: "Row", task: str) -> dict[str, list[Trial]]:
        """A row's trials on a task, by Trial.configuration."""
        found = defaultdict(list)
        for trial in self.suite.trials:
            if trial.task == task and trial.configuration in row.configurations:
                found[trial.configuration].append(trial)
        return found

    def finished(self, trials: list[Trial]) -> list[Measured]:
        """Those of the trials that have finished."""
        return [self.found[trial.id] for trial in trials if trial.id in self.found]

    def chosen(self, row: "Row", task: str) -> list[list[Measured]]:
        """The trials that validation chooses, all seeds of each part of the row's mean."""
        parts = choose(self.configurations(row, task), row.averaged, self.ends)
        return [self.finished(trials) for trials in parts.values()]

    def by_seed(self, row: "Row", task: str, value: Callable[[Measured], float | None]) -> dict[int, float]:
        """A number of the chosen trials at each seed, the mean over the parts."""
        parts = [[(m.trial.seed, value(m)) for m in part] for part in self.chosen(row, task)]
        return mean_by_seed([{seed: number for seed, number in part if number is not None} for part in parts])

    def criteria(self, task: str) -> dict[str, dict[Place, Measured]]:
        """The rows that only score layers: row name -> variant and seed -> trial."""
        scored = {
            row.name: {m.place: m for part in self.chosen(row, task) for m in part if m.badness and not m.trained}
            for row in self.suite.rows
        }
        return {name: places for name, places in scored.items() if places}

    def declared(self, task: str) -> dict[Layers, "Row"]:
        """The rows declared as truth, by the layers that each tunes."""
        found: dict[Layers, Row] = {}
        for row in self.suite.rows:
            tuned = {m.layers for part in self.chosen(row, task) for m in part if m.trained} if row.truth else set()
            if len(tuned) == 1:
                found.setdefault(tuned.pop(), row)
        return dict(sorted(found.items()))

    def layers(self, task: str, size: int = 1) -> dict[Layers, "Row"]:
        """Those that tune so many layers each."""
        return {layers: row for layers, row in self.declared(task).items() if len(layers) == size}

    def truths(self, task: str, size: int = 1) -> dict[Place, Truth]:
        """By variant and seed what each layer, or each set of so many, is worth, where every one was tuned."""
        rows = self.layers(task, size)
        if list(rows) != subsets(1 + max(itertools.chain(*rows), default=-1), size):
            return {}
        accuracies = [
            {m.place: m.test_accuracy for part in self.chosen(row, task) for m in part} for row in rows.values()
        ]
        losses = [self._lowest_losses(row, task) for row in rows.values()]
        places = set.intersection(*map(set, accuracies + losses)) if rows else set()
        return {
            place: Truth([layer[place] for layer in accuracies], [layer[place] for layer in losses])
            for place in sorted(places)
        }

    def costs(self, task: str) -> dict[str, dict[Place, float]]:
        """What criteria cost: row name -> variant and seed -> FLOPs, in epochs of tuning all layers.

        Such an epoch is the cheapest of the suite's at that place; where it has none, nothing is told.
        """
        criteria, epochs = self.criteria(task), defaultdict[Place, list[int]](list)
        layers = {len(m.badness) for scored in criteria.values() for m in scored.values()}
        for trial in self.suite.trials:
            m = self.found.get(trial.id)
            if m is not None and trial.task == task and len(m.layers) in layers and m.epoch_flops and _at_once(trial):
                epochs[m.place].append(m.epoch_flops)
        return {
            name: {place: m.selection_flops / min(epochs[place]) for place, m in scored.items() if place in epochs}
            for name, scored in criteria.items()
        }

    def _lowest_losses(self, row: "Row", task: str) -> dict[Place, float]:
        by_variant = defaultdict(list)
        for trials in self.configurations(row, task).values():
            losses = {m.place: m.train_loss for m in self.finished(trials) if m.train_loss is not None}
            # One with fewer seeds, the others having diverged, is no candidate beside a complete one.
            by_variant[trials[0].variant].append((-len(losses), fmean(losses.values()) if losses else 0.0, losses))
        found: dict[Place, float] = {}
        for candidates in by_variant.values():
            found |= min(candidates, key=lambda candidate: candidate[:2])[2]
        return found


def subsets(layers: int, size: int) -> list[Layers]:
    """All sets of so many of a model's layers, in order."""
    return list(itertools.combinations(range(layers), size))


def _at_once(trial: Trial) -> bool:
    """Whether the layers that a trial tuned in an epoch were tuned in each step of it, with all their parameters."""
    from lmsa_bench.methods import METHODS  # imports torch, which no table needs
    from lmsa_bench.methods.method import as_it_is

    if trial.method not in METHODS.names():
        return True  # of a plug-in that is not here
    method = METHODS.get(trial.method)(**trial.hparams)
    return method.every.count is None and method.prepare is as_it_is


def measure(suite: "Suite", table: pa.Table) -> Measures:
    """Reads a suite's finished trials from a journal's table."""
    wanted = pa.array([trial.id for trial in suite.trials], pa.string())
    table = table.filter(pc.is_in(table["trial"], value_set=wanted))
    ends, trials = outcomes(table), {trial.id: trial for trial in suite.trials}
    epochs = defaultdict(list)
    for row in table.select(COLUMNS).to_pylist():
        epochs[row["trial"]].append(row)
    finished = {trial: rows for trial, rows in epochs.items() if ends[trial].status == "finished"}
    return Measures(
        suite, ends, {trial: _measured(trials[trial], rows, suite.criteria) for trial, rows in finished.items()}
    )


def _measured(trial: Trial, rows: list[dict[str, Any]], criteria: Sequence[str]) -> Measured:
    rows = sorted(rows, key=lambda row: row["epoch"])
    best = next(row for row in rows if row["epoch"] == row["best_epoch"])
    scores = json.loads(best["scores"] or "{}")
    # The criterion that a hyper-parameter names comes before others that it may have logged.
    names = [*map(str, trial.hparams.values()), *criteria]
    values: list[float] = next((scores[name] for name in names if name in scores), [])
    layers = tuple(best["layers"])
    # A criterion chooses its best layer, so that layer tells whether a small or a large value is good.
    sign = -1 if values and layers and values[layers[0]] == max(values) != min(values) else 1
    return Measured(
        trial,
        best["val_accuracy"],
        best["val_loss"],
        best["test_accuracy"],
        best["final_train_loss"],
        layers,
        tuple(sign * value for value in values),
        tuple(map(_epoch, rows)),
        best["selection_flops"] or 0,
        max(row["flops"] or 0 for row in rows),
    )


def _epoch(row: dict[str, Any]) -> Epoch:
    accuracies = list(zip(row["accuracy_steps"] or [], row["step_accuracies"] or [], strict=True))
    return Epoch(row["seconds"], row["test_accuracy"], row["step_losses"] or [], accuracies)
