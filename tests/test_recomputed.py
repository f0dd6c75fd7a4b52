"""Every number of a table and of a figure, recomputed: by a plain training loop, and from the results' files alone."""

import json
import math
import re
from collections import defaultdict
from itertools import product
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from scipy import stats

import lmsa_bench as lb
from lmsa_bench.report.figures import FIGURES
from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.trial.names import task_of

SUITE = """
suite: recomputed
tasks: [digits_c, digits_flip]
seeds: 2
sources: one
epochs: 2
curves: true
figures:
  [accuracies, critical_difference, layers, criteria, fidelity, curves, ablation, rho, theory, atlas, regret_cost,
   costs, forgetting]
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-2, 1e-3]}}
  lift: {grid: {lr: 1e-2, order: [front_to_end, end_to_front, random]}}
  lmsa: {grid: {lr: [1e-2, 1e-3], rho: [0.1, 1]}}
  layer: {method: single_layer, each: n, truth: true, ranked: false, grid: {n: [0, 1, 2, 3], lr: [1e-1, 1e-2]}}
  rgn: {method: score_only, ranked: false, grid: {criterion: rgn}}
"""
LAYERS = ["layer_0", "layer_1", "layer_2", "layer_3"]
TRAINED = ["full", "lift", "lmsa", *LAYERS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recomputed")
    (folder / "suite.yaml").write_text(SUITE)
    suite = lb.load_suite(str(folder / "suite.yaml"))
    return suite, lb.run(suite, folder / "results", folder / "data"), folder / "data"


def documents(run):
    """Each trial's trial.json, records and result.json, parsed as JSON only."""
    _, results, _ = run
    for folder in sorted(results.journal.trials.iterdir()):
        records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        yield json.loads((folder / "trial.json").read_text()), records, json.loads((folder / "result.json").read_text())


def plain_loop(trial, data):
    """Full fine-tuning by hand: per epoch, (train loss, val loss, val accuracy, test loss, test accuracy)."""
    task = task_of(trial)
    net = SourceModel(task, data).load(torch.device("cpu")).source.eval()
    train, val, test = task.splits(data, trial.variant, trial.seed)

    def tensors(split):
        everything = torch.arange(len(split))
        return split.images[everything].float() / 255, split.labels

    def measures(images, labels):
        with torch.no_grad():
            logits = net(images)
            accuracy = (logits.argmax(1) == labels).float().mean().item()
            return torch.nn.functional.cross_entropy(logits, labels).item(), accuracy

    x, y = tensors(train)
    optimizer = torch.optim.Adam(net.parameters(), lr=trial.hparams["lr"])
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    for epoch in range(1, trial.epochs + 1):
        order, losses = torch.randperm(len(y), generator=generator(trial.seed, "order", epoch)), []
        for batch in order.split(trial.batch_size):
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        yield sum(losses) / len(y), *measures(*tensors(val)), *measures(*tensors(test))


def test_full_fine_tuning_is_a_plain_loop(run):
    suite, results, data = run
    trials = [trial for trial in suite.trials if trial.method == "full" and trial.seed == 0]
    assert len(trials) == 2 * (2 + 1)  # two rates; digits_c has two corruptions
    for trial in trials:
        entry = results.journal.entry(trial.id)
        epochs = list(plain_loop(trial, data))
        for record, (train_loss, val_loss, val_accuracy, *_) in zip(entry.records, epochs, strict=True):
            assert record.train_loss == pytest.approx(train_loss, rel=1e-4)
            assert record.val_loss == pytest.approx(val_loss, rel=1e-4)
            assert record.val_accuracy == pytest.approx(val_accuracy, abs=1e-6)
        best = min(range(len(epochs)), key=lambda i: (-epochs[i][2], epochs[i][1], i))
        assert entry.result.best_epoch == best + 1
        assert entry.result.test_loss == pytest.approx(epochs[best][3], rel=1e-4)
        assert entry.result.test_accuracy == pytest.approx(epochs[best][4], abs=1e-6)


def row_of(trial):
    return {"single_layer": f"layer_{trial['hparams'].get('n')}", "score_only": "rgn"}.get(
        trial["method"], trial["method"]
    )


def best_of(records):
    return min(records, key=lambda r: (-r["val_accuracy"], r["val_loss"], r["epoch"]))


@pytest.fixture(scope="module")
def grids(run):
    """(row, task) -> part (variant, order) -> configuration -> seed -> (records, best record, result)."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for trial, records, result in documents(run):
        part = trial["variant"], trial["hparams"].get("order")
        configuration = tuple(sorted((k, v) for k, v in trial["hparams"].items() if k in ("lr", "rho")))
        measured = records, best_of(records), result
        found[row_of(trial), trial["task"]][part][configuration][trial["seed"]] = measured
    return found


@pytest.fixture(scope="module")
def chosen(grids):
    """(row, task) -> part -> (configuration, seed -> (records, best record, result)) that validation prefers."""

    def standing(by_seed):
        accuracies, losses = zip(*((b["val_accuracy"], b["val_loss"]) for _, b, _ in by_seed.values()), strict=True)
        return -round(fmean(accuracies), 12), fmean(losses)

    return {
        place: {part: min(grid.items(), key=lambda item: standing(item[1])) for part, grid in parts.items()}
        for place, parts in grids.items()
    }


@pytest.fixture(scope="module")
def means(chosen):
    """(row, task) -> test accuracy at each seed: the mean over LIFT's orders, then over the variants."""
    found = {}
    for place, parts in chosen.items():
        variants = defaultdict(list)
        for (variant, _), (_, by_seed) in parts.items():
            variants[variant].append([by_seed[seed][2]["test_accuracy"] for seed in (0, 1)])
        found[place] = list(np.mean([np.mean(orders, axis=0) for orders in variants.values()], axis=0))
    return found


@pytest.fixture(scope="module")
def truths(grids, chosen):
    """task -> (variant, seed) -> each layer's test accuracy, and its tuning loss where its mean is lowest."""
    found = defaultdict(dict)
    for task in ("digits_c", "digits_flip"):
        for variant, order in chosen["layer_0", task]:
            lowest = [
                min(
                    grids[layer, task][variant, order].values(),
                    key=lambda seeds: fmean(result["final_train_loss"] for *_, result in seeds.values()),
                )
                for layer in LAYERS
            ]
            for seed in (0, 1):
                tuned = [chosen[layer, task][variant, order][1][seed][2]["test_accuracy"] for layer in LAYERS]
                found[task][variant, seed] = tuned, [seeds[seed][2]["final_train_loss"] for seeds in lowest]
    return found


@pytest.fixture(scope="module")
def report(run):
    suite, results, _ = run
    return results.report(suite)


@pytest.fixture(scope="module")
def figures(report):
    return report.figures()


def half(values):
    """Of the 95 % t interval."""
    return stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def ranks_of(means):
    """Each ranked row's mean rank over the two tasks."""
    ranked = ["full", "lift", "lmsa"]
    by_task = [stats.rankdata([-fmean(means[row, task]) for row in ranked]) for task in ("digits_c", "digits_flip")]
    return dict(zip(ranked, np.mean(by_task, axis=0), strict=True))


def test_cells_and_ranks_follow_from_the_files(run, report, chosen, means):
    for _, records, result in documents(run):
        best = best_of(records)
        assert result["best_epoch"] == best["epoch"] and result["val_accuracy"] == best["val_accuracy"]
    document = {row["method"]: row for row in json.loads(report.text("json"))["rows"]}
    for (row, task), seeds in means.items():
        if row == "rgn":  # only scores layers, so the table has no row for it
            continue
        cell = document[row]["tasks"][task]
        assert list(cell["accuracies"].values()) == pytest.approx(seeds, abs=1e-12)
        assert cell["mean"] == pytest.approx(fmean(seeds), abs=1e-12) and cell["n"] == 2
        assert cell["interval"] == pytest.approx([fmean(seeds) - half(seeds), fmean(seeds) + half(seeds)], abs=1e-12)
        if row in ("full", *LAYERS):
            selected = cell["selected"]  # of the task, or of each variant
            rates = {selected["lr"]} if "lr" in selected else {hparams["lr"] for hparams in selected.values()}
            assert rates == {dict(configuration)["lr"] for configuration, _ in chosen[row, task].values()}
    for row, rank in ranks_of(means).items():
        assert document[row]["average_rank"] == pytest.approx(rank)


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
    for column, task in enumerate(("digits_c", "digits_flip")):
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
    for axes, task in zip(figure.axes, ("digits_c", "digits_flip"), strict=False):
        rgn = [scaled(result["scores"]["rgn"]) for _, by in chosen["rgn", task].values() for *_, result in by.values()]
        accuracies, losses = zip(*truths[task].values(), strict=True)
        expected = [rgn, [scaled([-value for value in one]) for one in losses], list(map(scaled, accuracies))]
        assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.mean(expected, axis=1))


def fidelity(figure, chosen, truths, **_):
    pooled = []
    for axes, task in zip(figure.axes, ("digits_c", "digits_flip", None), strict=False):
        by_seed = defaultdict(list)
        for (variant, seed), (accuracies, _) in truths[task].items() if task else ():
            scores = chosen["rgn", task][variant, None][1][seed][2]["scores"]["rgn"]
            by_seed[seed].append(max(accuracies) - accuracies[int(np.argmax(scores))])
        regrets = list(map(fmean, by_seed.values()))
        pooled += regrets
        (box,) = axes.containers
        assert list(box.lines[0].get_xdata()) == pytest.approx([100 * fmean(regrets or pooled)])


def curves(figure, chosen, **_):
    for line, task in enumerate(("digits_c", "digits_flip")):
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
    for axes, task in zip(figure.axes, ("digits_c", "digits_flip"), strict=False):
        variants = [label.get_text().split("\n")[0] for label in axes.get_xticklabels()]
        for x, variant in enumerate(variants):
            layers = np.mean([found for (v, _), (found, _) in truths[task].items() if v == variant], axis=0)
            assert np.asarray(axes.images[0].get_array())[:, x] == pytest.approx(100 * (max(layers) - layers))


def regret_cost(figure, grids, chosen, truths, **_):
    (box,) = figure.axes[0].containers
    costs = []
    for task in ("digits_c", "digits_flip"):
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
    for panel, task in zip(figure.axes, ("digits_c", "digits_flip"), strict=True):
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
