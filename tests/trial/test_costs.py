"""What a trial costs, against counts by hand on linear networks, and that its seconds are those of training alone."""

import time
from dataclasses import replace

import pytest
import torch
import toy

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS
from lmsa_bench.models.deep_linear import deep_linear
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Splits, to_unit
from lmsa_bench.trial import cost, meter
from lmsa_bench.trial.run import Run

TRAIN, VAL, TEST, BATCH = 10, 6, 8, 4  # steps of 4, 4 and 2 samples
WIDTHS = (6, 5, 4)  # 30 and 20 weights: a pass of a sample through them is twice as many FLOPs


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch):
    monkeypatch.setattr(meter, "_COUNTED", {})
    torch.set_num_threads(1)


def run(method, folder, widths=WIDTHS, epochs=2, curves=False, **hparams):
    """A trial of a linear network on the first pixels of random images."""
    asked = replace(toy.trial(method, epochs, curves=curves, **hparams), batch_size=BATCH)
    task = replace(toy.task(), model=f"linear {widths}", transform=lambda x: to_unit(x).flatten(1)[:, : widths[0]])
    parts = Splits(*(toy.split(count, 0, part) for part, count in (("train", TRAIN), ("val", VAL), ("test", TEST))))
    torch.manual_seed(0)
    return Run(asked, task, deep_linear(widths), METHODS.get(method)(**asked.hparams), parts, folder, toy.CPU)


def test_lift_counts_each_step_of_the_layer_in_turn(tmp_path):
    trial = run("lift", tmp_path, order="front_to_end")
    records, result = list(trial.epochs()), trial.result()
    # A sample forward: 2·(30 + 20) = 100. Layer 0: its weight's gradient, 2·30, and that of its output, 2·20, so 200.
    # Layer 1: its weight's gradient alone, 2·20, so 140. Steps 0 to 5 tune layers 0 1 0 1 0 1.
    assert [r.flops for r in records] == [4 * 200 + 4 * 140 + 2 * 200, 4 * 140 + 4 * 200 + 2 * 140]
    assert result.flops == 1760 + 1640
    assert (result.selection_flops, result.state_flops) == (0, 0)
    # Val after each epoch, the tuning set and the test once.
    assert result.evaluation_flops == 100 * (2 * VAL + TRAIN + TEST)


def test_lisa_counts_each_draw(tmp_path):
    widths = (6, 5, 3, 2, 4)  # 30, 15, 6 and 8 weights
    trial = run("lisa", tmp_path, widths, interval=2)
    records = list(trial.epochs())
    # Forward 2·59; the outputs of all layers but the last 2·(15 + 6 + 8); weights 2·(30 + 8) and those of the draw.
    of_draw = {(0, 1, 3): 118 + 58 + 76 + 30, (0, 2, 3): 118 + 58 + 76 + 12}
    draws = [
        selectors.ends_and_some(None)(trial.model, (), step, generator(0, "select", step)).layers for step in (0, 2, 4)
    ]
    assert len(set(draws)) == 2
    steps = [of_draw[draws[step // 2]] * size for step, size in enumerate([4, 4, 2] * 2)]
    assert [r.flops for r in records] == [sum(steps[:3]), sum(steps[3:])]
    assert trial.result().flops == sum(steps)


def test_states_are_counted_once_and_below_them_nothing(tmp_path):
    trial = run("single_layer", tmp_path, n=1)
    records, result = list(trial.epochs()), trial.result()
    assert [r.flops for r in records] == [TRAIN * (40 + 40)] * 2  # forward, and the weight's gradient
    assert result.state_flops == TRAIN * 60
    # Val's states, then layer 1 alone, on val twice and on the tuning set; the test, once, from its images.
    assert result.evaluation_flops == VAL * 60 + 2 * VAL * 40 + TRAIN * 40 + TEST * 100


def test_a_criterion_is_counted_apart(tmp_path):
    # RGN on all three batches: forward 100, both weights' gradients 60 + 40, and that of layer 0's output, 40.
    assert run("auto_rgn", tmp_path).state.selection_flops == 0
    for epochs, every, selections in ((1, None, 1), (4, 2, 2)):
        trial = run("auto_rgn", tmp_path, epochs=epochs, every=every)
        list(trial.epochs())
        assert trial.result().selection_flops == selections * TRAIN * 240
    scored = run("score_only", tmp_path, criterion="rgn")
    list(scored.epochs())
    assert scored.result().selection_flops == TRAIN * 240


def test_curves_evaluate_more(tmp_path):
    trial = run("lift", tmp_path, curves=True, order="front_to_end")
    records, result = list(trial.epochs()), trial.result()
    assert [r.accuracy_steps for r in records] == [(1, 2, 3), (4, 6)]
    assert result.evaluation_flops == 100 * (2 * VAL + TRAIN + 5 * TEST)
    assert result.flops == 1760 + 1640


def test_each_piece_is_counted_once_in_a_process(tmp_path, monkeypatch):
    counted = []
    of_step = cost.of_step
    monkeypatch.setattr(cost, "of_step", lambda *asked: counted.append(asked) or of_step(*asked))
    for lr in (1e-2, 1e-3):
        list(run("full", tmp_path, lr=lr).epochs())
        assert len(counted) == 2  # of 4 and of 2 samples
    for rho, pieces in ((0.1, 4), (0.2, 4), (0.0, 6)):  # without the penalties there is less to compute
        list(run("full_msa", tmp_path, rho=rho).epochs())
        assert len(counted) == pieces


def test_counting_draws_no_random_numbers(tmp_path):
    list(run("lmsa", tmp_path).epochs())
    torch.manual_seed(5)
    expected = torch.rand(3)
    meter._COUNTED.clear()
    torch.manual_seed(5)
    trial = run_drawing(tmp_path)
    torch.manual_seed(5)
    list(trial.epochs())
    assert torch.equal(torch.rand(3), expected)


def run_drawing(folder):
    """A trial whose counting alone draws from torch's own generator."""
    trial = run("full", folder)

    class Drawing(Adam):
        def step(self, x, target, layers, start=0):
            torch.rand(())
            return super().step(x, target, layers, start)

    trial.meter.method = replace(trial.method, update=lambda model: Drawing(model, 0.1))
    return trial


class Temporaries:
    """An update that keeps 1 MiB, and needs 4 MiB and then 2 MiB for a moment."""

    def __init__(self, model):
        self.kept = torch.zeros(1 << 20, dtype=torch.uint8)

    def step(self, x, target, layers, start=0):
        for size in (4, 2):
            torch.empty(size << 20, dtype=torch.uint8)
        return torch.zeros(())

    def state_dict(self):
        return {"kept": self.kept}

    def load_state_dict(self, state):
        self.kept = state["kept"]


def test_the_peak_has_the_temporaries_that_no_step_keeps():
    model, x, y = deep_linear(WIDTHS), torch.rand(4, 6), torch.arange(4)
    asked = (model, Temporaries, x, y, [1], 0)
    assert 0 <= cost.peak_of_step(*asked) - (5 << 20) < 256
    assert cost.of_step(*asked).kept_bytes == (1 << 20) + 4 * 20  # and the gradient of layer 1, were there one
    adam = (model, lambda m: Adam(m, 1e-3), x, y, [0, 1], 0)
    assert cost.peak_of_step(*adam) >= cost.of_step(*adam).kept_bytes
    assert cost.peak_of_step(*adam) == cost.peak_of_step(*adam)


def test_the_highest_step_of_an_epoch_is_its_bytes(tmp_path):
    trial = run("lift", tmp_path, order="front_to_end")
    records, result = list(trial.epochs()), trial.result()
    assert all(0 < r.kept_bytes <= r.peak_bytes for r in records)
    assert (result.kept_bytes, result.peak_bytes) == (
        max(r.kept_bytes for r in records),
        max(r.peak_bytes for r in records),
    )


def slow(function, seconds=0.3):
    def slowly(*arguments, **options):
        time.sleep(seconds)
        return function(*arguments, **options)

    return slowly


def test_seconds_leave_out_evaluation_and_counting(tmp_path, monkeypatch):
    trial = run("single_layer", tmp_path, n=1, curves=True)
    for samples in (trial.val, trial.test):
        samples.take = slow(samples.take)
        samples.advance = slow(samples.advance)
    for name in ("of_step", "of_work", "peak_of_step"):
        monkeypatch.setattr(cost, name, slow(getattr(cost, name)))
    started = time.monotonic()
    records, result = list(trial.epochs()), trial.result()
    assert time.monotonic() - started > 3
    assert sum(r.seconds for r in records) == pytest.approx(result.seconds)
    assert 0 < result.seconds < 1  # a few milliseconds where nothing else keeps the cores busy


def test_seconds_have_selection_and_the_tuning_states(tmp_path):
    trial = run("single_layer", tmp_path, n=1)
    trial.train.in_order = slow(trial.train.in_order)  # which the states are computed from
    trial.selecting.method = replace(trial.method, select=slow(trial.method.select))
    list(trial.epochs())
    assert trial.result().seconds > 0.6
