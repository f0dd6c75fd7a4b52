"""Trials that ask for bfloat16, channels last or TF32: what they compute, and that nobody else does."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
import toy
from toy import CPU

import lmsa_bench as lb
from lmsa_bench.control import CRITERIA
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.seeding import generator
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.arithmetic import computing

OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("lmsa_bench.")]  # no plug-in's
CASES = [(name, {}) for name in OURS] + [("score_only", {"criterion": name}) for name in CRITERIA.names()]
SUITE = """
suite: tiny
tasks: [digits_permuted]
seeds: 1
epochs: 1
arithmetic: ARITHMETIC
rows: {single_layer: {grid: {n: [0, 2], lr: 1e-2}}, lmsa: {grid: {lr: 1e-2}}}
"""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def asked(arithmetic, method="full", **given):
    return replace(toy.trial(method, **given), arithmetic=arithmetic)


def run_in(folder, trial):
    folder.mkdir(exist_ok=True)
    return toy.run(trial, folder)


def test_a_step_in_bf16_sees_the_parameters_of_the_step_before(tmp_path):
    # By hand: each of the six steps in a context of its own, so that no cast of a parameter outlives a step.
    run = toy.run(asked("bf16"), tmp_path)
    list(run.epochs())
    model, method = toy.source_model(), METHODS.get("full")(**toy.hparams("full"))
    model.tune_only(range(len(model)), rest=True)
    update, train = method.update(model), toy.splits(tmp_path, "", 0).train
    for epoch in (1, 2):
        for indices in torch.randperm(40, generator=generator(0, "order", epoch)).split(16):
            x = toy.task().transform(train.images[indices])
            with torch.autocast("cpu", torch.bfloat16):
                update.step(x, train.labels[indices], tuple(range(len(model))), 0)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, run.parameters[name]), name


@pytest.mark.parametrize(
    ("method", "given"), CASES, ids=lambda one: one if isinstance(one, str) else "-".join([*one.values()])
)
def test_everything_computes_in_bf16_with_channels_last(method, given, tmp_path):
    run = toy.run(asked("bf16+channels_last", method, **given), tmp_path)
    seen = set()
    run.model.layers[0].register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    records = list(run.epochs())
    result = run.result()
    assert result.status == "finished" and all(math.isfinite(record.val_loss) for record in records)
    assert all(math.isfinite(value) for values in result.scores.values() for value in values)
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("method", ["full", "single_layer", "lmsa", "full_msa"])
def test_channels_last_rounds_otherwise_and_no_more(method, tmp_path):
    plain, laid_out = (run_in(tmp_path / (how or "plain"), asked(how, method)) for how in ("", "channels_last"))
    for one, other in zip(plain.epochs(), laid_out.epochs(), strict=True):
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-4) and other.flops == one.flops
    shapes = [p for p in laid_out.parameters.values() if p.ndim == 4 and p.shape[2] > 1]
    assert shapes and all(p.is_contiguous(memory_format=torch.channels_last) for p in shapes)


def test_a_trial_in_bf16_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    trial = replace(asked("bf16", "lmsa"), epochs=3)
    expected = toy.untimed(run_in(tmp_path / "whole", trial).epochs())
    records = run_in(tmp_path / "part", trial).epochs()
    done = toy.untimed(islice(records, 2))
    next(records)  # writes the checkpoint after the second
    resumed = run_in(tmp_path / "part", trial)
    assert resumed.state.epoch == 2 and done + toy.untimed(resumed.epochs()) == expected


def test_torch_is_left_as_it_was():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    with computing("tf32", CPU):
        assert matmul.allow_tf32 and not torch.is_autocast_enabled("cpu")
        with computing("bf16", CPU):
            assert not matmul.allow_tf32 and torch.is_autocast_enabled("cpu")
        assert matmul.allow_tf32
    assert matmul.allow_tf32 == before
    with pytest.raises(ValueError, match="some"), computing("bf16+tf32", CPU):
        raise ValueError("some")
    assert matmul.allow_tf32 == before and not torch.is_autocast_enabled("cpu")


def test_a_suite_asks_for_it_and_its_trials_have_other_names_and_share_nothing(tmp_path, monkeypatch):
    def ended(arithmetic, gib):
        path = tmp_path / "suite.yaml"
        path.write_text(SUITE.replace("ARITHMETIC", arithmetic))
        monkeypatch.setenv("LMSA_SHARED_GIB", gib)
        suite = lb.load_suite(str(path))
        results = lb.run(suite, tmp_path / f"{arithmetic}{gib}", tmp_path / "data")
        found = {trial.id: results.journal.result(trial.id) for trial in suite.trials}
        return suite, results, {name: replace(one, seconds=0.0, provenance={}) for name, one in found.items()}

    plain, _, expected = ended("[]", "8")
    fast, results, found = ended("[channels_last, bf16]", "8")
    assert {trial.arithmetic for trial in fast.trials} == {"bf16+channels_last"}
    assert not {trial.id for trial in plain.trials} & {trial.id for trial in fast.trials}
    losses = [[one.test_loss for one in some.values()] for some in (expected, found)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.1)
    assert ended("[channels_last, bf16]", "0")[2] == found  # what the others have shared was not taken
    told = "Computed with bf16 and channels_last, not in float32 as it is."
    assert told in results.report(fast).text("table")


def test_an_unknown_one_is_one_line(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE.replace("ARITHMETIC", "[fp8]"))
    with pytest.raises(UserError, match=r"arithmetic.*'bf16', 'channels_last' or 'tf32'"):
        lb.load_suite(str(tmp_path / "suite.yaml"))
