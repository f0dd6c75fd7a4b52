"""What is measured, one function a row: each gives one value a round, of what is run one after the other."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from lmsa_bench import local
from lmsa_bench.bench import arithmetic
from lmsa_bench.bench.sweeps import (
    command,
    cpu_ms,
    each_more,
    forget,
    linear,
    memory,
    of_trials,
    resident_kib,
    short_trials,
    swept,
)
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.place import Place
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.names import task_of
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, canonical

GROWING = """
suite: growing
tasks: [digits_noise]
seeds: {seeds}
epochs: 10
sources: one
task_options: {{digits_noise: {{strengths: ["0.5/{labels}"]}}}}
rows:
  full: {{grid: {{lr: {rates}}}}}
  lmsa: {{grid: {{lr: {rates}}}}}
"""


@dataclass(frozen=True)
class Row:
    """A row of the benchmark; ``measure`` is given the data folder, with all data and source models, and a free one."""

    what: str
    unit: Literal["ratio", "s", "ms", "MiB", "KiB"]
    better: Literal["higher", "lower"]
    measure: Callable[[Path, Path], float]
    needs: tuple[str, ...] = ("quickstart",)  # suites whose data and source models are there before
    seeds: int | None = None  # of quickstart, whose made-up trials it is measured over

    @property
    def title(self) -> str:
        """What is measured, with the number of trials where they are made up."""
        return self.what if self.seeds is None else f"{self.what} {len(load('quickstart', self.seeds).trials):,} trials"


def over_arithmetic(suite: str, task: str) -> Callable[[Path, Path], float]:
    """A measure: trials of full fine-tuning and MSA, each the second of its kind, over their arithmetic alone."""

    def measure(data: Path, free: Path) -> float:
        forget(data)
        ours = alone = 0.0
        for row in ("full", "full_msa"):
            trials = load(suite, 1).only([task], [row]).trials[:2]
            ours += one_after_the_other(trials, data, free)[1]
            with local.ready():
                alone += arithmetic.of_trial(trials[1], data)
        return ours / alone

    return measure


def alone(of: Callable[[Path, Path], float]) -> Callable[[Path, Path], float]:
    """The same measure on one thread, as a worker has it."""

    def measure(data: Path, free: Path) -> float:
        with local.ready():
            return of(data, free)

    return measure


def of_selection(suite: str, task: str) -> Callable[[Path, Path], float]:
    """A measure: a selection by the predicted loss on a task over its arithmetic."""
    return alone(lambda data, free: arithmetic.selection(suite, task, data))


def against_plain(suite: str) -> Callable[[Path, Path], float]:
    """A measure: the plain loop's seconds over those of a sweep of the same trials at one seed, on all cores."""

    def measure(data: Path, free: Path) -> float:
        ours = swept(suite, data, free, "--seeds", "1")
        journal = Journal(free / "results")
        # Grids that go on have not come to all.
        ended = [trial for trial in load(suite, 1).trials if journal.result(trial.id) is not None]
        (free / "trials.json").write_text(json.dumps([trial.id for trial in ended]))
        files = ("--trials", free / "trials.json", "--data", data, "--out", free / "plain.json")
        plain = command("lmsa_bench.bench.plain", suite, "--seeds", "1", *files)
        check(ended, journal, json.loads((free / "plain.json").read_text()))
        return plain / ours

    return measure


def check(trials: Sequence[Trial], journal: Journal, accuracies: dict[str, float]) -> None:
    """Raises UserError where the plain loop and the sweep have not computed the same."""
    for trial in trials:
        result, other = journal.result(trial.id), accuracies[trial.id]
        found = None if result is None else result.test_accuracy
        if (found is None) != (other != other) or (found is not None and found != other):
            raise UserError(f"{trial.label}: the plain loop's test accuracy is {other}, the sweep's {found}")


def one_after_the_other(trials: Sequence[Trial], data: Path, free: Path) -> list[float]:
    """The seconds of each of these trials in this process, each in the company of those before it."""
    seconds, started = list[float](), time.perf_counter()

    def ended(trial: Trial, result: TrialResult) -> None:
        nonlocal started
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()

    with local.ready() as device:
        local.run_all(trials, Place(Journal(free / "local", make=True), data, device), ended)
    return seconds


def of_suite(what: Literal["seeds", "labels", "rates"]) -> Callable[[int, Path, Path], float]:
    """The CPU seconds, in this process, of trials with so many seeds, labels of a class, or learning rates."""

    def measure(count: int, data: Path, free: Path) -> float:
        suite = {"seeds": 1, "labels": 20, "rates": 1} | {what: count}
        rates = [round(1e-3 * 1.1**i, 6) for i in range(suite["rates"])]
        (free / "growing.yaml").write_text(GROWING.format(**suite | {"rates": rates}))
        trials = load(str(free / "growing.yaml")).trials
        with local.ready() as device:
            for trial in trials[:1]:  # its source model, and what is done once in a process, are no part of it
                SourceModel(task_of(trial), data, trial.seed).ensure(device)
                one_after_the_other(trials[:1], data, free / "first")
        forget(data)
        started = time.process_time()
        one_after_the_other(trials, data, free / str(count))
        return time.process_time() - started

    return measure


def last_layer(data: Path, free: Path) -> float:
    """A trial of the last layer alone over one of all layers, on Fashion-MNIST, each the second of its kind."""
    suite = load("fashion", 1)
    forget(data)
    alone, whole = (
        one_after_the_other(suite.only(["fashion_flip"], [row]).trials[:2], data, free)[1]
        for row in ("layer_3", "full")
    )
    return alone / whole


def nothing_to_do(seeds: int, data: Path, free: Path) -> float:
    """The seconds of a sweep whose trials have all ended, after one that has published them."""
    made(free / "results", load("quickstart", seeds))
    arguments = ["quickstart", "--seeds", str(seeds), "--data", str(data), "--results", str(free / "results")]
    command("lmsa_bench.sweep", *arguments, "--changed", "keep")
    return command("lmsa_bench.sweep", *arguments, "--changed", "keep")


def dry_run(suite: str) -> Callable[[Path, Path], float]:
    """A measure: the seconds of a sweep's plan, of which nothing was counted before."""

    def measure(data: Path, free: Path) -> float:
        forget(data)
        return command("lmsa_bench.sweep", suite, "--dry-run", "--data", data, "--results", free / "results")

    return measure


def publishing(seeds: int, data: Path, free: Path) -> float:
    """The seconds of publishing trials to a new SQLite store, MLflow's import apart."""
    journal = made(free / "results", load("quickstart", seeds))
    ResultStore(default_uri(journal.root)).publish(journal, "empty", ())
    store = ResultStore(f"sqlite:///{free}/other.db")
    started = time.perf_counter()
    store.publish(journal, "quickstart")
    return time.perf_counter() - started


def reporting(seeds: int, data: Path, free: Path) -> float:
    """The seconds of a report, the second of two."""
    made(free / "results", load("quickstart", seeds))
    arguments = ["lmsa_bench.report", "quickstart", "--seeds", str(seeds), "--results", str(free / "results")]
    command(*arguments)
    return command(*arguments)


def made(root: Path, suite: Suite, most: int | None = None) -> Journal:
    """A results folder with made-up ends of a suite's trials."""
    journal = Journal(root, make=True)
    journal.add_suite(suite.name, [trial.id for trial in suite.trials[:most]])
    for i, trial in enumerate(suite.trials[:most]):
        accuracy = 0.5 + (i % 37) / 100
        folder = journal.folder(trial)
        records = [
            EpochRecord(trial.id, epoch, 1.0, 1.0 / epoch, accuracy, 0.1, 1, (0,), 1.7e9 + epoch)
            for epoch in range(1, trial.epochs + 1)
        ] or [EpochRecord(trial.id, 0, None, 1.0, accuracy, 0.0, 0, (), 1.7e9)]
        (folder / "records.jsonl").write_text("".join(canonical(asdict(record)) + "\n" for record in records))
        result = TrialResult(
            trial.id, "finished", "", trial.epochs, accuracy, 1.0 / max(1, trial.epochs), accuracy, 1.0, 600
        )
        (folder / "result.json").write_text(canonical(asdict(result)))
    return journal


def over(measure: Callable[[int, Path, Path], float], seeds: int, what: str) -> Row:
    """A row over made-up trials of quickstart."""
    return Row(what, "s", "lower", partial(measure, seeds), seeds=seeds)


ROWS = {
    "quickstart": Row("plain loop / sweep, quickstart, 1 seed", "ratio", "higher", against_plain("quickstart")),
    "fashion": Row("plain loop / sweep, fashion, 1 seed", "ratio", "higher", against_plain("fashion"), ("fashion",)),
    "last_layer": Row("last layer / all layers, a fashion trial", "ratio", "lower", last_layer, ("fashion",)),
    "worker": Row("worker / its arithmetic, digits", "ratio", "lower", over_arithmetic("quickstart", "digits_flip")),
    "worker_fashion": Row(
        "worker / its arithmetic, fashion", "ratio", "lower", over_arithmetic("fashion", "fashion_flip"), ("fashion",)
    ),
    "msa_step": Row("an MSA step / its arithmetic, digits", "ratio", "lower", alone(arithmetic.msa_step)),
    "selection": Row(
        "a selection by Ĵ / its arithmetic, digits", "ratio", "lower", of_selection("quickstart", "digits_flip")
    ),
    "selection_fashion": Row(
        "a selection by Ĵ / its arithmetic, fashion",
        "ratio",
        "lower",
        of_selection("fashion", "fashion_flip"),
        ("fashion",),
    ),
    "driver_memory": Row("resident memory of the driver", "MiB", "lower", memory("driver")),
    "worker_memory": Row("resident memory of a worker, the highest", "MiB", "lower", memory("worker")),
    "short_trials": Row("100 trials of 0.5 s / (sum / cores)", "ratio", "lower", short_trials),
    "nothing": over(nothing_to_do, 1, "nothing to do,"),
    "nothing_5000": over(nothing_to_do, 12, "nothing to do,"),
    "dry_run": Row("--dry-run of quickstart", "s", "lower", dry_run("quickstart")),
    "dry_run_table1": Row("--dry-run of table1", "s", "lower", dry_run("table1")),
    "report": over(reporting, 12, "report over"),
    "publish": over(publishing, 12, "publishing to SQLite,"),
    "driver_cpu": Row("CPU of the driver for a trial that does nothing", "ms", "lower", each_more(cpu_ms)),
    "driver_growth": Row("memory of the driver for a trial that does nothing", "KiB", "lower", each_more(resident_kib)),
    "linear_seeds": Row("each more seed, 4 to 8 / 2 to 4", "ratio", "lower", linear(of_suite("seeds"), 2)),
    "linear_grid": Row("each more rate, 4 to 8 / 2 to 4", "ratio", "lower", linear(of_suite("rates"), 2)),
    "linear_images": Row("each more image, 100 to 200 / 50 to 100", "ratio", "lower", linear(of_suite("labels"), 5)),
    "linear_trials": Row(
        "the driver, each more trial, 1,000 to 2,000 / 500 to 1,000", "ratio", "lower", linear(of_trials(cpu_ms), 500)
    ),
}
