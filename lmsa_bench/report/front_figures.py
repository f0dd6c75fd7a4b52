"""Figures of accuracy against a cost, with the front on which no row is both cheaper and more accurate."""

from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING

from lmsa_bench.analysis.report import Report
from lmsa_bench.report.charts import COSTS, LOST, cost_points, shown
from lmsa_bench.report.style import COLOURS, MARKERS, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def against(cost: str) -> "Callable[[Report], Figure | None]":
    """The figure of that cost, a panel a task; None where no row has it."""

    def draw(report: Report) -> "Figure | None":
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

        found = {task: few for task, points in cost_points(report).items() if (few := shown(points, cost))}
        if not found:
            return None
        style = dict(zip(report.order, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))
        title = f"{report.suite}: test accuracy against {COSTS[cost][0].lower()}{COSTS[cost][1:]}"
        figure, (axes,) = panels(title, 1, len(found), (3.2, 3.4))
        for panel, (task, points) in zip(axes, found.items(), strict=True):
            front = sorted((one.costs[cost], 100 * one.accuracy) for one in points if cost in one.front)
            panel.step(*zip(*front, strict=True), where="post", color="0.5", linestyle="--", linewidth=1, zorder=0)
            for one in points:
                colour, marker = style[one.row]
                panel.plot(one.costs[cost], 100 * one.accuracy, marker, color=colour, markersize=7, label=one.row)
            panel.set_title(task, fontsize="medium")
            panel.set_xlabel(COSTS[cost])
            panel.grid(color="0.92")
            panel.margins(0.1)
            if cost != LOST:
                panel.set_xscale("log")
                panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.xaxis.set_major_formatter(EngFormatter(sep=""))
                panel.xaxis.set_minor_formatter(NullFormatter())
        figure.set_figwidth(figure.get_figwidth() + 1.5)  # for the legend
        axes[0].set_ylabel("Test accuracy (%)")
        handles = {line.get_label(): line for panel in axes for line in panel.lines[1:]}
        named = [row for row in report.order if row in handles]
        figure.legend([handles[row] for row in named], named, loc="outside right center", frameon=False)
        return figure

    return draw
