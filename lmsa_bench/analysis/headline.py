"""A suite's answer in a few sentences, made of its verdicts and of nothing else."""

from collections.abc import Sequence

from lmsa_bench.analysis.intervals import ALPHA
from lmsa_bench.analysis.ranks import p_value
from lmsa_bench.analysis.text import points
from lmsa_bench.analysis.verdicts import TaskVerdict, Verdicts

MOST_NAMED = 4  # rows of a best group; of a larger one, the sentence names those that are not in it
WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def headline(found: Verdicts) -> tuple[str, ...]:
    """What a reader should do about it; empty where there is nothing to compare."""
    tasks = [task for task in found.tasks if task.comparisons or task.diverged]
    if not tasks:
        return ()
    if all(one.n < 2 for one in found.comparisons):
        return ("One replication cannot show whether a difference is more than chance: run more seeds.",)
    sentences = [f"On {_name(task)}, {_of(task, found.margin)}." for task in tasks if task.beaten_rows]
    if not sentences and len(tasks) > 1:
        return (f"No two methods differ significantly under any of the {_count(len(tasks))} shifts.",)
    if level := [task for task in tasks if not task.beaten_rows]:
        sentences.append(f"On {_listed(list(map(_name, level)))}, no two methods differ significantly.")
    return (*sentences, *_everywhere(found))


def _of(task: TaskVerdict, margin: float) -> str:
    """Which row leads, which may be as good, and how far the others are behind."""
    behind, means = task.beaten_rows, dict(zip(task.rows, task.means, strict=True))
    top, *others = task.best
    if len(others) > MOST_NAMED and len(behind) <= MOST_NAMED:
        rest = f"the other {_methods(len(task.best))} do not differ significantly"
        return f"{_listed(behind)} {_lag(task, behind, named=True)}; {rest}"
    equal = [row for row in others if (one := task.between(top, row)) is not None and one.verdict == "equal"]
    maybe = [row for row in others if row not in equal]
    lead = [top, *equal]
    verb = f"{_are(lead)} best" if not maybe else "leads" if len(lead) == 1 else "lead"
    text = f"{_listed(lead)} {verb} ({_span([100 * means[row] for row in lead])} %)"
    text += f" and equal to within {points(margin)}" if equal else ""
    if maybe:
        named = _listed(maybe) if len(maybe) <= MOST_NAMED else f"{_count(len(maybe))} others"
        text += f"; {named} ({_span([100 * means[row] for row in maybe])} %) may be as good"
    rest = _listed(behind) if len(behind) <= 2 else f"the other {_methods(len(behind))}"
    return f"{text}; {rest} {_lag(task, behind)}"


def _lag(task: TaskVerdict, behind: Sequence[str], named: bool = False) -> str:
    """How far these rows are behind the highest row that beats each, which is ``named`` where it is one."""
    gaps = [one for row in behind if (one := task.behind(row)) is not None]
    if not gaps:
        return "diverged"
    ahead = {one.first for one in gaps}
    means = dict(zip(task.rows, task.means, strict=True))
    whom = "".join(f" {row} ({100 * means[row]:.0f} %)" for row in ahead) if named and len(ahead) == 1 else ""
    return f"{_are(behind)} {_span([100 * one.mean for one in gaps])} points behind{whom}"


def _everywhere(found: Verdicts) -> list[str]:
    """What holds under all shifts together."""
    if found.no_best is not None and found.no_best < ALPHA:
        return [f"No method is best under every shift ({p_value(found.no_best)})."]
    if found.nowhere_beaten and len(found.tasks) > 1:
        names = found.nowhere_beaten
        named = f"Only {_listed(names)}" if len(names) <= MOST_NAMED else _methods(len(names)).capitalize()
        return [f"{named} {_are(names)} never significantly behind another."]
    return []


def _name(task: TaskVerdict) -> str:
    return f"{task.task} ({task.shift}-level shift)" if task.shift else task.task


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _methods(count: int) -> str:
    return f"{_count(count)} method{'s' * (count != 1)}"


def _count(count: int) -> str:
    return WORDS[count] if count < len(WORDS) else str(count)


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
