"""Every file of tune_configs/ loads and describes how to run it, and the paper's files have the paper's settings."""

import inspect
import math
from functools import cache
from pathlib import Path

import pytest

from lmsa_bench.analysis import sizes
from lmsa_bench.analysis.grids import reached
from lmsa_bench.methods import METHODS
from lmsa_bench.results.table import rows
from lmsa_bench.suites import load as suites
from lmsa_bench.tasks import build
from lmsa_bench.trial.spec import Trial

load = cache(suites.load)
FILES = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))
BASE, LAST = {1e-3, 1e-4, 1e-5}, {1e-1, 1e-2, 1e-3}
FOUR = ("cifar10_c", "cifar_flip", "living17", "imagenet_c")
EXPERIMENTS = (
    "table1",
    "table1_equal_budget",
    "fig1_layers",
    "fig4_criteria",
    "fig5_curves",
    "fig6_ablation",
    "fig7_criteria",
    "fidelity",
    "rho",
)
LAYERS = {"cifar10_c": 4, "cifar_flip": 4, "living17": 5, "imagenet_c": 5}


def trials(name: str, row: str, task: str = "") -> list[Trial]:
    suite = load(name)
    (wanted,) = [each for each in suite.rows if each.name == row]
    return [t for t in suite.trials if t.configuration in wanted.configurations and task in ("", t.task)]


def values(chosen: list[Trial], name: str) -> set[object]:
    return {trial.hparams[name] for trial in chosen}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_loads_and_its_header_has_command_needs_cost_and_expected_result(path):
    suite = load(str(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    module = "sweep" if suite.trials else "report"
    assert lines[0] == f"# python -m lmsa_bench.{module} {path.stem}"
    assert suite.name == path.stem
    for word in ("Needs: ", "Cost: ", "Expect: "):
        assert word in header
    assert "COST" not in header and "EXPECT" not in header
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_of_the_paper_has_a_small_version_with_the_same_figures(name):
    assert load(name).figures == load("quickstart" if name == "table1" else f"{name}_small").figures


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_row_of_our_own_suites_loses_by_its_rates(path):
    # The paper's own have the paper's rates; theory has no trials.
    suite = load(str(path))
    for row in suite.rows if path.stem not in (*EXPERIMENTS, "theory") else ():
        searched = {t.hparams["lr"] for t in trials(path.stem, row.name) if "lr" in t.hparams}
        assert len(searched) < 2 or {name for _, name in row.start} >= {"lr"}, row.name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_papers_protocol(name):
    for trial in load(name).trials:
        assert trial.batch_size == 64
        if {"rho", "inner_steps"} <= set(trial.hparams):
            assert trial.hparams["inner_steps"] == 5
            assert trial.epochs == (10 if trial.task.startswith("cifar100") else 5)


def test_table_1_is_the_papers_setting():
    assert load("table1").tasks == FOUR
    for row in ("full", "lift", "lisa", "auto_rgn"):
        chosen = [t for task in FOUR if (row, task) != ("auto_rgn", "cifar_flip") for t in trials("table1", row, task)]
        assert values(chosen, "lr") == BASE and {t.epochs for t in chosen} == {10}
    assert values(trials("table1", "auto_rgn", "cifar_flip"), "lr") == LAST
    assert values(trials("table1", "lift"), "order") == {"front_to_end", "end_to_front", "random"}
    for row in ("lmsa", "lmsa_default"):
        chosen = trials("table1", row)
        assert (values(chosen, "lr"), values(chosen, "rho"), values(chosen, "inner_steps")) == ({1e-4}, {1.0}, {5})
        assert values(chosen, "costate_penalty") == {True} and values(chosen, "reduction") == {"sum"}
    literal = trials("table1", "lmsa")
    assert (values(literal, "state_view"), values(literal, "c")) == ({"flat"}, {1.0})
    assert [row.name for row in load("table1").rows if not row.ranked] == ["no_adaptation", "lmsa_default"]


@pytest.mark.parametrize("name", ["table1_equal_budget", "table1_equal_budget_small"])
def test_equal_budgets_are_equal(name):
    suite = reached(load(name, seeds=1), rows([]))  # before any grid has gone on
    for task in suite.tasks:
        counts = set()
        for row in suite.rows:
            chosen = [t for t in suite.trials if t.configuration in row.configurations and t.task == task]
            first = [t for t in chosen if t.variant == chosen[0].variant]
            averaged = {t.hparams[name] for t in first for name in row.averaged}
            counts |= {len(first) // max(1, len(averaged))} if row.ranked else set()
        assert len(counts) == 1, (task, counts)


@pytest.mark.parametrize("name", ["fig1_layers", "fig4_criteria", "fig7_criteria", "fidelity"])
def test_every_layer_is_tuned_alone_with_the_papers_learning_rates(name):
    suite = load(name, seeds=1)
    for task in suite.tasks:
        chosen = [t for t in suite.trials if t.task == task and "n" in t.hparams]
        count = LAYERS.get(task, 12)
        assert values(chosen, "n") == set(range(count))
        for n in range(count):
            learned = LAST if (task, n) == ("cifar_flip", count - 1) else BASE
            assert values([t for t in chosen if t.hparams["n"] == n], "lr") == learned


def test_the_papers_configuration_is_in_the_grid_of_rho():
    point = {"rho": 1.0, "lr": 1e-4, "costate_penalty": True, "reduction": "sum"}
    assert any(point.items() <= dict(trial.hparams).items() for trial in load("rho").trials)


@pytest.mark.parametrize("name", ["fig4_criteria", "fig7_criteria", "fig4_criteria_small", "fig7_criteria_small"])
def test_the_criteria_figures_show_lmsas_default_reading_and_the_literal_one(name):
    default = inspect.signature(METHODS.get("lmsa")).parameters
    ours, literal = trials(name, "j_hat"), trials(name, "j_hat_literal")
    for reading in ("state_view", "c"):
        assert values(ours, reading) == {default[reading].default}
    assert (values(literal, "state_view"), values(literal, "c")) == ({"flat"}, {1.0})


@pytest.mark.parametrize("name", ["quickstart", "table1_equal_budget_small", "published_rows"])
def test_lisa_draws_at_least_five_times_in_a_small_trial(name, data):
    redrawn = [trial for trial in load(name).trials if trial.method in ("lisa", "lisa_lmflow", "ows")]
    for trial in {(t.task, t.method, t.hparams["interval"], t.epochs): t for t in redrawn}.values():
        task = build(trial.task, trial.options)
        task.prepare(data)
        steps = math.ceil(len(task.splits(data, trial.variant, 0).train) / trial.batch_size)
        every = METHODS.get(trial.method)(**trial.hparams).every
        assert sum(every.due(step, steps) for step in range(trial.epochs * steps)) >= 5, trial.label


def test_quickstart_shows_the_literal_reading_beside_the_default_and_ranks_one_of_them():
    suite = load("quickstart")
    ranked = {row.name: row.ranked for row in suite.rows}
    assert ranked["lmsa"] and not ranked["lmsa_literal"]
    literal = trials("quickstart", "lmsa_literal")
    assert [values(literal, name) for name in ("state_view", "c", "rho")] == [{"flat"}, {1.0}, {1.0}]
    headlines = {name for suite in ("quickstart", "fashion", "table1") for name in load(suite).tasks}
    assert not headlines & set(load("development").tasks)


def test_figures_share_trials():
    # Figure 4 has figure 1's layers, and fidelity includes both criteria figures.
    ids = {name: {t.id for t in load(name).trials} for name in ("fig1_layers", "fig4_criteria", "fig7_criteria")}
    single = {t.id for t in load("fig4_criteria").trials if "n" in t.hparams}
    assert single <= ids["fig1_layers"]
    assert ids["fig4_criteria"] | ids["fig7_criteria"] <= {t.id for t in load("fidelity").trials}


@pytest.mark.parametrize(
    ("name", "task", "count"),
    [
        ("table1", "cifar10_c+cifar_flip", 36_479_194),  # as timm and RobustBench count
        ("table1", "imagenet_c", 25_557_032),
        ("fig1_layers", "cifar100+cifar100_masked+cifar100_random", 5_543_716),  # with 100 classes
        ("fig5_curves", "cifar100+cifar100_masked", 5_543_716),
    ],
)
def test_the_papers_table_2_is_shown_wherever_its_models_are(name, task, count):
    section = sizes.section(load(name))
    assert section.document[task]["parameters"] == count
    assert f"{count:,}" in "\n".join(section.lines)
    assert sizes.section(load("quickstart")) is None


def test_a_layers_parameters():
    section = sizes.section(load("table1"))
    assert section.document["cifar10_c+cifar_flip"]["layers"]["fc"] == 640 * 10 + 10
