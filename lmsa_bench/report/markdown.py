"""A suite's report as GitHub's Markdown, for an issue or a README."""

import re

from lmsa_bench.analysis.report import Report
from lmsa_bench.report import answer
from lmsa_bench.report.cells import percent, remarks
from lmsa_bench.report.document import BUDGET


def answer_and_table(report: Report) -> list[str]:
    """The answer, and the table with the best of each task in bold, as lines."""
    ranks = report.statistics.average_ranks
    best = {task: report.best(task) for task in report.tasks}
    answered = report.headline or (f"{report.statistics.verdict()}.",)
    first, *rest = map(_escaped, answered)
    lines = [f"**{_escaped(report.suite)}:** {first}\n", *(f"{text}\n" for text in rest)]  # MLflow shows line one
    table = [["method", *report.tasks, "average rank"]]
    for row in report.order:
        shown = [_escaped(percent(report.cells[row, task])) for task in report.tasks]
        shown = [f"**{text}**" if row in best[task] else text for text, task in zip(shown, report.tasks, strict=True)]
        table.append([_escaped(row), *shown, f"{ranks[row]:.2f}" if row in ranks else "-"])
    if report.rows:
        lines += _grid([[*map(_escaped, table[0])], *table[1:]], "r")
        lines += ["", f"{_escaped(report.title)}. Test accuracy in %; bold: best in its task. {BUDGET}"]
    return lines


def markdown(report: Report) -> str:
    """The answer, the table, the best groups by shift, and what is missing or worth a remark."""
    lines = [*answer_and_table(report), "", *(f"- {_escaped(line)}" for line in remarks(report))]
    found = report.verdicts
    if found is not None and found.comparisons:
        rows = [[*map(_escaped, line)] for line in answer.by_shift(found)]
        lines += ["", "The methods that no other method beats, by shift:", "", *_grid(rows, "l")]
        lines += ["", " ".join(answer.limits(found))]
    for section in report.sections:
        lines += ["", *(f"    {line}".rstrip() for line in section.lines)]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines).strip()) + "\n"


def _grid(rows: list[list[str]], side: str) -> list[str]:
    rule = ["---", *["---:" if side == "r" else "---"] * (len(rows[0]) - 1)]
    return [f"| {' | '.join(line)} |" for line in (rows[0], rule, *rows[1:])]


def _escaped(text: str) -> str:
    """The text as it is, whatever it says: one line, without markup."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|#~])|(?<![^\W_])(_)|(_)(?![^\W_])", r"\\\g<0>", text)
