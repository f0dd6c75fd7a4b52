"""How far a sweep has come: a live view on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from lmsa_bench.analysis.endings import failures
from lmsa_bench.results.journal import Journal
from lmsa_bench.trial.spec import Trial

SECONDS = 10  # between plain lines
ENOUGH = 5  # ended trials, after which the time left is told
RECENT = 5  # trials of a kind that tell how long the next one takes
MOST_FAILURES = 10  # reasons that are printed

Kind = tuple[str, str, int]  # task, method, epochs: trials that take about as long


def kind(trial: Trial) -> Kind:
    """What decides about how long a trial takes."""
    return trial.task, trial.method, trial.epochs


def seconds_seen(journal: Journal) -> dict[Kind, float]:
    """The mean training seconds of ended trials, for each kind."""
    seen = defaultdict(list)
    for end in journal.ends():
        if end.status == "finished":
            seen[end.task, end.method, end.epochs].append(end.total_seconds)
    return {which: sum(seconds) / len(seconds) for which, seconds in seen.items()}


def in_order(trials: Sequence[Trial], seen: Mapping[Kind, float]) -> list[Trial]:
    """One trial of each kind first, task by task, which tells the time that the others take; those longest first."""
    first = dict[Kind, Trial]()
    for trial in trials:
        first.setdefault(kind(trial), trial)
    early = sorted(first.values(), key=lambda trial: (trial.setting, trial.variant, trial.seed))
    names = {trial.id for trial in early}
    late = [trial for trial in trials if trial.id not in names]
    return early + sorted(late, key=lambda trial: seen.get(kind(trial), float("inf")), reverse=True)


class Progress:
    """Counts the trials that end, tells each failure, and the time left once the trials so far tell it."""

    def __init__(self, trials: Sequence[Trial], rows: Mapping[str, str], plain: bool | None = None) -> None:
        self.rows = rows  # by Trial.configuration, the row of the table
        self.total, self.done, self.failures = len(trials), 0, 0
        self.waiting = Counter(kind(trial) for trial in trials)
        self.awaited = Counter[Kind]()  # beside them: what is not known yet to be needed
        self.took = defaultdict[Kind, list[float]](list)
        self.started: float | None = None  # the first trial: until then Ray and workers start
        self.begun = self.printed = self.ended = time.monotonic()
        self.reasons = set[str]()  # of failures, as they were told
        self.best: dict[tuple[str, str], float] = {}
        self.tasks = list(dict.fromkeys(trial.task for trial in trials))
        self.doing, self.last = "starting", ""
        self.live: Live | None = None
        console = Console(stderr=True)
        if console.is_terminal if plain is None else not plain:
            self.spinner = Spinner("dots")
            self.live = Live(
                console=console,
                get_renderable=self._view,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # else what is printed goes to a file, and must stay there
            )

    def __getstate__(self) -> dict[str, object]:
        """Without the terminal: Tune keeps a copy of its callbacks on disk."""
        return {name: value for name, value in vars(self).items() if name not in ("live", "spinner")}

    def show(self) -> None:
        """Begins with the live view, on a terminal on which nothing else draws from now on."""
        if self.live is not None:
            self.live.start()

    def typical(self, trial: Trial) -> float | None:
        """The seconds that the last trials of its kind took, None where none has ended."""
        took = self.took.get(kind(trial))
        return median(took[-RECENT:]) if took else None

    def now(self, doing: str) -> None:
        """Shows what happens, on a terminal."""
        self.doing = doing

    def expect(self, more: Sequence[Trial], awaited: Sequence[Trial]) -> None:
        """These trials are to end as well, and others like those awaited may come."""
        self.total += len(more)
        self.waiting.update(kind(trial) for trial in more)
        self.awaited = Counter(kind(trial) for trial in awaited)

    def add(
        self, trial: Trial, *, seconds: float | None = None, accuracy: float | None = None, failure: str = ""
    ) -> None:
        """One more trial has ended: how long it took (None: since the last one), its accuracy, or why it failed."""
        now, before = time.monotonic(), self.ended
        took = now - before if seconds is None else seconds
        self.done, self.ended, self.last = self.done + 1, now, trial.label
        self.started = now - took if self.started is None else self.started
        self.waiting[kind(trial)] -= 1
        if failure:
            self.failures += 1
            why = failure.replace(trial.id, "")
            if why not in self.reasons and len(self.reasons) < MOST_FAILURES:
                self.reasons.add(why)
                print(*failures([(trial, failure)]), flush=True)
        else:
            self.took[kind(trial)].append(took)
        if accuracy is not None and not failure:
            cell = self.rows.get(trial.configuration, trial.method), trial.task
            self.best[cell] = max(accuracy, self.best.get(cell, 0.0))
        if self.live is None and (self.done == self.total or now - self.printed >= SECONDS):
            self.printed = now
            left = self.left()
            rate = "" if left is None else f", {self.done / (now - self.started):.2f} trials/s, {clock(left)} left"
            rate = f", {self.failures} failed" * bool(self.failures) + rate
            print(f"{self.done}/{self.total} trials{rate}; last: {self.last}", flush=True)

    def left(self) -> float | None:
        """Seconds until all have ended, as long as others of their kinds took; None while too little is known."""
        known = {which: median(seconds) for which, seconds in self.took.items()}
        spent = sum(map(sum, self.took.values()))
        coming = self.waiting + self.awaited
        unknown = sum(count for which, count in coming.items() if which not in known)
        if self.started is None or self.done <= ENOUGH or unknown >= self.done or not spent:
            return None
        typical = mean(known.values())
        ahead = sum(count * known.get(which, typical) for which, count in coming.items())
        return max(0.0, ahead / spent * (self.ended - self.started) - (time.monotonic() - self.ended))

    def _view(self) -> Group:
        """What a terminal shows now: one line, a bar, and the table as far as it is known."""
        parts = [self.doing, f"{self.done} of {self.total} trials", *[f"{self.failures} failed"] * bool(self.failures)]
        left, spent = self.left(), clock(time.monotonic() - self.begun)
        parts += [spent if left is None else f"{spent}, about {clock(left)} left"]
        self.spinner.update(text=" · ".join(parts))
        table = Table("method", *self.tasks, box=None)
        for row in dict.fromkeys(self.rows.values()):
            cells = [self.best.get((row, task)) for task in self.tasks]
            if any(cell is not None for cell in cells):
                table.add_row(row, *("" if cell is None else f"{100 * cell:.1f}" for cell in cells))
        known: list[RenderableType] = ["Best validation accuracy so far, in %", table] if self.best else []
        return Group(self.spinner, *known, ProgressBar(self.total, self.done))  # last, since it ends no line

    def close(self) -> None:
        """Leaves the terminal to what follows."""
        if self.live is not None:
            self.live.stop()


def clock(seconds: float) -> str:
    """A duration for people, such as 1 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
