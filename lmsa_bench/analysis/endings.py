"""Trials that ended for the same reason, which is told once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from lmsa_bench.errors import one_line
from lmsa_bench.trial.spec import Trial

MOST_NAMED = 3  # methods or tasks


def alike(ended: Iterable[tuple[Trial, str]]) -> list[list[tuple[Trial, str]]]:
    """Trials and their reasons, by reason; a path into a trial's own folder makes no other reason of it."""
    groups = defaultdict[str, list[tuple[Trial, str]]](list)
    for trial, reason in ended:
        groups[reason.replace(trial.id, "")].append((trial, reason))
    return list(groups.values())


def failures(failed: Iterable[tuple[Trial, str]]) -> list[str]:
    """A line for each reason: how many trials failed for it, where, the first of them, and the reason whole."""
    lines = []
    for group in sorted(alike(failed), key=len, reverse=True):
        first, reason = group[0]
        where = f"{_named([trial.method for trial, _ in group])} on {_named([trial.task for trial, _ in group])}"
        many = f"{len(group)} trials of {where}, such as " * (len(group) > 1)
        lines.append(f"failed: {many}{first.label}: {one_line(reason)}")
    return lines


def _named(names: Sequence[str]) -> str:
    """The names, each once; of many the first."""
    first, *others = dict.fromkeys(names)
    return ", ".join([first, *others]) if len(others) < MOST_NAMED else f"{first} and {len(others)} others"
