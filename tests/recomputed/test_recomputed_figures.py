"""Every number of a figure, recomputed from the results' files alone."""

import math
import re
from collections import defaultdict
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from recomputing import LAYERS, TASKS, TRAINED, ranks_of
from scipy import stats

from lmsa_bench.report.figures import FIGURES


def accuracies(figure, means, **_):
    (axes,) = figure.axes
    tasks = [label.get_text() for label in axes.get_xticklabels()]
    shown = {box.get_label(): box for box in axes.containers}
    assert set(shown) == {row for row, _ in means} - {"rgn"}
    for row, box in shown.items():
        seeds = [[100 * value for value in means[row, task]] for task in tasks]
        assert list(box.lines[0].get_ydata()) == pytest.approx(list(map(fmean, seeds)))
        (bars,) = box.lines[2]
        assert all(low == high for (_, low), (_, high) in bars.get_segments())  # two seeds: points alone


def critical_difference(figure, means, **_):
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    shown = {name: float(rank) for name, rank in re.findall(r"(\w+) \(([\d.]+)\)", texts)}
    assert shown == pytest.approx(ranks_of(means), abs=0.006)
    # Nemenyi (Demsar 2006): q / sqrt(2) · sqrt(k (k + 1) / (6 N)), k = 3 rows, N = 2 tasks.
    critical = stats.studentized_range.ppf(0.95, 3, np.inf) / math.sqrt(2) * math.sqrt(3 * 4 / (6 * 2))
    assert float(re.search(r"CD = ([\d.]+)", texts)[1]) == pytest.approx(critical, abs=0.006)


def layers(figure, chosen, means, **_):
    for column, task in enumerate(TASKS):
        top, bottom = figure.axes[column], figure.axes[2 + column]
        rows = [*LAYERS, "full", "lift", "lmsa"]
        assert [bar.get_height() for bar in top.patches] == pytest.approx([100 * fmean(means[r, task]) for r in rows])
        losses = [
            fmean(s[2]["final_train_loss"] for _, by in chosen[r, task].values() for s in by.values()) for r in rows
        ]
        assert [bar.get_height() for bar in bottom.patches] == pytest.approx(losses)


def scaled(values):
    return [(value - min(values)) / (max(values) - min(values)) for value in values]


def criteria(figure, chosen, truths, **_):
    for axes, task in zip(figure.axes, TASKS, strict=False):
        rgn = [scaled(result["scores"]["rgn"]) for _, by in chosen["rgn", task].values() for *_, result in by.values()]
        accuracies, losses = zip(*truths[task].values(), strict=True)
        expected = [rgn, [scaled([-value for value in one]) for one in losses], list(map(scaled, accuracies))]
        assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.mean(expected, axis=1))


def fidelity(figure, chosen, truths, **_):
    pooled = []
    for axes, task in zip(figure.axes, (*TASKS, None), strict=False):
        by_seed = defaultdict(list)
        for (variant, seed), (accuracies, _) in truths[task].items() if task else ():
            scores = chosen["rgn", task][variant, None][1][seed][2]["scores"]["rgn"]
            by_seed[seed].append(max(accuracies) - accuracies[int(np.argmax(scores))])
        regrets = list(map(fmean, by_seed.values()))
        pooled += regrets
        (box,) = axes.containers
        assert list(box.lines[0].get_xdata()) == pytest.approx([100 * fmean(regrets or pooled)])


def curves(figure, chosen, **_):
    for line, task in enumerate(TASKS):
        by_step, by_second = figure.axes[3 * line + 1 : 3 * line + 3]
        for row in TRAINED:
            trials = [seed[0] for _, by in chosen[row, task].values() for seed in by.values()]
            shown = next(one for one in by_step.lines if one.get_label() == row)
            steps = [[step for r in records for step in r["accuracy_steps"]] for records in trials]
            values = [[100 * value for r in records for value in r["step_accuracies"]] for records in trials]
            assert list(shown.get_xdata()) == steps[0]
            assert list(shown.get_ydata()) == pytest.approx(list(np.mean(values, axis=0)))
            shown = next(one for one in by_second.lines if one.get_label() == row)
            seconds = [np.cumsum([r["seconds"] for r in records]) for records in trials]
            assert list(shown.get_xdata()) == pytest.approx(list(np.mean(seconds, axis=0)))
            values = [[100 * r["test_accuracy"] for r in records] for records in trials]
            assert list(shown.get_ydata()) == pytest.approx(list(np.mean(values, axis=0)))


def ablation(figure, means, **_):
    for axes, tasks in zip(figure.axes, (["digits_c"], ["digits_flip"], ["digits_c", "digits_flip"]), strict=True):
        names = [label.get_text() for label in axes.get_xticklabels()]
        expected = [100 * fmean(fmean(means[row, task]) for task in tasks) for row in names]
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(expected)


def rho(figure, grids, **_):
    panels = [axes for axes in figure.axes if axes.images and axes.get_ylabel().endswith("ρ")]
    for axes, tasks in zip(panels, (["digits_c"], ["digits_flip"], ["digits_c", "digits_flip"]), strict=True):
        lrs, rhos = ([float(t.get_text()) for t in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels()))
        for (y, r), (x, lr) in product(enumerate(rhos), enumerate(lrs)):
            expected = [
                fmean(
                    s[2]["test_accuracy"]
                    for grid in grids["lmsa", t].values()
                    for s in grid[("lr", lr), ("rho", r)].values()
                )
                for t in tasks
            ]
            assert axes.images[0].get_array()[y, x] == pytest.approx(100 * fmean(expected))


def gamma(outputs, radius, layer, draws=1000):
    """Eq. 20 for one sample: with e = y - x_N, p = βᵀe, r = p xᵀ and B = ββᵀ it is γ = (eᵀBe)² / (|e|² |Be|²)."""
    rng = np.random.default_rng(outputs + layer)
    count = 4 * outputs**2
    theta = rng.normal(size=(draws, count))
    theta *= radius * rng.uniform(size=(draws, 1)) ** (1 / count) / np.linalg.norm(theta, axis=1, keepdims=True)
    maps = theta.reshape(draws, 4, outputs, outputs).transpose(1, 0, 2, 3)
    x, y = rng.normal(size=(2, draws, outputs, 1))
    beta = np.eye(outputs)[None].repeat(draws, 0)
    for n, matrix in enumerate(maps):
        x = matrix @ x
        beta = matrix @ beta if n > layer else beta
    e = (y - x)[..., 0]
    be = np.einsum("kij,klj,kl->ki", beta, beta, e)
    return (e * be).sum(1) ** 2 / ((e**2).sum(1) * (be**2).sum(1))


def theory(figure, **_):
    for axes in figure.axes:
        outputs = int(re.search(r"d' = (\d+)", axes.get_title())[1])
        dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
        assert list(dashed.get_ydata()) == [1 / outputs] * 2
        for box, radius in zip(axes.containers, (1.0, 100.0), strict=True):
            assert box.get_label() == f"|θ| up to {radius:g}"
            for layer, mean in enumerate(box.lines[0].get_ydata()):
                values = gamma(outputs, radius, layer)
                error = values.std() * math.sqrt(1 / 1000 + 1 / 400)  # of the difference from a mean of 400 draws
                assert abs(mean - values.mean()) < 4.5 * error + 1e-9


def atlas(figure, truths, **_):
    for axes, task in zip(figure.axes, TASKS, strict=False):
        variants = [label.get_text().split("\n")[0] for label in axes.get_xticklabels()]
        for x, variant in enumerate(variants):
            layers = np.mean([found for (v, _), (found, _) in truths[task].items() if v == variant], axis=0)
            assert np.asarray(axes.images[0].get_array())[:, x] == pytest.approx(100 * (max(layers) - layers))


def regret_cost(figure, grids, chosen, truths, **_):
    (box,) = figure.axes[0].containers
    costs = []
    for task in TASKS:
        for (variant, seed), _ in truths[task].items():
            selection = chosen["rgn", task][variant, None][1][seed][2]["selection_flops"]
            full = grids["full", task][variant, None].values()  # tunes all layers, at either rate
            costs.append(selection / min(by_seed[seed][0][0]["flops"] for by_seed in full))
    assert list(box.lines[0].get_xdata()) == pytest.approx([fmean(costs)])


def costs(figure, chosen, means, **_):
    def spent(result):
        return result["flops"] + result["selection_flops"] + result["state_flops"]

    front(figure, chosen, means, spent)


def forgetting(figure, chosen, means, **_):
    def lost(result):
        return 100 * (result["provenance"]["source_accuracy"] - result["source_accuracy"])

    front(figure, chosen, means, lost)


def front(figure, chosen, means, cost):
    for panel, task in zip(figure.axes, TASKS, strict=True):
        for line in panel.lines[1:]:
            row = line.get_label()
            parts = [by_seed.values() for _, by_seed in chosen[row, task].values()]
            expected = fmean(cost(result) for part in parts for _, _, result in part)
            assert list(line.get_xdata()) == pytest.approx([expected])
            assert list(line.get_ydata()) == pytest.approx([100 * fmean(means[row, task])])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_what_the_files_say(name, figures, grids, chosen, means, truths):
    checks = [
        accuracies,
        critical_difference,
        layers,
        criteria,
        fidelity,
        curves,
        ablation,
        rho,
        theory,
        atlas,
        regret_cost,
        costs,
        forgetting,
    ]
    check = {check.__name__: check for check in checks}[name]  # a new figure needs one
    check(figures[name], grids=grids, chosen=chosen, means=means, truths=truths)
