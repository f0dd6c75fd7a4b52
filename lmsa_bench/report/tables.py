"""A suite's results in all formats; CSV, JSON and Parquet hold fractions, the others percent."""

import csv
import io
import json
import textwrap
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import WIDTH, aligned
from lmsa_bench.errors import UserError, printable
from lmsa_bench.report import answer
from lmsa_bench.report.arguments import FORMATS
from lmsa_bench.report.cells import most_frequent, percent, remarks, selected, statistic_lines
from lmsa_bench.report.document import BUDGET, document
from lmsa_bench.report.markdown import markdown
from lmsa_bench.report.page import page


def render(report: Report, form: str) -> bytes:
    """The report in one of FORMATS."""
    if form == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(_records(report)), buffer)
        return buffer.getvalue()
    makers = {
        "table": _text,
        "json": document,
        "csv": _csv,
        "latex": _latex,
        "markdown": markdown,
        "html": page,
    }
    if form not in makers:
        raise UserError(f"unknown format {form!r}: expected one of {', '.join(FORMATS)}")
    return printable(makers[form](report)).encode()


def _text(report: Report) -> str:
    lines = _table_lines(report) if report.rows else [report.title]
    for section in report.sections:
        lines += ["", *section.lines]
    fitting = [_filled(line) if len(line) > WIDTH else line for line in lines]
    return "\n".join(line.rstrip() for line in fitting) + "\n"


def _filled(line: str) -> str:
    return textwrap.fill(line, WIDTH, break_on_hyphens=False, break_long_words=False)  # a path stays whole


def _table_lines(report: Report) -> list[str]:
    ranks = report.statistics.average_ranks
    best = {task: report.best(task) for task in report.tasks}
    lines = [report.title, "", *report.headline]
    lines += [""] * bool(report.headline)
    lines += aligned(
        [["method", *report.tasks, "average rank"]]
        + [
            [row]
            + [percent(report.cells[row, task]) + ("*" if row in best[task] else " ") for task in report.tasks]
            + [f"{ranks[row]:.2f}" if row in ranks else "-"]
            for row in report.order
        ]
    )
    lines += ["", f"Test accuracy in %; * best in its task. {BUDGET}"]
    lines += remarks(report)
    if report.statistics.left_out:
        lines.append(f"Not ranked, since not every method has a result there: {', '.join(report.statistics.left_out)}.")
    lines += answer.lines(report)
    if report.verdicts is not None and (gaps := answer.differences(report)):
        lines += ["", *gaps]
    if ranks:
        tests = [*statistic_lines(report.statistics), f"Verdict: {report.statistics.verdict()}."]
        lines += [
            "",
            "For comparison with papers: Friedman's test over tasks, and Nemenyi's critical difference",
            *tests,
        ]
    if report.blocked is not None and (tests := statistic_lines(report.blocked)):
        lines += [
            "",
            f"With each of the {len(report.blocked.blocks)} (task, seed) pairs as a block, which tells about these "
            "tasks and not about others:",
            *tests,
            f"Verdict: {report.blocked.verdict('(task, seed) pair')}.",
        ]
    if any(cell.selected for cell in report.cells.values()):
        lines += ["", "Hyper-parameters selected by validation (! at an end of its grid)", ""]
        lines += aligned(
            [["method", *report.tasks]]
            + [[row] + [selected(report.cells[row, task]) for task in report.tasks] for row in report.order]
        )
    if tried := answer.budgets(report):
        lines += ["", *tried]
    if lost := answer.kept(report):
        lines += ["", *lost]
    if any(cell.layers for cell in report.cells.values()):
        lines += ["", "Layers tuned at the best epoch (the most frequent choice and its share of the trials)", ""]
        lines += aligned(
            [["method", *report.tasks]]
            + [[row] + [most_frequent(report.cells[row, task]) for task in report.tasks] for row in report.order]
        )
    if any(cell.variants for cell in report.cells.values()):
        lines += ["", "Each variant's own test accuracy in %", ""]
        lines += aligned(_variant_table(report), keys=2)
    return lines


def _variant_table(report: Report) -> list[list[str]]:
    columns = [
        (task, variant)
        for task in report.tasks
        for variant in dict.fromkeys(v for row in report.rows for v in report.cells[row, task].variants)
    ]
    return [["task", "variant", *report.order]] + [
        [task, variant]
        + [
            f"{100 * value:.1f}" if (value := report.cells[row, task].variants.get(variant)) is not None else "-"
            for row in report.order
        ]
        for task, variant in columns
    ]


def _records(report: Report) -> list[dict[str, Any]]:
    """A flat record a cell."""
    return [
        {
            "suite": report.suite,
            "method": row,
            "task": task,
            "mean": cell.mean,
            "low": cell.interval.low if cell.interval else None,
            "high": cell.interval.high if cell.interval else None,
            "n": cell.n,
            "seeds": cell.seeds,
            "average_rank": report.statistics.average_ranks.get(row),
            "selected": json.dumps(cell.selected, sort_keys=True),
            "layers": most_frequent(cell),
            "diverged": cell.diverged,
            "failed": sum(cell.failed.values()),
            "missing": cell.missing,
        }
        for row in report.order
        for task in report.tasks
        for cell in [report.cells[row, task]]
    ]


def _csv(report: Report) -> str:
    records, text = _records(report), io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _latex(report: Report) -> str:
    """A booktabs table; the best of each task in bold."""
    ranks = report.statistics.average_ranks
    lines = [
        f"% {report.title}",
        rf"\begin{{tabular}}{{l{'c' * len(report.tasks)}r}}",
        r"\toprule",
        " & ".join(map(_escaped, ["method", *report.tasks, "average rank"])) + r" \\",
        r"\midrule",
    ]
    for row in report.order:
        shown = [_escaped(row)]
        for task in report.tasks:
            text = _escaped(percent(report.cells[row, task])).replace("±", r"$\pm$")
            shown.append(rf"\textbf{{{text}}}" if row in report.best(task) else text)
        lines.append(" & ".join([*shown, f"{ranks[row]:.2f}" if row in ranks else "--"]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", f"% {report.statistics.verdict()}", f"% {BUDGET}"]
    lines += [f"% {note}" for note in report.notes]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join("\\" + letter if letter in "_%&#$" else letter for letter in text)
