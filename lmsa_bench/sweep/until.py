"""A sweep in steps, each of which depends on the results before: extended grids, and replications until decided."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.sequential import Look, Standing, standing
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.spec import Trial


class Steps:
    """What a sweep needs next; ``suite`` is the part of it that was needed last."""

    def __init__(self, whole: Suite, planned: Sequence[Look], journal: Journal) -> None:
        self.whole, self.planned, self.journal = whole, planned, journal
        self.suite = whole
        self.standing: Standing | None = None  # where it runs until all is decided

    @property
    def several(self) -> bool:
        """Whether what is needed depends on results."""
        return bool(self.planned) or self.whole.grows

    def needed(self) -> Sequence[Trial]:
        """The trials that count by the records so far."""
        table = self.journal.table()
        if not self.planned:
            self.suite = reached(self.whole, table)
            return self.suite.needed
        self.standing = found = standing(self.whole, table, self.planned)
        self.suite = replace(self.whole, trials=found.trials)
        print(
            f"{len(found.decided)} of {found.pairs} comparisons are decided at {found.look.n} replications"
            + (f"; ended since {found.over}" if found.over else ""),
            flush=True,
        )
        return found.trials


def run_in_steps(needed: Callable[[], Sequence[Trial]], journal: Journal, run: Callable[[list[Trial]], None]) -> None:
    """Runs what is needed by the records so far and has not ended, until nothing more is; a trial that fails, once."""
    tried = set[str]()
    while True:
        journal.refresh()
        wanted, finished = needed(), journal.finished()
        pending = [trial for trial in wanted if trial.id not in finished and trial.id not in tried]
        if not pending:
            return
        tried |= {trial.id for trial in pending}
        run(pending)
