"""The words and numbers of a report's cells, the same in every format."""

from collections.abc import Mapping

from lmsa_bench.analysis.endings import failures
from lmsa_bench.analysis.ranks import FEWEST, Statistics, p_value
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.selection import Cell
from lmsa_bench.report.document import named_layers


def percent(cell: Cell) -> str:
    """A cell's mean in percent, the half width of its interval or its two values, and what is incomplete about it."""
    if cell.diverged:
        return f"diverged ({cell.diverged})"
    value = "-" if cell.mean is None else f"{100 * cell.mean:.1f}"
    if cell.mean is not None and cell.n >= FEWEST and cell.interval is not None:
        value += f" ± {100 * cell.interval.half_width:.1f}"
    elif cell.mean is not None and cell.n > 1:
        low, high = (100 * end(cell.accuracies.values()) for end in (min, max))
        value += f" ({low:.0f} to {high:.0f})"
    return value + (f" ({cell.n}/{cell.seeds} seeds)" if cell.n < cell.seeds else "")


def statistic_lines(statistics: Statistics) -> list[str]:
    """The numbers of the tests, a line each; empty where there are too few rows or blocks."""
    s = statistics
    if s.chi2 is None or s.f is None or s.critical_difference is None:
        return []
    k, n = len(s.average_ranks), len(s.blocks)
    return [
        f"Friedman chi2 = {s.chi2:.1f} ({k - 1} degrees of freedom), {p_value(s.p)}",
        f"Iman-Davenport F = {s.f:.2f} ({k - 1} and {(k - 1) * (n - 1)} degrees of freedom), {p_value(s.f_p)}",
        f"Nemenyi CD = {s.critical_difference:.2f} at alpha = 0.05",
    ]


def remarks(report: Report) -> list[str]:
    """What a reader of the table should know: footnotes, what failed or is missing, what trials remarked."""
    failed = [one for one in report.histories if one.status == "failed"]
    lines = [*report.notes, *failures((one.trial, one.reason) for one in failed)]
    if commands := dict.fromkeys(str(one.provenance.get("command")) for one in failed):
        lines.append(f"Failed trials are tried again by: {' and '.join(commands)}")
    for (row, task), cell in report.cells.items():
        notes = [f"{n} failed" for n in [sum(cell.failed.values())] if n]
        notes += [f"{cell.missing} not finished"] * bool(cell.missing)
        notes += [f"{cell.diverged} of the selected diverged, so it ranks last"] * bool(cell.diverged)
        if notes:
            lines.append(f"{row} on {task}: {'; '.join(notes)}.")
    for row in report.rows:
        told: dict[str, dict[str, int]] = {}
        for task in report.tasks:
            for remark, count in report.cells[row, task].remarks.items():
                told.setdefault(remark, {})[task] = count
        for remark, counts in told.items():
            n = sum(counts.values())
            lines.append(f"{row} on {', '.join(counts)}: {n} trial{'s' * (n > 1)}: {remark}.")
    return lines


def selected(cell: Cell) -> str:
    """Each hyper-parameter with all values that were selected; which part of the cell took which is in the JSON."""
    values: dict[str, dict[str, None]] = {}
    for part in [value for value in cell.selected.values() if isinstance(value, Mapping)] or [cell.selected]:
        for name, value in part.items():
            values.setdefault(name, {})[str(value)] = None
    shown = [f"{name}={'|'.join(found)}{'!' * (name in cell.edges)}" for name, found in values.items()]
    return " ".join(shown) or "-"


def most_frequent(cell: Cell) -> str:
    """The layers that were tuned at the best epoch most often, and in how many of the selected trials."""
    if not cell.layers:
        return "-"
    layers, count = max(cell.layers.items(), key=lambda item: (item[1], item[0]))
    return f"{named_layers(layers)} ({count}/{sum(cell.layers.values())})"
