"""A report as what MLflow shows of it at sight."""

from statistics import fmean

from lmsa_bench.analysis.report import Report
from lmsa_bench.report import charts
from lmsa_bench.report.markdown import answer_and_table
from lmsa_bench.results.overview import MethodOverview, Overview

DIGITS = 4  # of a fraction: more would be cut off in MLflow's columns


def overview(report: Report) -> Overview:
    """The table's numbers, the selected trials' curves, and the answer in Markdown."""
    curves: dict[str, dict[str, list[float]]] = {row: {} for row in report.rows}
    for task in report.tasks:
        for row, _, trials in charts.selected_trials(report, task):
            epochs = zip(*(one.epochs for one in trials), strict=False)
            curves[row][task] = [round(fmean(one.val_accuracy for one in epoch), DIGITS) for epoch in epochs]
    methods = []
    for row in report.order:
        means = {
            task: round(mean, DIGITS) for task in report.tasks if (mean := report.cells[row, task].mean) is not None
        }
        methods.append(
            MethodOverview(
                row,
                means,
                report.statistics.average_ranks.get(row),
                curves[row],
                round(fmean(means.values()), DIGITS) if len(means) == len(report.tasks) else None,
            )
        )
    return Overview(report.suite, report.tasks, tuple(methods), "\n".join(answer_and_table(report)))
