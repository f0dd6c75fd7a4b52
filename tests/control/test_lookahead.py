"""Rules that look ahead: what they choose, what they may see, that it is recorded, and that it is counted."""

import copy

import pytest
import torch
import toy

from lmsa_bench.control import CRITERIA, lookahead
from lmsa_bench.control.criteria import NoBatches
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.control.gate import cross_validated, features, gate, gate_ahead, nearest_mean, ridge
from lmsa_bench.control.gradient_criteria import rgn
from lmsa_bench.control.probes import RIDGE, left_out_accuracy, probes
from lmsa_bench.control.tangent import left_out_error, tangent
from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.control.updates import Adam
from lmsa_bench.errors import UserError
from lmsa_bench.models.deep_linear import deep_linear

SEEN = {
    "gate": ("source accuracy", "tuning"),
    "gate_ahead": ("source accuracy", "tuning"),
    "gate_by_means": ("source accuracy", "tuning"),
    "halving": ("tuning", "validation"),
    "one_epoch": ("tuning", "validation"),
    "spectrum": (),
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def problem(samples=24):
    """A linear network of three layers and batches of 8 that a linear map can learn."""
    torch.manual_seed(0)
    model = deep_linear([6, 5, 5, 3]).double()
    x = torch.randn(samples, 6, dtype=torch.float64)
    y = (x @ torch.randn(6, 3, dtype=torch.float64)).argmax(1)
    return model, list(zip(x.split(8), y.split(8), strict=True))


@pytest.mark.parametrize("name", CRITERIA.names())
def test_what_a_criterion_saw_is_recorded_and_the_model_stays(name, tmp_path):
    run = toy.run(toy.trial("score_only", criterion=name), tmp_path)
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    list(run.epochs())
    result = run.result()
    assert result.saw == SEEN.get(name, ("tuning",)) and len(result.scores[name]) == 4
    assert (result.selection_flops > 0) == (name != "spectrum")
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())


def test_a_loss_ahead_is_that_of_real_steps_on_other_batches():
    model, batches = problem(32)
    found = lookahead.steps_ahead(3, 0.05)(model, batches)
    for n in range(3):
        copied = copy.deepcopy(model)
        copied.tune_only([n])
        update = Adam(copied, 0.05)
        for batch in (0, 2, 0):  # the steps go round in every second batch
            update.step(*batches[batch], [n])
        x, y = (torch.cat(part) for part in zip(batches[1], batches[3], strict=True))
        assert found.values[n] == pytest.approx(cross_entropy(copied(x), y).mean().item(), rel=1e-12)
    assert found.best == min(range(3), key=found.values.__getitem__)
    with pytest.raises(UserError, match="at least two"):
        lookahead.one_step_ahead()(model, [(batches[0][0][:1], batches[0][1][:1])])
    with pytest.raises(NoBatches):
        lookahead.one_step_ahead()(model, ())


def test_one_epoch_is_judged_by_validation():
    model, batches = problem(40)
    evidence = Evidence(lambda: iter(batches[:3]), lambda: iter(batches[3:]))
    found = lookahead.one_epoch(lr=0.05)(model, evidence)
    assert evidence.saw == {"tuning", "validation"}
    for n in range(3):
        tried = lookahead.Tried(model, [n], 0.05)
        tried.tune(tried.states(batches[:3]))
        assert found.values[n] == pytest.approx(tried.judge(tried.states(batches[3:]))[0], abs=1e-6)


def test_halving_keeps_the_better_half_and_gives_it_twice_the_epochs(monkeypatch):
    # Layers are told apart by a script: 12 of them, of which 7 is best, then 3 and 9.
    epochs = []

    class Scripted(lookahead.Tried):
        def tune(self, states):
            epochs.append(self.layers[0])

        def judge(self, states):
            return {7: 0.9, 3: 0.8, 9: 0.7}.get(self.layers[0], 0.1), 0.0

    monkeypatch.setattr(lookahead, "Tried", Scripted)
    torch.manual_seed(0)
    model = deep_linear([2] * 13)
    batch = (torch.rand(4, 2), torch.tensor([0, 1, 0, 1]))
    found = lookahead.halving()(model, Evidence(lambda: iter([batch]), lambda: iter([batch])))
    assert found.best == 7
    # 12 layers for 1 epoch, 6 for 2, 3 for 4, 2 for 8.
    assert len(epochs) == 12 + 6 * 2 + 3 * 4 + 2 * 8
    assert sorted(range(12), key=lambda n: -found.values[n])[:3] == [7, 3, 9]


def test_the_gate_chooses_the_last_layer_where_its_inputs_tell_classes_apart():
    model, batches = problem()
    with torch.no_grad():
        model.tunable()[2].zero_()  # an untrained classifier, on inputs that determine the label
    reached = cross_validated(ridge, *features(model, batches))
    below, above = (Evidence(lambda: iter(batches), source_accuracy=reached / share) for share in (0.94, 0.96))
    assert gate(0.95)(model, above).best == 2
    assert gate(0.95)(model, below).values == rgn()(model, batches).values
    assert gate(0.95)(model, below).logged["probe"] == pytest.approx([0.94] * 3)
    ahead = gate_ahead(0.95)(model, below)
    assert ahead.best in (0, 1) and ahead.values[2] < min(ahead.values[:2])
    with pytest.raises(UserError, match="own accuracy is not known"):
        gate()(model, Evidence(lambda: iter(batches)))


def test_probes_by_hand():
    # Two classes on a line, at −1 and +1; every fold leaves enough to tell them apart.
    x, y = torch.tensor([[-1.0], [1.0]] * 5, dtype=torch.float64), torch.tensor([0, 1] * 5)
    assert cross_validated(ridge, x, y) == cross_validated(nearest_mean, x, y) == 1.0
    # Class means 0 and 4: 1.9 is nearer to the first, 2.1 to the second; class 2 has no samples.
    others, targets = torch.tensor([[0.0], [3.0], [5.0]]), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert nearest_mean(torch.tensor([[1.9], [2.1]]), others, targets).tolist() == [0, 1]
    # Ridge with an offset: targets' mean (1/3, 2/3); centred x = −8/3, 1/3, 7/3; output 0 is 1/3 − w(x − 8/3), w > 0.
    assert ridge(torch.tensor([[0.5], [4.5]]), others, targets).tolist() == [0, 1]


def test_left_out_error_is_that_of_leaving_out():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 4, generator=draw, dtype=torch.float64)
    targets = torch.randn(7, 2, generator=draw, dtype=torch.float64)
    kernel = rows @ rows.T
    errors = []
    for share in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        penalty = share * kernel.diagonal().mean()
        error = torch.zeros((), dtype=torch.float64)
        for i in range(7):
            own = torch.arange(7) != i
            inner = kernel[own][:, own] + penalty * torch.eye(6, dtype=torch.float64)
            error += (targets[i] - kernel[i, own] @ torch.linalg.solve(inner, targets[own])).square().sum()
        errors.append(error / 14)
    assert left_out_error(kernel, targets) == pytest.approx(min(errors).item(), rel=1e-9)


def test_the_tangent_kernel_of_a_linear_layer_is_that_of_its_inputs():
    # One linear layer: ∂(v·Wx)/∂W = v xᵀ, so the kernel is |v|² x·x', and of one layer nothing else matters.
    torch.manual_seed(0)
    model = deep_linear([4, 3]).double()
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    residual = torch.nn.functional.one_hot(y) - model(x).detach().softmax(1)
    expected = left_out_error(3 * x @ x.T, residual)
    assert tangent()(model, [(x, y)]).values == [pytest.approx(expected, rel=1e-9)]


def test_a_probe_leaves_each_sample_out():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=draw, dtype=torch.float64), torch.arange(30) % 3
    x[:, 0] += y
    rows, targets = x - x.mean(0), torch.nn.functional.one_hot(y).double()
    targets, found = targets - targets.mean(0), []
    penalty = RIDGE * rows.square().sum(1).mean()
    for i in range(30):
        others = torch.arange(30) != i
        gram = rows[others].T @ rows[others] + penalty * torch.eye(4, dtype=torch.float64)
        found.append((rows[i] @ torch.linalg.solve(gram, rows[others].T @ targets[others])).argmax() == y[i])
    right = sum(map(bool, found))
    assert left_out_accuracy(x, y) == pytest.approx(right / 30) and 10 < right < 30


def test_probes_lead_to_the_deepest_layer_whose_input_still_tells_classes_apart():
    model, batches = problem()
    weight = model.tunable()[1].data
    weight[:] = 0  # what the second layer passes on is the same for all samples
    found = probes()(model, batches)
    assert found.best == 0 and min(found.values[:2]) > 0.8 and found.values[2] < 0.5
    weight[:] = torch.eye(5)  # it passes on what it is given, so the third is as good as the second, and deeper
    _, second, third = probes()(model, batches).values
    assert third - second == pytest.approx(1e-6)
