"""A sweep that adds replications until all is decided that can be."""

from collections.abc import Callable, Sequence

from lmsa_bench.analysis.sequential import Look, Standing, standing
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.spec import Trial


def run_until(suite: Suite, planned: Sequence[Look], journal: Journal, run: Callable[[list[Trial]], None]) -> Standing:
    """Runs what each look needs, and returns the last one's standing; ``suite`` has the most replications.

    Where trials do not end, as after an interrupt, no reason is given for the end.
    """
    tried = set[str]()
    while True:
        journal.refresh()
        found = standing(suite, journal.table(), planned)
        finished = journal.finished()
        pending = [trial for trial in found.trials if trial.id not in finished and trial.id not in tried]
        if not pending:
            return found
        done, n = len(found.decided), found.look.n
        print(
            f"{done} of {found.pairs} comparisons are decided; up to {n} replications: {len(pending)} trials",
            flush=True,
        )
        tried |= {trial.id for trial in pending}
        run(pending)
