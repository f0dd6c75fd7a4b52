"""A suite's figures by name, and the two that every table has: its accuracies and the critical differences."""

import io
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lmsa_bench.analysis.ranks import Statistics, p_value
from lmsa_bench.analysis.report import Report
from lmsa_bench.atomic import write_whole
from lmsa_bench.errors import UserError, nearest
from lmsa_bench.report import atlas, front_figures, layer_figures, training_figures
from lmsa_bench.report.charts import LOST
from lmsa_bench.report.style import COLOURS, MARKERS, reach
from lmsa_bench.suites.spec import Suite

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """How a figure is drawn (None where there is nothing to draw yet), and what of trials it shows."""

    draw: "Callable[[Report], Figure | None]"
    shows: Literal["nothing", "trials", "every epoch"] = "trials"


def import_matplotlib() -> None:
    """Imports what figures need, which takes a second."""
    from matplotlib.backends import backend_agg, backend_pdf  # noqa: F401


def check(suite: Suite) -> None:
    """Raises UserError at an unknown figure of a suite, or one that lacks what it shows."""
    at = f"{suite.file}: figures"
    for name in suite.figures:
        if name not in FIGURES:
            raise UserError(f"{at}: unknown figure {name!r}: {nearest(name, FIGURES)}")
        if FIGURES[name].shows != "nothing" and not suite.trials:
            raise UserError(f"{at}: {name!r} shows trials, and the suite has none: name its tasks and rows")
        if FIGURES[name].shows == "every epoch" and not all(trial.curves for trial in suite.trials):
            raise UserError(f"{at}: {name!r} shows every epoch's test accuracy: add the line curves: true")


def made(report: Report) -> "dict[str, Figure]":
    """The report's figures by name, but for those that have nothing to show yet."""
    return {name: figure for name in report.figures if (figure := FIGURES[name].draw(report)) is not None}


def draw(report: Report, folder: Path) -> list[Path]:
    """Writes each of the report's figures as PNG and PDF into a folder; raises UserError where that cannot be made."""
    drawn = made(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in drawn.items():
            for suffix in ("png", "pdf"):
                image = io.BytesIO()
                figure.savefig(image, format=suffix, dpi=150, bbox_inches="tight")
                paths.append(folder / f"{report.suite}_{name}.{suffix}")
                write_whole(paths[-1], image.getvalue())
    except OSError as error:
        raise UserError(f"figures folder {folder}: cannot be written ({error.strerror}); name another") from None
    return paths


def accuracies(report: Report) -> "Figure":
    """A point a row and task with its interval, and a faint dot for each seed."""
    from matplotlib.figure import Figure

    tasks, rows = report.tasks, report.order
    figure = Figure(figsize=(max(6.0, 2.0 + len(tasks) * (0.4 + 0.22 * len(rows))), 4.2))
    axes = figure.subplots()
    for i, (row, colour, marker) in enumerate(zip(rows, cycle(COLOURS), cycle(MARKERS), strict=False)):
        places = [at + 0.8 * ((i + 0.5) / len(rows) - 0.5) for at in range(len(tasks))]
        shown = [(at, report.cells[row, task]) for at, task in zip(places, tasks, strict=True)]
        for at, cell in shown:
            seeds = [100 * value for value in cell.accuracies.values()]
            axes.plot([at - 0.05] * len(seeds), seeds, ".", color=colour, alpha=0.4, markersize=4, zorder=1)
        points = [(at, cell) for at, cell in shown if cell.mean is not None]
        reaches = [reach([100 * value for value in cell.accuracies.values()]) for _, cell in points]
        axes.errorbar(
            [at for at, _ in points],
            [100 * cell.mean for _, cell in points if cell.mean is not None],
            yerr=list(zip(*reaches, strict=True)) or None,
            fmt=marker,
            color=colour,
            markersize=6,
            capsize=2.5,
            linewidth=1.2,
            label=row,
        )
    for at in range(1, len(tasks)):
        axes.axvline(at - 0.5, color="0.85", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_ylabel("Test accuracy (%)")
    axes.set_xlabel("Task")
    axes.set_title(report.title, fontsize="medium")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def critical_difference(report: Report) -> "Figure | None":
    """Average ranks on a line, a bar under those that are not separable; None where there is no critical difference."""
    from matplotlib.figure import Figure

    statistics = report.statistics
    if statistics.critical_difference is None:
        return None
    ranks, groups = list(statistics.average_ranks.items()), inseparable(statistics)
    half = (len(ranks) + 1) // 2
    depth = 0.5 + 0.25 * len(groups)
    figure = Figure(figsize=(7.0, 1.6 + 0.25 * len(groups) + 0.3 * half))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.plot([1, len(ranks)], [0, 0], color="black", linewidth=1)
    for mark in range(1, len(ranks) + 1):
        axes.plot([mark, mark], [0, 0.12], color="black", linewidth=1)
        axes.text(mark, 0.2, str(mark), ha="center", va="bottom")
    axes.text((1 + len(ranks)) / 2, 0.62, "Average rank (1 is best)", ha="center", va="bottom")
    for i, (name, rank) in enumerate(ranks):
        left = i < half
        level = depth + 0.35 * (i if left else len(ranks) - 1 - i)
        end = 0.8 if left else len(ranks) + 0.2
        axes.plot([rank, rank, end], [0, -level, -level], color=COLOURS[0], linewidth=1)
        axes.text(end, -level, f" {name} ({rank:.2f}) ", ha="right" if left else "left", va="center")
    for i, (first, last) in enumerate(groups):
        low, high = (statistics.average_ranks[name] for name in (first, last))
        axes.plot(
            [low - 0.04, high + 0.04], [-0.25 * (i + 1)] * 2, color=COLOURS[3], linewidth=4, solid_capstyle="butt"
        )
    top, width = 1.35, min(statistics.critical_difference, len(ranks) - 1.0)
    axes.plot([1, 1 + width], [top, top], color="black", linewidth=1.5, marker="|")
    longer = " (longer than the scale)" if width < statistics.critical_difference else ""
    axes.text(1, top + 0.12, f"CD = {statistics.critical_difference:.2f}{longer}", va="bottom")
    axes.set_ylim(-depth - 0.35 * half, top + 0.6)
    axes.set_title(
        f"{report.suite}: {len(ranks)} methods, n = {len(statistics.blocks)} tasks\n"
        f"a bar joins what is not separable (Nemenyi, alpha = 0.05; Iman-Davenport {p_value(statistics.f_p)})",
        fontsize="medium",
    )
    return figure


def inseparable(statistics: Statistics) -> list[tuple[str, str]]:
    """The first and the last row of each largest group of neighbours in rank that holds no separable pair."""
    names = list(statistics.average_ranks)
    apart = {(pair.better, pair.worse) for pair in statistics.separable}
    groups: list[tuple[int, int]] = []
    for i, name in enumerate(names):
        last = max(j for j in range(i, len(names)) if (name, names[j]) not in apart)
        if last > i and (not groups or last > groups[-1][1]):
            groups.append((i, last))
    return [(names[first], names[last]) for first, last in groups]


FIGURES = {
    "accuracies": Drawing(accuracies),
    "critical_difference": Drawing(critical_difference),
    "layers": Drawing(layer_figures.layers),
    "atlas": Drawing(atlas.atlas),
    "criteria": Drawing(layer_figures.criteria),
    "fidelity": Drawing(layer_figures.fidelities),
    "regret_cost": Drawing(layer_figures.regret_against_cost),
    "curves": Drawing(training_figures.curves, "every epoch"),
    "ablation": Drawing(training_figures.ablation),
    "rho": Drawing(training_figures.rho),
    "costs": Drawing(front_figures.against("flops")),
    "forgetting": Drawing(front_figures.against(LOST)),
    "theory": Drawing(training_figures.theory, "nothing"),
}
