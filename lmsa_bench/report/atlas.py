"""The atlas: which layer, and which method, is best at each strength of a shift and number of labels."""

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from lmsa_bench.analysis.measures import Measures
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import seeds_text
from lmsa_bench.report.style import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LOST = 20  # points from which on all are as pale


def atlas(report: Report) -> "Figure | None":
    """A panel a task, a column a variant: what tuning each layer alone loses against the best one, and the best row."""
    measures = report.measures
    tasks = [task for task in report.tasks if measures and measures.truths(task)]
    if measures is None or not tasks:
        return None
    counts = [len({seed for _, seed in measures.truths(task)}) for task in tasks]
    title = (
        f"{report.suite}: points of test accuracy lost by tuning a layer alone, mean of {seeds_text(counts)}; "
        "darker is better, a star marks the best\n"
        "a column is a variant (0.27/5: strength 0.27, 5 labels of a class); below it, the row with the best accuracy"
    )
    columns = min(2, len(tasks))
    most = max(len({variant for variant, _ in measures.truths(task)}) for task in tasks)
    figure, axes = panels(title, -(-len(tasks) // columns), columns, (1.4 + 0.95 * most, 2.6))
    flat = [one for row in axes for one in row]
    for one in flat[len(tasks) :]:
        one.set_axis_off()
    images = [_map(one, measures, task, report.rows) for one, task in zip(flat, tasks, strict=False)]
    figure.colorbar(images[0], ax=flat, shrink=0.8, pad=0.01).set_label(f"Points lost (palest: {LOST} and more)")
    return figure


def regrets(measures: Measures, task: str) -> dict[str, list[float]]:
    """By variant, what each layer loses against the best one in mean test accuracy over seeds, in points."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for (variant, _), truth in measures.truths(task).items():
        found[variant].append(truth.accuracies)
    means = {variant: [fmean(layer) for layer in zip(*rows, strict=True)] for variant, rows in found.items()}
    return {variant: [100 * (max(layers) - layer) for layer in layers] for variant, layers in means.items()}


def best_rows(measures: Measures, task: str, rows: tuple[str, ...]) -> dict[str, str]:
    """By variant, the row that does not tune one layer as truth and has the best mean test accuracy."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in measures.suite.rows:
        if row.truth or row.name not in rows:
            continue
        tested: dict[str, list[float]] = defaultdict(list)
        for part in measures.chosen(row, task):
            for m in part:
                tested[m.trial.variant].append(m.test_accuracy)
        for variant, values in tested.items():
            found[variant][row.name] = fmean(values)
    return {variant: max(means, key=means.__getitem__) for variant, means in found.items()}


def _map(axes: "Axes", measures: Measures, task: str, rows: tuple[str, ...]) -> "AxesImage":
    lost, best = regrets(measures, task), best_rows(measures, task, rows)
    order = [v for v in dict.fromkeys(t.variant for t in measures.suite.trials if t.task == task) if v in lost]
    values = [list(layer) for layer in zip(*(lost[variant] for variant in order), strict=True)]
    image = axes.imshow(values, cmap="Blues_r", vmin=0, vmax=LOST, aspect="auto")
    for n, layer in enumerate(values):
        for x, value in enumerate(layer):
            colour = "white" if value < 0.4 * LOST else "black"
            axes.text(
                x, n, f"{value:.1f}{'★' if value == 0 else ''}", ha="center", va="center", fontsize=8, color=colour
            )
    axes.set_yticks(range(len(values)))
    axes.set_ylabel("Layer (0: first)")
    axes.set_xticks(range(len(order)), [f"{variant}\n{best.get(variant, '')}" for variant in order], fontsize=8)
    axes.set_title(task, fontsize="medium")
    return image
