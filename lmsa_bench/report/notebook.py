"""A report in a notebook: its values, its figures, and itself as a piece of HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from lmsa_bench.analysis.ranks import Statistics
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.selection import Cell
from lmsa_bench.report import figures
from lmsa_bench.report.cells import percent
from lmsa_bench.report.tables import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SuiteReport:
    """A suite's table, tests and figures; a notebook shows it as HTML."""

    values: Report

    @property
    def cells(self) -> Mapping[tuple[str, str], Cell]:
        """The cells by (row, task)."""
        return self.values.cells

    @property
    def statistics(self) -> Statistics:
        """Average ranks, the tests over tasks, and the verdict."""
        return self.values.statistics

    def figures(self) -> "dict[str, Figure]":
        """The suite's figures by name, as matplotlib's; those that have nothing to show yet are left out."""
        return figures.made(self.values)

    def text(self, form: str = "table") -> str:
        """The report as in the terminal, or as json, csv or latex."""
        return render(self.values, form).decode()

    def _repr_html_(self) -> str:
        return fragment(self.values)


def fragment(report: Report) -> str:
    """The ranked table with its verdict; the best of each task in bold."""
    ranks = report.statistics.average_ranks
    best = {task: report.best(task) for task in report.tasks}
    lines = [f"<p>{escape(text)}</p>" for text in (report.title, *report.headline)]
    lines.append("<table>")
    header = ["method", *report.tasks, "average rank"]
    lines.append(f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead><tbody>")
    for row in report.order:
        cells = [f"<th>{escape(row)}</th>"]
        for task in report.tasks:
            text = escape(percent(report.cells[row, task]))
            cells.append(f"<td>{f'<b>{text}</b>' if row in best[task] else text}</td>")
        cells.append(f"<td>{f'{ranks[row]:.2f}' if row in ranks else '-'}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    if ranks:
        lines.append(f"<p>{escape(report.statistics.verdict())}</p>")
    lines += [f"<p>{escape(note)}</p>" for note in report.notes]
    return "\n".join(lines)
