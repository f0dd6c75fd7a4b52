"""How training goes: the paper's figures 5 and 6, the penalty's weight, and the simulated proposition."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from lmsa_bench.analysis import propositions as simulation
from lmsa_bench.analysis.measures import Measured, Measures
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import seeds_text
from lmsa_bench.report.style import COLOURS, GREY, MARKERS, colours, panels, reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from lmsa_bench.suites.spec import Row

SINGLE_STEPS = 16  # at the beginning of a loss curve; later this many points are a doubling of steps, or less
SURFACE = ("rho", "lr", "costate_penalty", "reduction")  # the hyper-parameters of figure rho

Points = list[tuple[float, float]]


def curves(report: Report) -> "Figure | None":
    """Figure 5: loss and test accuracy against steps, and test accuracy against seconds of training."""
    measures = report.measures
    if measures is None:
        return None
    rows = [row for row in measures.suite.rows if row.name in report.rows and _trained(measures, row)]
    if not rows:
        return None
    untrained = _untrained(measures).intersection(report.rows)
    counts = [cell.n for cell in report.cells.values() if cell.n]
    title = f"{report.suite}: mean over seeds, the band from the lowest to the highest seed, {seeds_text(counts)}"
    figure, axes = panels(title, len(report.tasks), 3, (4.2, 2.8))
    for line, task in zip(axes, report.tasks, strict=True):
        base = [cell.mean for (row, at), cell in report.cells.items() if at == task and row in untrained]
        for row, colour in zip(rows, colours(len(rows)), strict=True):
            parts = measures.chosen(row, task)
            for one, points in zip(line, (_losses, _by_step, _by_second), strict=True):
                _band(one, [points(m) for part in parts for m in part], colour, row.name)
        for one in line[1:]:
            for value in base:
                if value is not None:
                    one.axhline(100 * value, color="black", linestyle="--", linewidth=1, label="no training")
            one.set_ylabel("Test accuracy (%)")
        for one in line[:2]:
            one.set_xscale("log", base=2)
            one.xaxis.set_major_formatter("{x:g}")
        line[0].set_ylabel("Loss before the step (nats)")
        line[1].set_title(task, fontsize="medium")
        for one, name in zip(line, ("Step (batches)", "Step (batches)", "Training time (s)"), strict=True):
            one.set_xlabel(name)
            one.grid(color="0.92")
            one.set_axisbelow(True)
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _trained(measures: Measures, row: "Row") -> bool:
    return any(t.epochs for t in measures.suite.trials if t.configuration in row.configurations)


def _untrained(measures: Measures) -> set[str]:
    return {row.name for row in measures.suite.rows if not _trained(measures, row)}


def _losses(m: Measured) -> Points:
    """The loss of each of the first steps, then means over ever more steps: an axis of logarithms shows no more."""
    losses, points, done = [loss for epoch in m.epochs for loss in epoch.step_losses], [], 0
    while some := losses[done : done + max(1, done // SINGLE_STEPS)]:
        points.append((1 + done + (len(some) - 1) / 2, fmean(some)))
        done += len(some)
    return points


def _by_step(m: Measured) -> Points:
    return [(step, 100 * accuracy) for epoch in m.epochs for step, accuracy in epoch.accuracies]


def _by_second(m: Measured) -> Points:
    seconds, points = 0.0, []
    for epoch in m.epochs:
        seconds += epoch.seconds
        if epoch.test_accuracy is not None:
            points.append((seconds, 100 * epoch.test_accuracy))
    return points


def _band(axes: "Axes", trials: Sequence[Points], colour: str, label: str) -> None:
    """The points' mean over trials, place by place, between their lowest and highest."""
    places = [place for place in zip(*trials, strict=False)]
    x = [fmean(at for at, _ in place) for place in places]
    values = [[value for _, value in place] for place in places]
    few = "o" if len(places) <= 20 else None
    axes.plot(x, list(map(fmean, values)), color=colour, label=label, marker=few, markersize=3)
    axes.fill_between(x, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, linewidth=0)


def ablation(report: Report) -> "Figure | None":
    """Figure 6: test accuracy of each row, a panel a task and one for their average."""
    if not any(cell.mean is not None for cell in report.cells.values()):
        return None
    measures, rows = report.measures, list(report.rows)
    untrained = _untrained(measures) if measures else set()
    shown = [row for row in rows if row not in untrained]
    columns = [*report.tasks, "average over tasks"] if len(report.tasks) > 1 else list(report.tasks)
    counts = [cell.n for cell in report.cells.values() if cell.n]
    title = f"{report.suite}: mean over seeds and 95 % t interval, {seeds_text(counts)}; dashed: no training"
    figure, axes = panels(title, 1, len(columns), (2.6, 3.0), sharey=True)
    for one, task in zip(axes[0], columns, strict=True):
        for x, (row, colour) in enumerate(zip(shown, colours(len(shown)), strict=True)):
            if values := _accuracies(report, row, task):
                below, above = reach(values)
                one.bar(x, fmean(values), yerr=[[below], [above]], color=colour, capsize=3)
                top = fmean(values) + above + 1
                one.text(x, top, f"{fmean(values):.1f}", ha="center", va="bottom", fontsize=8)
        for row in untrained.intersection(rows):
            if values := _accuracies(report, row, task):
                one.axhline(fmean(values), color="black", linestyle="--", linewidth=1)
        one.set_title(task, fontsize="medium")
        one.set_xticks(range(len(shown)), shown, rotation=90)
        one.grid(axis="y", color="0.92")
        one.set_axisbelow(True)
    axes[0][0].set_ylabel("Test accuracy (%)")
    axes[0][0].set_ylim(0, 1.04 * axes[0][0].get_ylim()[1])  # room for the number above the highest interval
    return figure


def _accuracies(report: Report, row: str, task: str) -> list[float]:
    """In percent, a seed each; on average over tasks only where the row has that seed in all of them."""
    cells = [report.cells[row, task]] if task in report.tasks else [report.cells[row, t] for t in report.tasks]
    if any(cell.mean is None for cell in cells):
        return []
    seeds = set.intersection(*(set(cell.accuracies) for cell in cells))
    return [100 * fmean(cell.accuracies[seed] for cell in cells) for seed in sorted(seeds)]


class Surface(NamedTuple):
    """Test accuracies of one task (or the mean of all) over ρ and lr, for each costate_penalty and reduction."""

    accuracies: dict[tuple[object, ...], float]  # by the values of SURFACE; nan where a seed or variant diverged
    chosen: tuple[object, ...]  # of the highest mean val accuracy, then the lowest val loss


def surface(measures: Measures, tasks: Sequence[str]) -> Surface | None:
    """The suite's trials that have all of SURFACE, each task's variants and seeds averaged, then the tasks."""
    by_setting: dict[tuple[object, ...], dict[str, list[Measured | None]]] = defaultdict(lambda: defaultdict(list))
    for trial in measures.suite.trials:
        ended = trial.id in measures.ends and measures.ends[trial.id].status is not None
        if trial.task in tasks and ended and all(name in trial.hparams for name in SURFACE):
            key = tuple(trial.hparams[name] for name in SURFACE)
            by_setting[key][trial.task].append(measures.found.get(trial.id))

    def mean(by_task: dict[str, list[Measured | None]], value: Callable[[Measured], float]) -> float:
        if set(by_task) != set(tasks):
            return math.nan
        return fmean(fmean(value(m) if m else math.nan for m in trials) for trials in by_task.values())

    validated = {
        key: (round(mean(by_task, lambda m: m.val_accuracy), 12), -mean(by_task, lambda m: m.val_loss))
        for key, by_task in by_setting.items()
    }
    complete = {key: value for key, value in validated.items() if not math.isnan(value[0])}
    if not complete:
        return None
    accuracies = {key: mean(by_task, lambda m: m.test_accuracy) for key, by_task in by_setting.items()}
    return Surface(accuracies, max(complete, key=complete.__getitem__))


def rho(report: Report) -> "Figure | None":
    """Test accuracy over ρ and lr, a column each costate_penalty and reduction, a row each task and their average."""
    measures = report.measures
    if measures is None:
        return None
    lines = {task: surface(measures, [task]) for task in report.tasks}
    if len(lines) > 1:
        lines["average over tasks"] = surface(measures, report.tasks)
    found = {name: line for name, line in lines.items() if line is not None}
    if not found:
        return None
    keys = {key for line in found.values() for key in line.accuracies}
    rhos, lrs, penalties, reductions = (sorted({key[i] for key in keys}, key=str) for i in range(len(SURFACE)))
    rhos, lrs = (sorted(values, key=float, reverse=True) for values in (rhos, lrs))  # type: ignore[arg-type]
    columns = [(penalty, reduction) for penalty in penalties for reduction in reductions]
    counts = [cell.seeds for cell in report.cells.values() if cell.n]
    title = (
        f"{report.suite}: test accuracy (%), mean of {seeds_text(counts)}; each row of panels has its own colours\n"
        "a box marks what validation prefers in that row, × one that diverged or failed"
    )
    size = (1.3 + 0.6 * len(lrs), 0.9 + 0.34 * len(rhos))
    figure, axes = panels(title, len(found), len(columns), size)
    for line, (name, one) in zip(axes, found.items(), strict=True):
        known = [100 * value for value in one.accuracies.values() if not math.isnan(value)]
        for panel, column in zip(line, columns, strict=True):
            values = [[100 * one.accuracies.get((r, lr, *column), math.nan) for lr in lrs] for r in rhos]
            image = panel.imshow(values, cmap="Blues", vmin=min(known), vmax=max(known), aspect="auto")
            for y, r in enumerate(rhos):
                for x, lr in enumerate(lrs):
                    dark = values[y][x] > (min(known) + 1.5 * max(known)) / 2.5
                    text = "×" if math.isnan(values[y][x]) else f"{values[y][x]:.0f}"
                    panel.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
                    if (r, lr, *column) == one.chosen:
                        panel.add_patch(_box(x, y))
            panel.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
            panel.set_yticks(range(len(rhos)), [f"{r:g}" for r in rhos])
            if line is axes[0]:
                panel.set_title(
                    f"co-state penalty {'on' if column[0] else 'off'}\nreduction {column[1]}", fontsize="medium"
                )
            if line is axes[-1]:
                panel.set_xlabel("lr")
        line[0].set_ylabel(f"{name}\nρ")
        figure.colorbar(image, ax=line, pad=0.01)
    return figure


def _box(x: float, y: float) -> "Patch":
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.45, y - 0.45), 0.9, 0.9, fill=False, edgecolor=COLOURS[3], linewidth=2.5)


def theory(report: Report) -> "Figure | None":
    """The expectation of γ by layer beside what proposition 3.2 claims of it, a panel each number of outputs."""
    title = (
        f"Proposition 3.2, simulated: E γ of each layer and its 95 % t interval, n = {simulation.DRAWS} draws of θ\n"
        "dashed: the claim, 1/d' for every layer (an unbiased step size)"
    )
    figure, axes = panels(title, 1, len(simulation.OUTPUTS), (2.8, 2.8), sharey=True)
    for one, outputs in zip(axes[0], simulation.OUTPUTS, strict=True):
        for radius, colour, marker in zip(simulation.RADII, COLOURS, MARKERS, strict=False):
            found = simulation.of(radius, outputs)
            one.errorbar(
                [g.layer for g in found],
                [g.mean for g in found],
                yerr=[g.interval.half_width for g in found],
                fmt=marker,
                color=colour,
                capsize=3,
                label=f"|θ| up to {radius:g}",
            )
        one.axhline(1 / outputs, color=GREY, linestyle="--")
        one.set_title(f"d' = {outputs} outputs", fontsize="medium")
        one.set_xticks(range(simulation.LAYERS))
        one.set_xlabel("Layer")
        one.set_ylim(0, 1.05)
        one.grid(color="0.92")
        one.set_axisbelow(True)
    axes[0][0].set_ylabel("E γ")
    axes[0][0].legend(loc="lower left", frameon=False)
    return figure
