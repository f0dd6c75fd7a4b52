"""All that the tables and figures of one suite show."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lmsa_bench.analysis.budgets import Budget
from lmsa_bench.analysis.forgetting import Kept
from lmsa_bench.analysis.measures import Measures
from lmsa_bench.analysis.ranks import Difference, Statistics
from lmsa_bench.analysis.selection import Cell
from lmsa_bench.analysis.trials import History
from lmsa_bench.analysis.verdicts import Verdicts

DEFAULT_FIGURES = ("accuracies", "critical_difference")


class Section(NamedTuple):
    """What a figure of the suite says in words: lines below the table, and a document in its JSON."""

    name: str
    lines: list[str]
    document: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A suite's cells with their tests; rows in the suite's order."""

    suite: str
    title: str
    tasks: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]  # (row, task)
    statistics: Statistics  # over tasks
    blocked: Statistics | None = None  # over (task, seed) pairs
    differences: tuple[Difference, ...] = ()  # of the best row to each other one
    figures: tuple[str, ...] = DEFAULT_FIGURES
    measures: Measures | None = None  # where there are trials
    verdicts: Verdicts | None = None  # None where there are no rows to compare
    headline: tuple[str, ...] = ()  # the answer, a sentence each
    budgets: tuple[Budget, ...] = ()  # of each row and task that is complete
    kept: Mapping[tuple[str, str], Kept] = field(default_factory=dict)  # of the source's accuracy, by row and task
    sections: tuple[Section, ...] = ()
    part: str = ""  # of the suite: what its trials were chosen by, as in Suite.part
    notes: tuple[str, ...] = ()  # footnotes: what its trials do not have in common
    histories: tuple[History, ...] = ()  # its trials that have started

    @property
    def order(self) -> list[str]:
        """The rows by average rank, those without a rank first."""
        ranks = self.statistics.average_ranks
        return sorted(self.rows, key=lambda row: ranks.get(row, -1.0))

    def best(self, task: str) -> set[str]:
        """The rows with the highest mean on a task."""
        means = {row: mean for row in self.rows if (mean := self.cells[row, task].mean) is not None}
        return {row for row, mean in means.items() if math.isclose(mean, max(means.values()), abs_tol=1e-9)}
