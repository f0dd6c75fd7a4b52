"""What is measured, one function a row: each gives one value a round, of what is run one after the other."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Literal

import psutil

from lmsa_bench import local
from lmsa_bench.bench import arithmetic
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.suites.load import load
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.shared import FOLDER
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, canonical

LOOK_SECONDS = 0.25  # between two looks at the memory of a command


@dataclass(frozen=True)
class Row:
    """A row of the benchmark; ``measure`` is given the data folder, with all data and source models, and a free one."""

    what: str
    unit: Literal["ratio", "s", "MiB"]
    better: Literal["higher", "lower"]
    measure: Callable[[Path, Path], float]
    needs: tuple[str, ...] = ("quickstart",)  # suites whose data and source models are there before


def command(*arguments: str | Path, look: Callable[[psutil.Process], object] = lambda process: None) -> float:
    """Runs a module of this package as a command of its own; returns its seconds; raises UserError where it fails.

    Its process is looked at four times a second while it runs.
    """
    started = time.perf_counter()
    shown = ["-m", *map(str, arguments)]
    with subprocess.Popen([sys.executable, *shown], stdout=PIPE, stderr=PIPE, text=True) as process:
        while True:
            try:
                out, err = process.communicate(timeout=LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                with suppress(psutil.Error):
                    look(psutil.Process(process.pid))
    if process.returncode:
        raise UserError(f"{' '.join(shown)}: {(err or out).strip()[-500:]}")
    return time.perf_counter() - started


def forget(data: Path) -> None:
    """Removes what trials have left for others: each side computes all of it."""
    shutil.rmtree(data / FOLDER, ignore_errors=True)


def swept(
    suite: str, data: Path, free: Path, *more: str, look: Callable[[psutil.Process], object] = lambda process: None
) -> float:
    """The seconds of a whole sweep, from the command to its last line."""
    forget(data)
    where = ("--plain", "--data", data, "--results", free / "results")
    return command("lmsa_bench.sweep", suite, *where, *more, look=look)


def memory(of: Literal["driver", "worker"]) -> Callable[[Path, Path], float]:
    """A measure: the highest resident memory of a sweep's driver, or of its workers, in MiB."""

    def measure(data: Path, free: Path) -> float:
        highest = 0

        def look(driver: psutil.Process) -> None:
            nonlocal highest
            workers = [child for child in driver.children(recursive=True) if "ray::" in "".join(child.cmdline())]
            for process in [driver] if of == "driver" else workers:
                highest = max(highest, process.memory_info().rss)

        swept("quickstart", data, free, "--seeds", "1", "--only", "task=digits_flip", look=look)
        return highest / 2**20

    return measure


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


def against_plain(suite: str) -> Callable[[Path, Path], float]:
    """A measure: the plain loop's seconds over those of a sweep of the same trials at one seed, on all cores."""

    def measure(data: Path, free: Path) -> float:
        ours = swept(suite, data, free, "--seeds", "1")
        plain = command("lmsa_bench.bench.plain", suite, "--seeds", "1", "--data", data, "--out", free / "plain.json")
        check(load(suite, 1), Journal(free / "results"), json.loads((free / "plain.json").read_text()))
        return plain / ours

    return measure


def check(suite: Suite, journal: Journal, accuracies: dict[str, float]) -> None:
    """Raises UserError where the plain loop and the sweep have not computed the same."""
    for trial in suite.trials:
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
        local.run_all(trials, local.Place(Journal(free / "local", make=True), data, device), ended)
    return seconds


def last_layer(data: Path, free: Path) -> float:
    """A trial of the last layer alone over one of all layers, on Fashion-MNIST, each the second of its kind."""
    suite = load("fashion", 1)
    forget(data)
    alone, whole = (
        one_after_the_other(suite.only(["fashion_flip"], [row]).trials[:2], data, free)[1]
        for row in ("layer_3", "full")
    )
    return alone / whole


def nothing_to_do(data: Path, free: Path) -> float:
    """The seconds of a sweep whose trials have all ended, after one that has published them."""
    made(free / "results", load("quickstart"))
    arguments = ["quickstart", "--data", str(data), "--results", str(free / "results"), "--changed", "keep"]
    command("lmsa_bench.sweep", *arguments)
    return command("lmsa_bench.sweep", *arguments)


def dry_run(suite: str) -> Callable[[Path, Path], float]:
    """A measure: the seconds of a sweep's plan."""
    return lambda data, free: command(
        "lmsa_bench.sweep", suite, "--dry-run", "--data", data, "--results", free / "results"
    )


def publishing(data: Path, free: Path) -> float:
    """The seconds of publishing 500 trials to a new SQLite store, MLflow's import apart."""
    journal = made(free / "results", load("quickstart", 10), 500)
    ResultStore(default_uri(journal.root)).publish(journal, "empty", ())
    store = ResultStore(f"sqlite:///{free}/other.db")
    started = time.perf_counter()
    store.publish(journal, "quickstart")
    return time.perf_counter() - started


def reporting(data: Path, free: Path) -> float:
    """The seconds of a report over 3,000 trials, the second of two."""
    made(free / "results", load("quickstart", 30))
    arguments = ["lmsa_bench.report", "quickstart", "--results", str(free / "results")]
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


def short_trials(data: Path, free: Path) -> float:
    """A sweep of 100 trials that sleep half a second over the half of that sum, start and end of Ray apart."""
    plugin = free / "sleeping.py"
    plugin.write_text(SLEEPING)
    (free / "short.yaml").write_text(SHORT)
    swept(str(free / "short.yaml"), data, free)
    journal = Journal(free / "results")
    ends = sorted((journal.trials / id / "result.json").stat().st_mtime for id in journal.ids())
    return (ends[-1] - ends[0]) / (0.5 * (len(ends) - 1) / (os.cpu_count() or 1))


SHORT = """
suite: short
tasks: [digits_flip]
seeds: 100
epochs: 1
plugins: [sleeping.py]
rows: {sleeping: {}}
"""
SLEEPING = '''
import time

from lmsa_bench.control import selectors
from lmsa_bench.methods import METHODS, Method


@METHODS.register
def sleeping() -> Method:
    """Half a second of nothing."""

    def select(model, batches, step, generator):
        time.sleep(0.5)
        return selectors.Selection((), {})

    return Method(select, None)
'''

ROWS = {
    "quickstart": Row("plain loop / sweep, quickstart, 1 seed", "ratio", "higher", against_plain("quickstart")),
    "fashion": Row("plain loop / sweep, fashion, 1 seed", "ratio", "higher", against_plain("fashion"), ("fashion",)),
    "last_layer": Row("last layer / all layers, a fashion trial", "ratio", "lower", last_layer, ("fashion",)),
    "worker": Row("worker / its arithmetic, digits", "ratio", "lower", over_arithmetic("quickstart", "digits_flip")),
    "worker_fashion": Row(
        "worker / its arithmetic, fashion", "ratio", "lower", over_arithmetic("fashion", "fashion_flip"), ("fashion",)
    ),
    "msa_step": Row("a FLOP of an MSA step / of an Adam step", "ratio", "lower", alone(arithmetic.msa_step)),
    "selection": Row("a FLOP of a selection by Ĵ / of an Adam step", "ratio", "lower", alone(arithmetic.selection)),
    "driver_memory": Row("resident memory of the driver", "MiB", "lower", memory("driver")),
    "worker_memory": Row("resident memory of a worker, the highest", "MiB", "lower", memory("worker")),
    "short_trials": Row("100 trials of 0.5 s / (sum / cores)", "ratio", "lower", short_trials),
    "nothing": Row("nothing to do, 300 trials", "s", "lower", nothing_to_do),
    "dry_run": Row("--dry-run of quickstart", "s", "lower", dry_run("quickstart")),
    "dry_run_table1": Row("--dry-run of table1", "s", "lower", dry_run("table1")),
    "report": Row("report over 3,000 trials", "s", "lower", reporting),
    "publish": Row("publishing 500 trials to SQLite", "s", "lower", publishing),
}
