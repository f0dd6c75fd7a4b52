"""Every number of a table, recomputed independently: by a plain training loop, and from the results' files."""

import json
import math
from collections import defaultdict
from statistics import fmean, stdev

import pytest
import torch
from scipy import stats

import lmsa_bench as lb
from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.trial.names import task_of

SUITE = """
suite: recomputed
tasks: [digits_c, digits_flip]
seeds: 3
epochs: 3
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-2, 1e-3]}}
  lift: {grid: {lr: 1e-2, order: [front_to_end, end_to_front, random]}}
  lmsa: {grid: {lr: [1e-2, 1e-3], rho: 0.1}}
  last: {method: single_layer, grid: {n: -1, lr: [1e-1, 1e-2]}}
"""


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


def test_cells_and_ranks_follow_from_the_files(run):
    suite, results, _ = run
    # (row, task) -> part (variant, order) -> configuration -> seed -> (val accuracy, val loss, test accuracy)
    trials = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    names = {"full": "full", "lift": "lift", "lmsa": "lmsa", "single_layer": "last", "no_adaptation": "no_adaptation"}
    for trial, records, result in documents(run):
        epoch = min(records, key=lambda r: (-r["val_accuracy"], r["val_loss"], r["epoch"]))
        assert result["best_epoch"] == epoch["epoch"] and result["val_accuracy"] == epoch["val_accuracy"]
        part = trial["variant"], trial["hparams"].get("order")
        measured = epoch["val_accuracy"], epoch["val_loss"], result["test_accuracy"]
        trials[names[trial["method"]], trial["task"]][part][trial["hparams"].get("lr")][trial["seed"]] = measured
    report = results.report(suite)
    document = {row["method"]: row for row in json.loads(report.text("json"))["rows"]}
    means = defaultdict(dict)
    for (row, task), parts in trials.items():
        chosen, by_variant = {}, defaultdict(list)
        for (variant, order), grid in parts.items():
            mean = {lr: tuple(map(fmean, zip(*by_seed.values(), strict=True))) for lr, by_seed in grid.items()}
            chosen[variant, order] = min(mean, key=lambda lr, mean=mean: (-round(mean[lr][0], 12), mean[lr][1]))
            by_variant[variant].append({seed: t for seed, (_, _, t) in grid[chosen[variant, order]].items()})
        variants = [{s: fmean(part[s] for part in some) for s in range(3)} for some in by_variant.values()]
        seeds = [fmean(variant[s] for variant in variants) for s in range(3)]
        cell = document[row]["tasks"][task]
        assert list(cell["accuracies"].values()) == pytest.approx(seeds, abs=1e-12)
        assert cell["mean"] == pytest.approx(fmean(seeds), abs=1e-12) and cell["n"] == 3
        half = stats.t.ppf(0.975, 2) * stdev(seeds) / math.sqrt(3)
        assert cell["interval"] == pytest.approx([fmean(seeds) - half, fmean(seeds) + half], abs=1e-12)
        if row in ("full", "last"):
            selected = cell["selected"]  # of the task, or of each variant
            rates = {selected["lr"]} if "lr" in selected else {hparams["lr"] for hparams in selected.values()}
            assert rates == set(chosen.values())
        means[task][row] = fmean(seeds)
    ranked = ["full", "lift", "lmsa", "last"]
    ranks = [stats.rankdata([-means[task][row] for row in ranked]) for task in suite.tasks]
    for i, row in enumerate(ranked):
        assert document[row]["average_rank"] == pytest.approx(fmean(rank[i] for rank in ranks))
