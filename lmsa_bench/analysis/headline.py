"""A suite's answer in two or three sentences, made of its verdicts and of nothing else."""

from collections.abc import Sequence

from lmsa_bench.analysis.intervals import ALPHA
from lmsa_bench.analysis.ranks import p_value
from lmsa_bench.analysis.text import points
from lmsa_bench.analysis.verdicts import TaskVerdict, Verdicts

MOST_NAMED = 4  # rows of a best group; of a larger one it is told who is not in it


def headline(found: Verdicts) -> tuple[str, ...]:
    """What a reader should do about it; empty where there is nothing to compare."""
    tasks = [task for task in found.tasks if task.comparisons or task.diverged]
    if not tasks:
        return ()
    if all(one.n < 2 for one in found.comparisons):
        return ("A single replication does not tell how sure a difference is: run more seeds.",)
    told = [(task, text) for task in tasks if (text := _of(task, found.margin))]
    clauses = [f"{_on(task, tasks)} {text}" for task, text in told]
    sentences = [_capital("; ".join(clauses)) + "."] if clauses else []
    silent = [task for task in tasks if task not in [one for one, _ in told]]
    if not told:
        sentences = [f"No method is known to be better than another under any of the {len(tasks)} shifts."]
    elif silent:
        names = _listed([_on(task, tasks) for task in silent])
        sentences.append(f"{_capital(names)} no method is known to be better than another.")
    if told and (text := _everywhere(found)):
        sentences.append(text)
    return tuple(sentences)


def _of(task: TaskVerdict, margin: float) -> str:
    """Which row leads, which may be as good, and how far the others are behind; "" where no row is behind."""
    if not (behind := task.beaten_rows):
        return ""
    means = {row: 100 * mean for row, mean in zip(task.rows, task.means, strict=True)}
    top, *others = task.best
    gaps = [means[top] - means[row] for row in behind if row in means]
    lag = f"{_are(behind)} {_span(gaps)} points behind" if gaps else "diverged"
    if len(others) > MOST_NAMED and len(behind) <= MOST_NAMED:
        return f"{_listed(behind)} {lag}, the other {len(task.best)} are not told apart"
    equal = [row for row in others if (one := task.between(top, row)) is not None and one.verdict == "equal"]
    maybe = [row for row in others if row not in equal]
    lead = _listed([top, *equal])
    text = f"{lead} {_are([top, *equal])} best ({_span([means[row] for row in [top, *equal]])} %"
    text += f", equal within {points(margin)})" if equal else ")"
    if maybe:
        named = _listed(maybe) if len(maybe) <= MOST_NAMED else f"{len(maybe)} others"
        text += f", {named} ({_span([means[row] for row in maybe])} %) may be as good"
    rest = _listed(behind) if len(behind) <= 2 else "the rest"
    return f"{text}, {rest} {lag}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _everywhere(found: Verdicts) -> str:
    """What holds under all shifts together."""
    if found.no_best is not None and found.no_best < ALPHA:
        return f"No method is best under every shift ({p_value(found.no_best)})."
    if found.nowhere_beaten and len(found.tasks) > 1:
        names = list(found.nowhere_beaten)
        if len(names) <= MOST_NAMED:
            return f"{_listed(names)} {_are(names)} beaten under no shift."
        return f"{len(names)} methods are beaten under no shift."
    return ""


def _on(task: TaskVerdict, tasks: Sequence[TaskVerdict]) -> str:
    """Under which shift: the kind where one task alone has it, else the task."""
    alike = [one for one in tasks if one.shift == task.shift]
    if not task.shift:
        return f"on {task.task}"
    return f"under {task.shift}-level shift" if len(alike) == 1 else f"on {task.task} ({task.shift}-level shift)"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _capital(text: str) -> str:
    """The text as the start of a sentence; a method's name stays as it is."""
    return text[0].upper() + text[1:] if text.startswith(("on ", "under ")) else text
