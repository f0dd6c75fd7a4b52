"""What layers are worth, and what criteria say of them: the paper's figures 1, 4 and 7, and the fidelity."""

import math
from collections.abc import Sequence
from itertools import cycle
from statistics import fmean
from typing import TYPE_CHECKING

from lmsa_bench.analysis import fidelity
from lmsa_bench.analysis.measures import Measures
from lmsa_bench.analysis.ranks import half_width
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import seeds_text
from lmsa_bench.report.style import COLOURS, GREY, MARKERS, panels, reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def layers(report: Report) -> "Figure | None":
    """Figure 1: each layer tuned alone beside the rows that tune otherwise, and the untuned model as a line."""
    measures = report.measures
    tasks = [task for task in report.tasks if measures and measures.layers(task)]
    if measures is None or not tasks:
        return None
    counts = [cell.n for cell in report.cells.values() if cell.task in tasks and cell.n]
    epochs = sorted({t.epochs for t in measures.suite.trials if t.epochs})
    after = f"{epochs[0]} epoch{'s' * (epochs[0] > 1)}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs"
    title = (
        f"{report.suite}: each layer tuned alone for {after}, mean and 95 % t interval, {seeds_text(counts)}\n"
        "a star marks the best layer; dashed: no training"
    )
    figure, axes = panels(title, 2, len(tasks), (4.0, 2.6))
    for column, task in enumerate(tasks):
        _bars(axes[0][column], measures, task, accuracy=True)
        _bars(axes[1][column], measures, task, accuracy=False)
        axes[0][column].set_title(task, fontsize="medium")
        axes[1][column].set_xlabel("Layer tuned")
    axes[0][0].set_ylabel("Test accuracy (%)")
    axes[1][0].set_ylabel("Tuning loss after training (nats)")
    return figure


def _bars(axes: "Axes", measures: Measures, task: str, accuracy: bool) -> None:
    alone = measures.layers(task)
    others = [row for row in measures.suite.rows if not row.truth]
    bars = []
    for label, row, colour in [(str(n), row, COLOURS[0]) for (n,), row in alone.items()] + [
        (row.name, row, COLOURS[1]) for row in others
    ]:
        values = list(
            measures.by_seed(row, task, lambda m: 100 * m.test_accuracy if accuracy else m.train_loss).values()
        )
        trains = any(m.trained for part in measures.chosen(row, task) for m in part)
        if values and trains:
            bars.append((label, fmean(values), reach(values, 100 if accuracy else math.inf), colour))
        elif values and not any(m.badness for part in measures.chosen(row, task) for m in part):
            axes.axhline(fmean(values), color="black", linestyle="--", linewidth=1)
    places = range(len(bars))
    axes.bar(
        places,
        [mean for _, mean, _, _ in bars],
        yerr=list(zip(*(ends for _, _, ends, _ in bars), strict=True)),
        color=[colour for *_, colour in bars],
        capsize=2,
    )
    axes.set_xticks(places, [label for label, *_ in bars])
    single = [mean for _, mean, _, colour in bars if colour == COLOURS[0]]
    best = single.index(max(single) if accuracy else min(single))
    axes.plot([best], [0], marker="*", color="white", markersize=12, markeredgecolor="black", clip_on=False, zorder=5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)


def criteria(report: Report) -> "Figure | None":
    """Figures 4 and 7: what each criterion says of each layer above what tuning it alone led to, darker is better."""
    measures = report.measures
    tasks = [task for task in report.tasks if measures and measures.criteria(task) and measures.truths(task)]
    if measures is None or not tasks:
        return None
    most = max(len(next(iter(measures.truths(task).values())).losses) for task in tasks)
    rows = max(len(measures.criteria(task)) for task in tasks) + 2
    columns = min(len(tasks), 4 if most <= 5 else 2)
    alike = len({tuple(measures.criteria(task)) for task in tasks}) == 1  # then the names stand at the left alone
    counts = [len({seed for _, seed in measures.truths(task)}) for task in tasks]
    title = (
        f"{report.suite}: mean of {seeds_text(counts)}; each seed's values scaled to 0 (worst layer) to 1 (best)\n"
        "a star marks the best layer of a row; below the line, what tuning the layer alone led to"
    )
    size = ((0.6 if alike and columns > 2 else 1.9) + 0.48 * most, 0.9 + 0.3 * rows)
    figure, axes = panels(title, -(-len(tasks) // columns), columns, size, sharey=alike)
    flat = [one for row in axes for one in row]
    for one in flat[len(tasks) :]:
        one.set_axis_off()
    image = None
    for one, task in zip(flat, tasks, strict=False):
        image = _heat_map(one, measures, task)
    assert image is not None
    bar = figure.colorbar(image, ax=flat, shrink=0.8, pad=0.01)
    bar.set_label("Scaled value: darker is better")
    return figure


def _heat_map(axes: "Axes", measures: Measures, task: str) -> "AxesImage":
    truths, scored = measures.truths(task), measures.criteria(task)
    rows = {
        name: [scaled(trial.badness) for place, trial in places.items() if place in truths]
        for name, places in scored.items()
    }
    rows["true loss"] = [scaled(truth.losses) for truth in truths.values()]
    rows["test accuracy"] = [scaled([-accuracy for accuracy in truth.accuracies]) for truth in truths.values()]
    means = [[fmean(column) for column in zip(*values, strict=True)] for values in rows.values()]
    image = axes.imshow(means, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, values in enumerate(means):
        for x, value in enumerate(values):
            star = "★" if value == max(values) else ""
            colour = "white" if value > 0.6 else "black"
            axes.text(x, y, f"{value:.1f}{star}", ha="center", va="center", fontsize=8, color=colour)
    axes.axhline(len(scored) - 0.5, color="black", linewidth=1.5)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(means[0])))
    axes.set_xlabel("Layer")
    axes.set_title(task, fontsize="medium")
    return image


def scaled(badness: Sequence[float]) -> list[float]:
    """1 for the smallest value, 0 for the largest, in proportion between; all 1 where they are equal."""
    low, high = min(badness), max(badness)
    return [(high - value) / (high - low) if high > low else 1.0 for value in badness]


def fidelities(report: Report) -> "Figure | None":
    """What following each criterion costs against knowing the best layer, a panel a task and one for all."""
    if report.measures is None:
        return None
    found = fidelity.fidelity(report.measures)
    names = [name for name in found.criteria if (name, fidelity.OVERALL) in found.means and name != fidelity.RANDOM]
    if not names:
        return None
    tasks = [*found.tasks, fidelity.OVERALL]
    columns = {4: 2, 7: 4, 8: 4}.get(len(tasks), min(3, len(tasks)))  # that leave few places empty
    title = (
        f"{report.suite}: test accuracy lost against the best single layer, mean and 95 % t interval; 0 is perfect\n"
        "dashed: a layer drawn at random"
    )
    figure, axes = panels(title, -(-len(tasks) // columns), columns, (4.0, 1.0 + 0.22 * len(names)), sharey=True)
    flat = [one for row in axes for one in row]
    for one in flat[len(tasks) :]:
        one.set_axis_off()
    for one, task in zip(flat, tasks, strict=False):
        cells = [found.means[name, task].regret for name in names]
        colour = COLOURS[3] if task == fidelity.OVERALL else COLOURS[0]
        for y, cell in enumerate(cells):
            half = 100 * half_width(cell.interval, cell.n)
            one.errorbar(100 * cell.mean, y, xerr=half, fmt="o", color=colour, capsize=2.5, markersize=5, linewidth=1.2)
        one.axvline(100 * found.means[fidelity.RANDOM, task].regret.mean, color=GREY, linestyle="--", linewidth=1)
        pairs = "(task, seed) pairs" if task == fidelity.OVERALL else "seeds"
        one.set_title(f"{task}, n = {cells[0].n} {pairs}", fontsize="medium")
        one.set_yticks(range(len(names)), names)
        one.set_xlim(-0.03 * one.get_xlim()[1], one.get_xlim()[1])  # a bound at 0 would cut perfect marks in two
        one.set_xlabel("Regret (points of test accuracy)")
        one.grid(color="0.92")
        one.set_axisbelow(True)
    flat[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def regret_against_cost(report: Report) -> "Figure | None":
    """What each criterion loses against the best layer, beside what it costs; those that none beats on both, joined."""
    if report.measures is None:
        return None
    found = fidelity.fidelity(report.measures)
    regrets = {name: found.means[name, fidelity.OVERALL].regret for name in found.costs if _overall(found, name)}
    if not regrets:
        return None
    (n,) = {cell.n for cell in regrets.values()}
    title = (
        f"{report.suite}: test accuracy lost against the best single layer, mean and 95 % t interval,\n"
        f"n = {n} (task, seed) pairs; joined: none is both cheaper and better; dashed: a layer drawn at random"
    )
    figure, axes = panels(title, 1, 1, (9.0, 5.0))
    one = axes[0][0]
    front, best = [], float("inf")
    ordered = sorted(regrets, key=lambda name: (found.costs[name], regrets[name].mean))
    for name, colour, marker in zip(ordered, cycle(COLOURS), cycle(MARKERS), strict=False):
        regret, cost, half = 100 * regrets[name].mean, found.costs[name], 100 * half_width(regrets[name].interval, n)
        if regret < best:
            best = regret
            front.append((cost, regret))
        label = f"{name} ({cost:.2f} epochs, {regret:.1f} points)"
        one.errorbar(cost, regret, yerr=half, color=colour, capsize=2, linewidth=1, alpha=0.3, zorder=1)
        one.plot([cost], [regret], marker, color=colour, markersize=7, label=label, zorder=3)
    one.plot(*zip(*front, strict=True), color=GREY, linewidth=1.5, zorder=0)
    one.axhline(
        100 * found.means[fidelity.RANDOM, fidelity.OVERALL].regret.mean, color=GREY, linestyle="--", linewidth=1
    )
    one.axvline(1, color=GREY, linewidth=0.8)
    dearest = 1.3 * max(1.0, *map(found.costs.__getitem__, ordered))
    one.set_xscale("symlog", linthresh=0.1)
    ticks = [tick for tick in (0, 0.1, 0.3, 1, 3, 10, 30, 100) if tick <= dearest]
    one.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    one.set_xlim(-0.01, dearest)  # a bound at 0 would cut marks in two
    one.set_ylim(bottom=-0.03 * one.get_ylim()[1])
    one.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    one.set_xlabel("Cost of choosing (epochs of tuning all layers, in FLOPs)")
    one.set_ylabel("Regret (points of test accuracy)")
    one.grid(color="0.92")
    one.set_axisbelow(True)
    return figure


def _overall(found: fidelity.Fidelity, name: str) -> bool:
    return (name, fidelity.OVERALL) in found.means
