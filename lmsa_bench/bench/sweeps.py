"""Commands as a user runs them, looked at from outside: their seconds, memory and CPU."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Literal

import psutil

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.trial.shared import FOLDER

LOOK_SECONDS = 0.25  # between two looks at the memory of a command
FEW, MANY = 500, 2000  # trials that do nothing
SUITE = """
suite: sleeping
tasks: [digits_flip]
seeds: {seeds}
epochs: 1
sources: one
plugins: [sleeping.py]
rows: {{sleeping: {{grid: {{seconds: {seconds}}}}}}}
"""
SEEDS = 20  # of a suite of trials that do nothing; the rest is its grid
SLEEPING = '''
import time

from lmsa_bench.control import selectors
from lmsa_bench.methods import METHODS, Method


@METHODS.register
def sleeping(seconds: float) -> Method:
    """Does nothing."""

    def select(model, batches, step, generator):
        time.sleep(seconds)
        return selectors.Selection((), {})

    return Method(select, None)
'''


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
            for process in [driver] if of == "driver" else driver.children(recursive=True):
                with suppress(psutil.Error):  # it has ended
                    if process == driver or "ray::" in "".join(process.cmdline()):
                        highest = max(highest, process.memory_info().rss)

        swept("quickstart", data, free, "--seeds", "1", "--only", "task=digits_flip", look=look)
        return highest / 2**20

    return measure


def sleeping(free: Path, trials: int, seconds: float) -> str:
    """The file of a suite of so many trials that sleep so long, a multiple of SEEDS."""
    (free / "sleeping.py").write_text(SLEEPING)
    grid = [seconds + i * 1e-6 for i in range(trials // SEEDS)]
    (free / "sleeping.yaml").write_text(SUITE.format(seeds=SEEDS, seconds=grid))
    return str(free / "sleeping.yaml")


def short_trials(data: Path, free: Path) -> float:
    """A sweep of 100 trials that sleep half a second over the half of that sum, start and end of Ray apart."""
    swept(sleeping(free, 100, 0.5), data, free)
    journal = Journal(free / "results")
    ends = sorted((journal.trials / id / "result.json").stat().st_mtime for id in journal.ids())
    return (ends[-1] - ends[0]) / (0.5 * (len(ends) - 1) / (os.cpu_count() or 1))


def linear(of: Callable[[int, Path, Path], float], least: int) -> Callable[[Path, Path], float]:
    """A measure: what each more costs between twice and four times the least size, over that between it and twice."""

    def measure(data: Path, free: Path) -> float:
        least_cost, twice, four_times = (of(least * by, data, free) for by in (1, 2, 4))
        return (four_times - twice) / (2 * (twice - least_cost))

    return measure


def of_trials(of: Callable[[psutil.Process], float]) -> Callable[[int, Path, Path], float]:
    """The highest value of a number of the driver, in a sweep of so many trials that do nothing."""

    def measure(trials: int, data: Path, free: Path) -> float:
        highest = 0.0

        def look(driver: psutil.Process) -> None:
            nonlocal highest
            highest = max(highest, of(driver))

        swept(sleeping(free, trials, 0), data, free, look=look)
        shutil.rmtree(free / "results")
        return highest

    return measure


def each_more(of: Callable[[psutil.Process], float]) -> Callable[[Path, Path], float]:
    """A measure: by how much a number of a sweep's driver grows with each trial more that does nothing."""
    at = of_trials(of)
    return lambda data, free: (at(MANY, data, free) - at(FEW, data, free)) / (MANY - FEW)


def cpu_ms(process: psutil.Process) -> float:
    """The milliseconds of a CPU that a process has had."""
    times = process.cpu_times()
    return 1000 * float(times.user + times.system)


def resident_kib(process: psutil.Process) -> float:
    """A process's resident memory."""
    return float(process.memory_info().rss) / 1024
