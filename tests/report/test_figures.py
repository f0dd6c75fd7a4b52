"""The figures a suite can name: each is drawn from hand-made trials, and from a table that lacks them."""

import math
from dataclasses import replace

import pytest
from hand_made import entry, suite_of
from layers_by_hand import ended, measured, of_all_layers, scored, tuned

from lmsa_bench.analysis import propositions as theory
from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.measures import Epoch, Measured, measure
from lmsa_bench.errors import UserError
from lmsa_bench.report import training_figures
from lmsa_bench.report.command import main
from lmsa_bench.report.figures import FIGURES, check, draw
from lmsa_bench.report.layer_figures import scaled
from lmsa_bench.report.style import reach
from lmsa_bench.results.table import rows
from lmsa_bench.suites import load as suites
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult

TASKS = ("noise", "flip")


def layers_and_criteria():
    layers = [
        tuned(task, seed, n, 0.5 + n / 10 + seed / 50, 1 - n / 10)
        for task in TASKS
        for seed in (0, 1)
        for n in range(3)
    ]
    scores = [scored(task, seed, [1, 2, 3]) for task in TASKS for seed in (0, 1)]
    return measured({"rgn": scores}, layers)


def with_costs():
    layers = [tuned("noise", seed, n, 0.5 + n / 10, 1 - n / 10) for seed in (0, 1) for n in range(3)]
    return measured({"rgn": [scored("noise", seed, [1, 2, 3]) for seed in (0, 1)], "full": of_all_layers()}, layers)


def curve(task, method, seed, epochs=3):
    """A trial of so many epochs of four steps that asked for curves; untrained where there are none."""
    trial = Trial(task, "", method, {}, seed, epochs, curves=True)
    records = [
        EpochRecord(
            trial.id,
            epoch,
            1 / epoch if epoch else None,
            1.0,
            0.5 + epoch / 10,
            2.0,
            1,
            (0,) if epoch else (),
            1.0,
            1.0,
            0.4 + epoch / 10 + seed / 50,
            (1.0, 0.8, 0.6, 0.4) if epoch else (),
            ((1, 2, 4), (8,), (12,))[epoch - 1] if epoch else (),
            ((0.3, 0.4, 0.5 + seed / 50), (0.6 + seed / 50,), (0.7 + seed / 50,))[epoch - 1] if epoch else (),
        )
        for epoch in (range(1, epochs + 1) if epochs else [0])
    ]
    last = records[-1]
    result = TrialResult(trial.id, "finished", "", last.epoch, last.val_accuracy, 1.0, last.test_accuracy, 1.0)
    return trial, records, result


def curves():
    from lmsa_bench.results.table import Entry

    made = {
        name: [Entry(*curve(task, name, seed, epochs)) for task in TASKS for seed in (0, 1)]
        for name, epochs in (("none", 0), ("fast", 3), ("slow", 2))
    }
    return suite_of(made, unranked=["none"]), rows([e for entries in made.values() for e in entries])


def spent():
    """Two rows on two tasks that each cost FLOPs and lose some of what the source model knew."""
    made = {
        name: [
            entry(task, name, {}, seed, [0.5], accuracy, facts={"source_accuracy": 0.9})
            for task in TASKS
            for seed in (0, 1)
        ]
        for name, accuracy in (("cheap", 0.6), ("dear", 0.8), ("neither", 0.5))
    }
    flops, left = {"cheap": 10, "dear": 100, "neither": 50}, {"cheap": 0.85, "dear": 0.5, "neither": 0.7}
    told = [
        one._replace(
            records=[replace(record, flops=flops[name]) for record in one.records],
            result=replace(one.result, source_accuracy=left[name]),
        )
        for name, entries in made.items()
        for one in entries
    ]
    return suite_of(made), rows(told)


def grid():
    """ρ x lr x co-state penalty x reduction on two tasks; one diverged configuration."""
    entries = []
    for task in TASKS:
        for rho, lr, penalty, reduction in [
            (1.0, 0.1, True, "sum"),
            (0.1, 0.1, True, "sum"),
            (1.0, 0.01, False, "mean"),
        ]:
            hparams = {"rho": rho, "lr": lr, "costate_penalty": penalty, "reduction": reduction}
            for seed in (0, 1):
                trial = Trial(task, "", "method", hparams, seed, 1)
                status = "diverged" if (rho, task, seed) == (0.1, "flip", 1) else "finished"
                entries.append(ended(trial, (0,), lr + rho / 10, 0.5, val=rho / 2, status=status))
    return suite_of({"row": entries}), rows(entries)


DATA = {
    "atlas": layers_and_criteria,
    "regret_cost": with_costs,
    "accuracies": curves,
    "critical_difference": curves,
    "layers": layers_and_criteria,
    "criteria": layers_and_criteria,
    "fidelity": layers_and_criteria,
    "curves": curves,
    "ablation": curves,
    "rho": grid,
    "theory": curves,
    "costs": spent,
    "forgetting": spent,
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn(name, tmp_path):
    suite, table = DATA[name]()
    paths = draw(report(replace(suite, figures=(name,)), table), tmp_path)
    assert [path.name for path in paths] == [f"hand_made_{name}.{suffix}" for suffix in ("png", "pdf")]
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize(("name", "cheap", "dear"), [("costs", 10, 100), ("forgetting", 5, 40)])
def test_a_front_holds_the_rows_that_none_beats_in_both(name, cheap, dear):
    suite, table = spent()
    for panel in FIGURES[name].draw(report(suite, table)).axes:
        front, *points = panel.lines
        assert list(front.get_xdata()) == pytest.approx([cheap, dear]) and list(front.get_ydata()) == [60, 80]
        assert len(points) == 3


@pytest.mark.parametrize("name", ["layers", "criteria", "fidelity", "rho", "forgetting"])
def test_a_figure_without_its_trials_is_left_out(name, tmp_path):
    suite, table = curves()
    assert draw(report(replace(suite, figures=(name,)), table), tmp_path) == []


def test_what_the_layers_figure_shows():
    suite, table = layers_and_criteria()
    figure = FIGURES["layers"].draw(report(suite, table))
    top = figure.axes[0]
    assert [label.get_text() for label in top.get_xticklabels()] == ["0", "1", "2"]
    # Seeds .5 and .52: 51 %.
    assert [bar.get_height() for bar in top.patches] == pytest.approx([51.0, 61.0, 71.0])
    assert [bar.get_height() for bar in figure.axes[2].patches[:3]] == pytest.approx([1.0, 0.9, 0.8])
    assert figure.axes[2].get_ylabel() == "Tuning loss after training (nats)"
    assert top.get_ylabel() == "Test accuracy (%)" and "n = 2 seeds" in figure.get_suptitle()


def test_heat_map_values_are_scaled_and_the_best_is_marked():
    assert scaled([3.0, 1.0, 2.0]) == [0.0, 1.0, 0.5]
    assert scaled([2.0, 2.0]) == [1.0, 1.0]
    suite, table = layers_and_criteria()
    panel = FIGURES["criteria"].draw(report(suite, table)).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["rgn", "true loss", "test accuracy"]
    assert panel.images[0].get_array().tolist() == [pytest.approx([0.0, 0.5, 1.0])] * 3
    assert [text.get_text() for text in panel.texts if "★" in text.get_text()] == ["1.0★"] * 3


def test_curves_count_steps_and_training_seconds():
    trial = Trial("noise", "", "fast", {}, 0, 2)
    epochs = (
        Epoch(2.0, 0.5, [float(i) for i in range(150)], [(1, 0.3), (150, 0.5)]),
        Epoch(3.0, 0.6, [150.0] * 50, [(200, 0.6)]),
    )
    found = Measured(trial, 0.5, 1.0, 0.5, 1.0, (0,), (), epochs)
    # Steps 1 to 32 are points of their own, of losses 0 to 31; then come means over 2 and more, as in 33 and 34.
    points = training_figures._losses(found)
    assert points[:33] == [*((i + 1, float(i)) for i in range(32)), (33.5, 32.5)]
    assert len(points) < 80 and points[-1][1] == 150.0 and sum(x for x, _ in points[:32]) == 16 * 33
    assert training_figures._by_second(found) == [(2.0, 50.0), (5.0, 60.0)]
    assert training_figures._by_step(found) == [(1, 30.0), (150, 50.0), (200, 60.0)]


def test_curves_are_against_steps_on_an_axis_of_logarithms():
    suite, table = curves()
    figure = FIGURES["curves"].draw(report(replace(suite, figures=("curves",)), table))
    loss, accuracy, seconds = figure.axes[:3]
    assert [axes.get_xscale() for axes in (loss, accuracy, seconds)] == ["log", "log", "linear"]
    fast = next(line for line in accuracy.lines if line.get_label() == "fast")
    assert list(fast.get_xdata()) == [1, 2, 4, 8, 12]
    assert list(fast.get_ydata()) == pytest.approx([30.0, 40.0, 51.0, 61.0, 71.0])
    assert len(next(line for line in loss.lines if line.get_label() == "fast").get_xdata()) == 12


def test_the_average_of_the_ablation_is_over_tasks():
    suite, table = curves()
    figure = FIGURES["ablation"].draw(report(replace(suite, figures=("ablation",)), table))
    assert [axes.get_title() for axes in figure.axes] == ["noise", "flip", "average over tasks"]
    # fast ends at .7 and .72, slow at .6 and .62.
    assert [bar.get_height() for bar in figure.axes[2].patches] == pytest.approx([71.0, 61.0])


def test_a_configuration_that_diverged_has_no_value_in_the_rho_figure():
    measures = measure(*grid())
    flip, both = training_figures.surface(measures, ["flip"]), training_figures.surface(measures, TASKS)
    key = (1.0, 0.1, True, "sum")
    assert flip.accuracies[key] == both.accuracies[key] == pytest.approx(0.2)
    assert math.isnan(both.accuracies[0.1, 0.1, True, "sum"])
    assert not math.isnan(training_figures.surface(measures, ["noise"]).accuracies[0.1, 0.1, True, "sum"])
    assert flip.chosen in (key, (1.0, 0.01, False, "mean"))  # both have the highest val accuracy
    assert training_figures.surface(measure(*curves()), TASKS) is None


def test_the_propositions_hold_but_for_the_expectation():
    assert [check.holds for check in theory.checks()] == [True, True, True, False]
    for gamma in theory.gammas():
        assert gamma.mean > 1 / gamma.outputs or gamma.interval.high > 1 / gamma.outputs
        if gamma.layer == theory.LAYERS - 1:
            assert gamma.mean == pytest.approx(1.0)


def test_a_suite_of_theory_needs_no_results(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text("suite: t\nfigures: [theory]\n")
    assert main([str(tmp_path / "t.yaml"), "--figures", str(tmp_path / "drawn")]) == 0
    assert "3.1: one step of eq. 10" in capsys.readouterr().out
    assert (tmp_path / "drawn" / "t_theory.png").exists()


def test_figures_of_a_suite_file(tmp_path):
    good = "suite: s\ntasks: [digits_flip]\nrows: {no_adaptation: }\n"
    path = tmp_path / "s.yaml"
    for line, message in {
        "figures: [layer]": r"figures: unknown figure 'layer': did you mean 'layers'\?",
        "figures: [curves]": "figures: 'curves' shows every epoch's test accuracy: add the line curves: true",
    }.items():
        path.write_text(good + line + "\n")
        with pytest.raises(UserError, match=message):
            check(suites.load(str(path)))
    path.write_text("suite: s\nfigures: [layers]\n")
    with pytest.raises(UserError, match="'layers' shows trials, and the suite has none: name its tasks and rows"):
        check(suites.load(str(path)))
    path.write_text(good)
    assert suites.load(str(path)).figures == ("accuracies", "critical_difference", "forgetting")


def test_rows_for_each_value_of_a_hyper_parameter(tmp_path):
    path = tmp_path / "s.yaml"
    head = "suite: s\ntasks: [digits_flip, digits_masked]\nrows:\n"
    path.write_text(
        head + "  layer: {method: single_layer, each: n, grid: {n: [0, 1], lr: [0.1, 1e-3]},\n"
        "    task_grids: {digits_masked: {n: [0, 1, 2]}}}\n"
    )
    found = suites.load(str(path), seeds=1)
    assert [row.name for row in found.rows] == ["layer_0", "layer_1", "layer_2"]
    assert [row.each for row in found.rows] == [(("n", 0),), (("n", 1),), (("n", 2),)]
    by_row = {row.name: [t for t in found.trials if t.configuration in row.configurations] for row in found.rows}
    assert {name: [t.task for t in trials] for name, trials in by_row.items()} == {
        "layer_0": ["digits_flip"] * 2 + ["digits_masked"] * 2,
        "layer_1": ["digits_flip"] * 2 + ["digits_masked"] * 2,
        "layer_2": ["digits_masked"] * 2,
    }
    path.write_text(
        head + "  j: {method: score_only, each: [state_view, c], grid: {criterion: predicted_loss, c: [0.1, 1]}}\n"
    )
    assert [row.name for row in suites.load(str(path)).rows] == ["j_flat_0.1", "j_flat_1"]
    for line, message in {
        "  layer: {method: single_layer, each: m, grid: {n: 0, lr: 0.1}}": "rows.layer.each: single_layer has no 'm'",
        "  full: {grid: {lr: 0.1}, task_grids: {digits: {lr: 1}}}": "task_grids: 'digits' is not one of the suite's",
        "  full: {grid: {lr: 0.1}, task_grids: {digits_flip: {lr: -1}}}": "task_grids.digits_flip.lr: -1 is not valid",
        "  full_0.1: {method: full, grid: {lr: 1}}\n  full: {each: lr, grid: {lr: 0.1}}": "another row 'full_0.1'",
    }.items():
        path.write_text(head + line + "\n")
        with pytest.raises(UserError, match=message):
            suites.load(str(path))


def test_intervals_stay_within_0_and_100_and_two_seeds_have_none():
    # Mean 90, deviation 10, n = 3: 4.303 * 10 / sqrt(3) = 24.8, cut at 10 above.
    assert reach([80.0, 90.0, 100.0]) == pytest.approx((24.84, 10.0), abs=0.01)
    assert reach([1.0, 2.0, 3.0], most=math.inf) == pytest.approx((2.0, 2.484), abs=0.001)  # 4.303 / sqrt(3)
    assert reach([20.0, 90.0]) == (0.0, 0.0)
