"""The life of a trial: stopping, resuming, diverging, caching, and what it costs."""

import itertools
import json
from dataclasses import asdict

import pytest
import torch
import toy

from lmsa_bench.control.updates import MSA, Adam
from lmsa_bench.methods import METHODS
from lmsa_bench.trial import checkpoint, cost
from lmsa_bench.trial.judging import evaluate
from lmsa_bench.trial.spec import EpochRecord, Trial


@pytest.fixture(autouse=True)
def checkpoint_each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    torch.set_num_threads(1)


def comparable(result):
    return {name: value for name, value in asdict(result).items() if name != "seconds"}


TRAINED = [m for m in METHODS.names() if toy.trial(m).epochs]
OFTEN = {"interval": 2, "steps": 2, "probe_epochs": 1}  # in place of schedules that would not come due in 9 steps


@pytest.mark.parametrize(("method", "killed_after"), zip(TRAINED, itertools.cycle([1, 2]), strict=False))
def test_a_killed_trial_goes_on_with_the_same_records(method, killed_after, tmp_path):
    asked = toy.trial(method, epochs=3, **{n: value for n, value in OFTEN.items() if n in toy.hparams(method)})
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    undisturbed = toy.run(asked, whole)
    expected = toy.untimed(list(undisturbed.epochs()))

    epochs = toy.run(asked, part).epochs()
    records = [next(epochs) for _ in range(killed_after + 1)]  # the last one's checkpoint is not written any more
    resumed = toy.run(asked, part)
    again = list(resumed.epochs())
    assert len(again) == len(expected) - killed_after and resumed.result().remarks == ()
    assert toy.untimed(records[:killed_after] + again) == expected
    assert comparable(resumed.result()) == comparable(undisturbed.result())


def test_a_damaged_checkpoint_makes_way_for_the_one_before(tmp_path):
    asked = toy.trial("full", epochs=4)
    (tmp_path / "whole").mkdir()
    expected = toy.untimed(list(toy.run(asked, tmp_path / "whole").epochs()))
    folder = tmp_path / "own"
    folder.mkdir()
    epochs = toy.run(asked, folder).epochs()
    for _ in range(4):
        next(epochs)
    last = folder / "checkpoint.pt"
    last.write_bytes(last.read_bytes()[:-7])
    again = toy.run(asked, folder)
    assert again.state.epoch == 2  # epoch 3's is damaged
    assert toy.untimed(list(again.epochs())) == expected[2:]


def resumable(folder, provenance=None):
    """A trial of four epochs with checkpoints after the second and third, and the run that would take it up."""
    folder.mkdir()
    asked = toy.trial("full", epochs=4)
    epochs = toy.run(asked, folder, provenance=provenance).epochs()
    for _ in range(4):
        next(epochs)
    return asked


def test_without_a_whole_checkpoint_a_trial_starts_anew(tmp_path):
    asked = resumable(tmp_path / "own")
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        path = tmp_path / "own" / name
        path.write_bytes(path.read_bytes()[:-7])
    again = toy.run(asked, tmp_path / "own")
    assert again.state.epoch == 0
    (tmp_path / "whole").mkdir()
    assert toy.untimed(again.epochs()) == toy.untimed(toy.run(asked, tmp_path / "whole").epochs())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("data", "restarted: its checkpoint was written with other data"),
        ("source", "restarted: its checkpoint was written from another source model"),
        ("trial_code", "restarted: its checkpoint was written by other code"),
    ],
)
def test_a_checkpoint_of_other_data_is_none(changed, said, tmp_path):
    facts = {"data": "a", "source": "b", "trial_code": "d", "command": "one"}
    asked = resumable(tmp_path / "own", facts)
    assert toy.run(asked, tmp_path / "own", provenance=facts | {"command": "two"}).state.epoch == 3
    again = toy.run(asked, tmp_path / "own", provenance=facts | {changed: "c"})
    assert (again.state.epoch, again.state.remarks) == (0, (said,))
    next(again.epochs())
    again.save()  # which a later resume does not forget
    later = toy.run(asked, tmp_path / "own", provenance=facts | {changed: "c"})
    list(later.epochs())
    assert later.state.epoch == 4 and later.result().remarks == (said,)


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 0.3}, {"curves": True}])
def test_a_checkpoint_of_another_trial_is_none(other, tmp_path):
    resumable(tmp_path / "own")
    again = toy.run(toy.trial("full", epochs=4, **other), tmp_path / "own")
    assert again.state.epoch == 0
    assert again.state.remarks == ("restarted: its checkpoint was written for another trial",)


def test_a_checkpoint_of_another_torch_or_kind_of_device_is_none(tmp_path):
    asked = resumable(tmp_path / "own")
    saved = checkpoint.load(tmp_path / "own", toy.CPU)
    checkpoint.save(tmp_path / "own", saved | {"origin": saved["origin"] | {"torch": "1.0", "device": "NVIDIA H100"}})
    again = toy.run(asked, tmp_path / "own")
    assert again.state.epoch == 0
    assert again.state.remarks == (
        "restarted: its checkpoint was written with another version of torch and on another kind of device",
    )


def test_checkpoints_are_written_whole_and_read_without_running_code(tmp_path):
    assert checkpoint.load(tmp_path, toy.CPU) is None
    checkpoint.save(tmp_path, {"epoch": 1, "tensor": torch.ones(2)})
    assert checkpoint.load(tmp_path, toy.CPU)["epoch"] == 1
    for damage in (b"", b"garbage", (tmp_path / "checkpoint.pt").read_bytes()[:50]):
        (tmp_path / "checkpoint.pt").write_bytes(damage)
        assert checkpoint.load(tmp_path, toy.CPU) is None
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_test_figures_are_those_of_the_best_epoch_by_validation(tmp_path):
    asked = toy.trial("full", epochs=5, curves=True, lr=0.01)
    run = toy.run(asked, tmp_path)
    records = list(run.epochs())
    best = min(records, key=lambda record: record.stopping_key)
    assert 1 < best.epoch < 5 and min(records, key=lambda record: record.val_loss) is not best
    result = run.result()
    assert (result.best_epoch, result.test_accuracy, result.test_loss) == (
        best.epoch,
        best.test_accuracy,
        best.test_loss,
    )
    assert result.test_size == 24 and all(len(r.step_losses) == 3 for r in records)
    # Three steps an epoch, 15 in all: the powers of two, and the last step of each epoch.
    assert [r.accuracy_steps for r in records] == [(1, 2, 3), (4, 6), (8, 9), (12,), (15,)]
    assert all(r.step_accuracies[-1] == r.test_accuracy for r in records)

    plain = toy.run(toy.trial("full", epochs=5, lr=0.01), tmp_path / "other")
    plain.folder.mkdir()
    plain_records = list(plain.epochs())
    assert all(r.test_accuracy is None and r.step_losses == r.step_accuracies == () for r in plain_records)
    assert [r.train_loss for r in plain_records] == [r.train_loss for r in records]
    assert (plain.result().test_accuracy, plain.result().test_loss) == (result.test_accuracy, result.test_loss)
    assert plain.result().test_accuracy == evaluate(plain.model, plain.test)[1]  # the best parameters are back


@pytest.mark.parametrize("method", ["lift", "lisa"])
def test_best_parameters_of_layers_tuned_later_are_their_source_values(method, tmp_path):
    # Whatever epoch was best, what result() evaluates is the model as it was after that epoch.
    asked = toy.trial(method, epochs=6, lr=0.3, curves=True)
    run = toy.run(asked, tmp_path)
    records = {r.epoch: r for r in run.epochs()}
    result = run.result()
    assert len(run.best_parameters) > 0
    run._restore(run.best_parameters)
    assert evaluate(run.model, run.test)[:2] == pytest.approx(
        (records[result.best_epoch].test_loss, records[result.best_epoch].test_accuracy), rel=1e-5
    )


def test_ties_go_to_the_lower_loss_then_to_the_earlier_epoch():
    def record(epoch, accuracy, loss):
        return EpochRecord("t", epoch, 0.1, loss, accuracy, 1.0, 0, (), 0.0)

    epochs = [record(1, 0.5, 1.0), record(2, 0.6, 1.0), record(3, 0.6, 0.9), record(4, 0.6, 0.9)]
    assert min(epochs, key=lambda r: r.stopping_key).epoch == 3


@pytest.mark.parametrize("method", ["full", "lmsa"])
def test_a_loss_that_is_not_finite_is_a_result(method, tmp_path):
    given = {"rho": 0.0} if method == "lmsa" else {}
    run = toy.run(toy.trial(method, epochs=5, lr=3e38, **given), tmp_path)
    records = list(run.epochs())
    result = run.result()
    assert result.status == "diverged" and len(records) < 5 and f"epoch {records[-1].epoch}" in result.reason
    assert result.test_accuracy is None and result.best_epoch is None
    json.dumps(asdict(result))


def test_cached_states_give_the_losses_of_the_whole_network(tmp_path):
    asked = toy.trial("single_layer", epochs=3, n=2)
    cached = toy.run(asked, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmsa_bench.trial.samples.CACHE_BYTES", 0)
        uncached = toy.run(asked, tmp_path)
        theirs = list(uncached.epochs())
    checkpoint.remove(tmp_path)
    ours = list(cached.epochs())
    assert cached.train.start == 2 and uncached.train.start == 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.val_accuracy == other.val_accuracy


def test_the_cost_of_a_step_is_counted_by_hand():
    # A linear network 6-5-4 on 3 samples: forward 2·3·(6·5 + 5·4) = 300 FLOPs. Backward of layer 1 alone: its weight's
    # gradient 2·3·5·4 = 120. Kept: layer 1's input, 3·5 floats, the log-softmax, 3·4 floats, the labels, 3·8 bytes, and
    # their total weight, a float.
    from lmsa_bench.models.deep_linear import deep_linear

    model = deep_linear([6, 5, 4])
    x, y = torch.rand(3, 6), torch.tensor([0, 1, 2])
    one = cost.of_step(model, lambda m: Adam(m, 1e-3), x, y, [1], 0)
    assert one.flops == 300 + 120
    gradient_and_moments = 3 * 4 * 20 + 4  # 20 floats three times, and Adam's step counter
    assert one.kept_bytes == gradient_and_moments + 4 * (3 * 5 + 3 * 4) + 3 * 8 + 4
    both = cost.of_step(model, lambda m: Adam(m, 1e-3), x, y, [0, 1], 0)
    # Layer 0 adds its weight's gradient 2·3·6·5 and the gradient of its output 2·3·5·4.
    assert both.flops == one.flops + 180 + 120
    assert both.kept_bytes > one.kept_bytes
    again = cost.of_step(model, lambda m: Adam(m, 1e-3), x, y, [0, 1], 0)
    assert again == both
    assert cost.of_step(model, lambda m: MSA(m, 1e-3, 0.1), x, y, [1], 0).flops > one.flops


def test_identity_of_trials():
    asked = Trial("t", "", "full", {"lr": 0.1}, 0, 5)
    assert asked.id == Trial("t", "", "full", {"lr": 0.1}, 0, 5).id
    others = [
        Trial("u", "", "full", {"lr": 0.1}, 0, 5),
        Trial("t", "v", "full", {"lr": 0.1}, 0, 5),
        Trial("t", "", "lisa", {"lr": 0.1}, 0, 5),
        Trial("t", "", "full", {"lr": 0.2}, 0, 5),
        Trial("t", "", "full", {"lr": 0.1}, 1, 5),
        Trial("t", "", "full", {"lr": 0.1}, 0, 6),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, 32),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, 64, True),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, weights="hub"),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, weights="a.pt", weights_sha256="01"),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, weights="a.pt", weights_sha256="02"),
        Trial("t", "", "full", {"lr": 0.1}, 0, 5, protocol=0),
    ]
    assert len({asked.id, *(other.id for other in others)}) == len(others) + 1
    assert asked.configuration == asked.with_seed(7).configuration != others[3].configuration
