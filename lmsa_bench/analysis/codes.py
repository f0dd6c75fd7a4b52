"""Which finished trials ran on other code than is here, and what differs."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa

from lmsa_bench.analysis.origins import origins
from lmsa_bench.analysis.selection import of_suite
from lmsa_bench.errors import UserError
from lmsa_bench.results.arguments import Changed as Asked
from lmsa_bench.results.index import End
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial.spec import Trial, hash_of

MOST_FILES = 5  # named in a message


class Changed(NamedTuple):
    """Ended trials whose code has changed since; ``files`` are those that differ, as far as they are known."""

    codes: Mapping[str, str]  # what they ran on, by trial id; "" where that is not known
    rows: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def text(self) -> str:
        """Which rows, how many trials, and which files."""
        more = len(self.files) - MOST_FILES
        named = ", ".join(self.files[:MOST_FILES]) + (f" and {more} more" if more > 0 else "")
        return f"{self.who} ran on other code than is here ({named or 'it is not known which files changed'})"

    @property
    def who(self) -> str:
        """How many trials of which rows."""
        return f"{len(self.codes)} finished trial{'s' * (len(self.codes) > 1)} of {', '.join(self.rows)}"


def changed(
    suite: Suite, ended: Mapping[str, str], listing: Callable[[str], Mapping[str, str]] = lambda code: {}
) -> Changed | None:
    """Those of a suite's trials whose recorded code, by trial id, is not today's; None where there are none.

    ``listing`` tells the files of a recorded code.
    """
    codes, files, seen = dict[str, str](), set[str](), set[tuple[str, str]]()
    configurations = set[str]()
    for trial in suite.trials:
        if trial.id not in ended:
            continue
        code, modules = ended[trial.id], _modules(suite, trial)
        if code == (now := hash_of(modules)):
            continue
        codes[trial.id] = code
        configurations.add(trial.configuration)
        if (code, now) not in seen:
            seen.add((code, now))
            before = listing(code)
            files |= _differing(before, modules) if before else set()
    if not codes:
        return None
    rows = [row.name for row in suite.rows if configurations & row.configurations]
    methods = dict.fromkeys(trial.method for trial in suite.trials if trial.id in codes)
    return Changed(codes, tuple(rows or methods), tuple(sorted(files)))


def footnotes(suite: Suite, table: pa.Table) -> list[str]:
    """What a table says of trials that ran on other code than is here, a line for all; those that tell none are left.

    They may be all of a row, so that no cell mixes two codes, and still differ from another row's.
    """
    recorded = {trial: facts.get("trial_code") for trial, facts in origins(of_suite(suite, table)).items()}
    found = changed(suite, {trial: code for trial, code in recorded.items() if code})
    return [] if found is None else [f"{found.who} ran on other code than this version's."]


def ended(suite: Suite, journal: Journal, asked: Asked, offered: str) -> set[str]:
    """The trials of a folder that need no further run; of the suite's, those whose code has changed as is asked.

    They are run anew, or stay, or raise UserError, which ends with what is ``offered``.
    """
    ends = journal.ends()
    found, finished = changed_trials(suite, journal, ends), {end.trial for end in ends if end.lasts}
    if found is not None and asked == "refuse":
        raise UserError(f"suite {suite.name}: {found.text}: {offered}")
    if found is not None and asked == "rerun":
        for trial_id, code in found.codes.items():
            journal.forget(trial_id, code)
        finished.difference_update(found.codes)
    return finished


def changed_trials(suite: Suite, journal: Journal, ends: Iterable[End]) -> Changed | None:
    """Those of a suite's finished trials that ran on other code than is here, or do not tell on which."""
    recorded = {end.trial: end.code for end in ends if end.lasts}
    return changed(suite, recorded, journal.code)


def _modules(suite: Suite, trial: Trial) -> Mapping[str, str]:
    if (known := suite.modules.get(trial.configuration)) is not None:
        return known
    from lmsa_bench.trial.code import modules_of  # imports torch, which a suite that is known does without

    return modules_of(trial)


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    return {name for name in {*before, *now} if before.get(name) != now.get(name)}
