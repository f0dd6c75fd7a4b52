"""Which trials a sweep needs by the results so far: extended grids, and replications until all is decided."""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import NamedTuple

from lmsa_bench.analysis.grids import awaited, grown
from lmsa_bench.analysis.selection import End, of_trials, outcomes
from lmsa_bench.analysis.sequential import Look, Standing, standing
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.spec import Trial


class Growth(NamedTuple):
    """What extended grids have come to since, and trials like those that they are likely to come to."""

    trials: list[Trial]
    awaited: list[Trial]


Grow = Callable[[Callable[[Trial], bool]], Growth]


class Steps:
    """A sweep's trials, each handed out once; ``suite`` is the part of the whole that is needed by now."""

    def __init__(self, whole: Suite, planned: Sequence[Look], journal: Journal) -> None:
        self.whole, self.planned, self.journal = whole, planned, journal
        self.suite = self.possible = whole
        self.standing: Standing | None = None  # where it runs until all is decided
        self.ends = dict[str, End]()
        self.handed = set[str]()

    def pending(self) -> list[Trial]:
        """The trials that are needed next; none once all have ended or been handed out."""
        self.journal.refresh()
        if self.planned:
            self.standing = found = standing(self.whole, self.journal.table(), self.planned)
            self.possible = replace(self.whole, trials=found.trials)
            print(
                f"{len(found.decided)} of {found.pairs} comparisons are decided at {found.look.n} replications"
                + (f"; ended since {found.over}" if found.over else ""),
                flush=True,
            )
        if self.whole.grows:
            known = outcomes(of_trials(self.possible.trials, self.journal.table()))
            self.ends = {trial: end for trial, end in known.items() if end.status is not None}
            return self._next({trial for trial, end in self.ends.items() if end.status != "failed"})
        return self._next(self.journal.finished())

    def grow(self, able: Callable[[Trial], bool]) -> Growth:
        """The trials that extended grids have come to since and that can run now, asked while others run."""
        if not self.whole.grows or self.journal.storage is not None:  # what ended on other nodes is not here yet
            return Growth([], [])
        for trial in self.suite.needed:
            if trial.id not in self.ends and (result := self.journal.result(trial.id)) is not None:
                self.ends[trial.id] = End.of(result)
        found = self._next(self.ends, able)
        return Growth(found, awaited(self.possible, {trial.id for trial in self.suite.trials}, self.ends))

    def _next(self, ended: Container[str], able: Callable[[Trial], bool] = lambda trial: True) -> list[Trial]:
        self.suite = grown(self.possible, self.ends) if self.whole.grows else self.possible
        fresh = [trial for trial in self.suite.needed if trial.id not in ended and trial.id not in self.handed]
        found = [trial for trial in fresh if able(trial)]
        for trial in found:
            self.handed.add(trial.id)
            self.ends.pop(trial.id, None)  # of one that had failed, and is tried again
        return found
