"""What a notebook needs: suites run here, their results as frames and reports."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmsa_bench import local
from lmsa_bench.analysis import codes
from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.grids import reached
from lmsa_bench.data.arguments import DEFAULT_DATA
from lmsa_bench.errors import UserError
from lmsa_bench.models.weights import content_of
from lmsa_bench.report import figures
from lmsa_bench.report.notebook import SuiteReport
from lmsa_bench.results.arguments import DEFAULT_RESULTS, Changed
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.place import Place
from lmsa_bench.results.table import Entry, frame, rows
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial import provenance
from lmsa_bench.trial.outcomes import unpacked
from lmsa_bench.trial.spec import Trial, TrialResult

if TYPE_CHECKING:
    import pandas as pd


class TaskOutcomes(NamedTuple):
    """Finished trials of one task, and which images of its test split each got right.

    The split is drawn by the seed, so column i is the same image in trials of one seed and variant only.
    """

    trials: tuple[Trial, ...]
    correct: NDArray[np.bool_]  # (trials, images)


@dataclass(frozen=True)
class Results:
    """A results folder, or the trials of it that were run together; each trial's own folder is the truth."""

    journal: Journal
    ids: Collection[str] | None = None  # None: all trials of the folder

    def table(self) -> pa.Table:
        """One row an epoch, as in ``results.table.SCHEMA``."""
        return rows(self._entries())

    def _entries(self) -> Iterable[Entry]:
        return self.journal.entries() if self.ids is None else map(self.journal.entry, sorted(self.ids))

    def frame(self) -> "pd.DataFrame":
        """The same for pandas, with a column for each hyper-parameter."""
        return frame(self.table())

    def outcomes(self, task: str, variant: str | None = None) -> "TaskOutcomes":
        """Which test images each finished trial of a task got right; trials that did not keep it are left out.

        Raises UserError where the trials were tested on sets of several sizes: name a variant.
        """
        kept = [entry for entry in self._entries() if entry.trial.task == task and entry.outcomes is not None]
        kept = [entry for entry in kept if variant in (None, entry.trial.variant)]
        kept.sort(key=lambda entry: entry.trial.id)
        sizes = {entry.result.test_size for entry in kept if entry.result}
        if len(sizes) > 1:
            raise UserError(f"task {task}: test sets of {sorted(sizes)} images are no one array: name a variant")
        size = sizes.pop() if sizes else 0
        rows = [unpacked(entry.outcomes or b"", size) for entry in kept]
        correct = np.stack(rows) if rows else np.zeros((0, 0), bool)
        return TaskOutcomes(tuple(entry.trial for entry in kept), correct)

    def report(self, suite: Suite) -> SuiteReport:
        """A suite's report from all trials of the folder; raises UserError where none of its trials has ended."""
        figures.check(suite)
        suite.refuse_missing_weights()
        table = self.journal.table()
        return SuiteReport(report(suite, table, codes.footnotes(suite, table)))


def open_results(results: str | Path = DEFAULT_RESULTS, storage: str | None = None) -> Results:
    """The results folder of earlier runs, with what its object store has; raises UserError where there is none."""
    return Results(opened(Path(results), storage))


def run(
    what: Suite | Trial,
    results: str | Path = DEFAULT_RESULTS,
    data: str | Path = DEFAULT_DATA,
    *,
    gpus: float | None = None,
    changed: Changed = "refuse",
) -> Results:
    """Runs what is missing of a suite, or a trial, in this process: what raises ends in its own traceback.

    Trials that have ended are not run again; one that was interrupted resumes from its checkpoint. ``gpus`` takes a GPU
    where the suite does not. A trial that cannot be run raises UserError; in a suite the report tells of it. Where code
    has changed since trials ended, that raises UserError too, or they are run anew ("rerun") or stay ("keep").
    """
    if isinstance(what, Trial):
        what = replace(what, weights_sha256=content_of(what.weights))
    suite = Suite(what.task, (what.task,), (), (what,)) if isinstance(what, Trial) else what
    suite.refuse_missing_weights()
    journal = opened(Path(results), make=True)
    failed: dict[str, TrialResult] = {}

    def note(trial: Trial, result: TrialResult) -> None:
        if result.status == "failed":
            failed[trial.label] = result

    if isinstance(what, Suite):
        journal.add_suite(suite.name, [trial.id for trial in suite.trials])
    offered = 'changed="rerun" runs them anew, changed="keep" keeps them and says so below the table'
    finished = codes.ended(suite, journal, changed, offered)
    tried = set(finished)
    while True:
        now = reached(suite, journal.table()) if suite.grows else suite  # of extended grids what they have come to
        if not (pending := [trial for trial in now.needed if trial.id not in tried]):
            break
        tried |= {trial.id for trial in pending}
        with local.ready(suite.plugins, suite.cpus, suite.gpus if gpus is None else gpus) as device:
            facts = provenance.of_process() | ({"config": suite.config} if suite.config else {})
            local.run_all(pending, Place(journal, Path(data).absolute(), device, facts), note)
    if isinstance(what, Trial) and failed:
        raise UserError(f"{what.label}: {failed[what.label].reason}")
    return Results(journal, frozenset(trial.id for trial in now.needed))
