"""Criteria: finite scores alone, the published and our signal-to-noise ratio by hand, and a ViT's last block."""

import json
import math

import pytest
import torch
import toy
from torch import nn

from lmsa_bench.control import CRITERIA, selectors, state_views
from lmsa_bench.control.criteria import LARGEST, Scores, largest, smallest
from lmsa_bench.control.gradient_criteria import auto_snr, batch_snr, rgn
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.trajectory import cross_entropy, trajectory
from lmsa_bench.errors import UserError
from lmsa_bench.models import MODELS
from lmsa_bench.models.layered import LayeredModel
from lmsa_bench.seeding import generator


def half_square(output, target):
    return 0.5 * (output - target).square().sum(1)


def chain(*weights, bias=False):
    """Linear layers of these weights, whose names are layer0, layer1, …"""
    source = nn.Sequential(*(nn.Linear(len(w[0]), len(w), bias=bias) for w in weights)).double()
    for layer, w in zip(source, weights, strict=True):
        layer.weight.data.copy_(torch.tensor(w))
    return LayeredModel(source, {f"layer{n}": layer for n, layer in enumerate(source)})


def finite(scores):
    return json.loads(json.dumps(scores._asdict(), allow_nan=False))


def test_a_layer_whose_value_is_not_finite_ranks_last():
    nan, inf = math.nan, math.inf
    found = smallest("j", [nan, 2.0, -inf, 1.0, inf], {"beside": [nan, inf, -inf, 0.0, 1e300]})
    assert (found.best, found.values) == (3, [LARGEST, 2.0, LARGEST, 1.0, LARGEST])
    assert found.logged == {"j": found.values, "beside": [LARGEST, LARGEST, -LARGEST, 0.0, LARGEST]}
    found = largest("g", [nan, 2.0, inf, 3.0, -inf])
    assert (found.best, found.values) == (3, [-LARGEST, 2.0, -LARGEST, 3.0, -LARGEST])
    finite(found)
    assert torch.finfo(torch.float32).max == LARGEST
    # The first of equal ones, as before.
    assert smallest("j", [1.0, 1.0]).best == largest("g", [1.0, 1.0]).best == 0


@pytest.mark.parametrize("rank", [smallest, largest])
def test_no_finite_layer_is_a_users_error(rank):
    with pytest.raises(UserError, match=r"^j is not finite for any layer: nan, nan$"):
        rank("j", [math.nan, math.nan])


def test_a_criterion_of_a_users_own_cannot_log_nan():
    choose = selectors.best(lambda model, batches: Scores([1.0, math.nan], 0, {"mine": [1.0, math.nan]}))
    with pytest.raises(UserError, match="mine is not finite: 1, nan"):
        choose(None, (), 0, generator(0))


def zero_loss(scale):
    """Two float32 samples: the logits ±scale of the first make its loss 0 in float32, the second's is large."""
    torch.manual_seed(0)
    model = chain([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).float()
    return model, torch.tensor([[scale, -scale], [-1.0, 1.0]]), torch.tensor([0, 0])


@pytest.mark.parametrize("diagnose", [False, True])
@pytest.mark.parametrize("scale", [20.0, 100.0])  # p is 4e-18 (and the loss 0 in float32), then 0 as well
@pytest.mark.parametrize("state_view", state_views.STATE_VIEWS)
def test_a_loss_of_zero_leaves_no_nan(state_view, scale, diagnose):
    model, x, y = zero_loss(scale)
    assert trajectory(model, x, y).losses[0] == 0
    found = predicted_loss(state_view, 0.01, diagnose=diagnose)(model, [(x, y)])
    finite(found)
    if state_view == "sample":
        # The first sample has no step and its loss stays 0: Ĵ and ρ̂ are those of the second one alone.
        alone = predicted_loss("sample", 0.01)(model, [(x[1:], y[1:])])
        assert found.values == pytest.approx([value / 2 for value in alone.values])
        assert found.logged["rho_hat"] == pytest.approx(alone.logged["rho_hat"])
    only = predicted_loss(state_view, 0.01, diagnose=diagnose)(model, [(x[:1], y[:1])])
    assert finite(only)["values"] == [0.0, 0.0] and only.logged["rho_hat"] == [0.0, 0.0]


def test_layers_whose_prediction_overflows_are_not_chosen():
    class Overflowing(nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.where(x.abs().amax() > 2, math.inf, 1.0)

    source = nn.Sequential(nn.Linear(2, 2), Overflowing(2, 2)).double()
    for layer in source:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    model = LayeredModel(source, {"a": source[0], "b": source[1]})
    x, y = torch.tensor([[-1.0, 1.0]], dtype=torch.float64), torch.tensor([0])
    found = predicted_loss(c=0.01)(model, [(x, y)])  # layer 0's long step makes layer 1 overflow
    assert found.best == 1 and found.values[0] == LARGEST and finite(found)["values"][1] < LARGEST


def test_a_layer_of_zeros_has_no_rgn_and_a_diverged_model_has_no_scores():
    model, x = chain([[0.0]], [[1.0]]), torch.ones(1, 1, dtype=torch.float64)
    found = rgn(loss=half_square)(model, [(x, torch.ones(1, 1, dtype=torch.float64))])
    assert found.values == [-LARGEST, 0.0] and found.best == 1
    model = chain([[math.nan]], [[1.0]])
    for criterion in (predicted_loss, rgn, batch_snr):
        with pytest.raises(UserError, match="not finite for any layer"):
            criterion(loss=half_square)(model, [(x, x), (2 * x, x)])


def test_auto_snr_by_hand():
    # x = (1, 2), a = 2 x 2 of ones: h = (3, 3); b = (1, 1): out 6, target 5, so J = ½ and ∂J/∂out = 1.
    # ∂J/∂a: rows 1 · x = (1, 2), (1, 2): no variance over dim 0, so mean(1, 4, 1, 4) / 1e-8 = 2.5e8.
    # ∂J/∂b = (3, 3), one row: its variance is not defined, so the layer has no tensor left and ranks last.
    model = chain([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]])
    x, y = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([[5.0]], dtype=torch.float64)
    found = auto_snr(loss=half_square)(model, [(x, y)])
    assert found.values == pytest.approx([2.5e8, -LARGEST]) and found.best == 0
    # Rows that differ, and a bias: b = ((1, 2), (2, 0)), h = (3, 3), out = (9, 6), target (8, 3): ∂J/∂out = (1, 3).
    # ∂J/∂b = ((3, 3), (9, 9)): variance over dim 0 (3² + 3²)/1 = 18, mean(9, 9, 81, 81)/ (18 + 1e-8) = 45/18 = 2.5 as
    # mean(9/18, 9/18, 81/18, 81/18); ∂J/∂bias = (1, 3): variance 2, mean(1/2, 9/2) = 2.5. The mean over tensors: 2.5.
    # ∂J/∂h = (1·1 + 3·2, 1·2) = (7, 2); ∂J/∂a = ((7, 14), (2, 4)): variances 12.5, 50 by column: mean(49/12.5, 196/50,
    # 4/12.5, 16/50) = (3.92 + 3.92 + .32 + .32)/4 = 2.12; its bias (7, 2): variance 12.5: mean(3.92, .32) = 2.12.
    model = chain([[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [2.0, 0.0]], bias=True)
    for layer in model.layers:
        layer.bias.data.zero_()
    y = torch.tensor([[8.0, 3.0]], dtype=torch.float64)
    one = auto_snr(loss=half_square)(model, [(x, y)])
    assert one.values == pytest.approx([2.12, 2.5], rel=1e-8) and one.best == 1
    # Twice the gradient is the same ratio, and the mean over both batches too; an opposite sign changes nothing.
    again = torch.tensor([[10.0, 9.0]], dtype=torch.float64)
    both = auto_snr(loss=half_square)(model, [(x, y), (x, again)])
    assert both.values == pytest.approx([2.12, 2.5], rel=1e-8)


def test_auto_snr_leaves_out_what_is_named_bn():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.bn1 = nn.Linear(3, 3), nn.LayerNorm(3)

        def forward(self, x):
            return self.bn1(self.linear(x))

    torch.manual_seed(0)
    source = nn.Sequential(Block(), nn.Linear(3, 3)).double()
    model = LayeredModel(source, {"a": source[0], "b": source[1]}, theta={"a": source[0]})
    without = LayeredModel(source, {"a": source[0], "b": source[1]}, theta={"a": source[0].linear})
    batches = [(torch.randn(4, 3, dtype=torch.float64), torch.arange(4) % 3)]
    assert auto_snr()(model, batches) == auto_snr()(without, batches)


def test_the_columns_of_a_vits_last_block_are_its_class_tokens():
    torch.manual_seed(0)
    model = MODELS.get("small_vit")(10, (1, 8, 8)).double().eval()
    x, y = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.tensor([3, 7, 0])
    t = trajectory(model, x, y)
    last = len(model) - 1
    # r = Σ_k p_N xᵀ over samples, of the token that the head reads; all sums written out.
    tokens, p, outputs = t.state(last)[:, 0], t.costate(last + 1), 10
    r = sum(torch.outer(p[k], tokens[k]) for k in range(3))
    moved = torch.stack([r @ tokens[k] for k in range(3)])  # P Xᵀ X, a row a sample
    norm = sum((p[j] @ moved[k]) ** 2 for j in range(3) for k in range(3))  # ‖Pᵀ r X‖²
    rho_hat = outputs / (2 * t.losses.sum()) * norm / r.square().sum()
    expected = cross_entropy(t.state(last + 1) + moved / rho_hat, y).mean()
    found = predicted_loss("position")(model, [(x, y)])
    assert found.values[last] == pytest.approx(expected.item(), rel=1e-12)
    assert found.logged["rho_hat"][last] == pytest.approx(rho_hat.item(), rel=1e-12)
    # A network that averages has no such token: the mean over positions stands for it, as before.
    assert all(reads is None for reads in MODELS.get("wrn_10_1")(10, (1, 8, 8)).reads)
    assert [n for n, reads in enumerate(model.reads) if reads] == [last]


def test_every_criterion_is_finite_and_leaves_the_parameters_bit_by_bit():
    for name in ("wrn_10_1", "small_vit"):
        torch.manual_seed(0)
        model = MODELS.get(name)(4, (1, 8, 8)).eval()
        draw = generator(0, "images")
        batches = [(torch.rand(8, 1, 8, 8, generator=draw), torch.arange(8) % 4) for _ in range(2)]
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for view in state_views.STATE_VIEWS:
            plain, diagnosed = (predicted_loss(view, 0.01, diagnose=d)(model, batches) for d in (False, True))
            assert (plain.values, plain.best) == (diagnosed.values, diagnosed.best)
            assert set(diagnosed.logged) - set(plain.logged) == {"loss_after", "step_error", "rho_ratio"}
            finite(diagnosed)
        for criterion in ("rgn", "batch_snr", "auto_snr"):
            finite(CRITERIA.get(criterion)()(model, batches))
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("state_view", state_views.STATE_VIEWS)
@pytest.mark.parametrize("n", range(4))
def test_the_step_that_is_taken_on_a_convolutional_network(state_view, n):
    # The step with plain autograd and changed parameters, and ρ* by finite differences of the gradient.
    torch.manual_seed(0)
    model = MODELS.get("wrn_10_1")(4, (1, 8, 8)).double().eval()
    x, y = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 1])
    c, theta = 5.0, model.parameters_of(n)
    found = predicted_loss(state_view, c, diagnose=True)(model, [(x, y)])
    problems = [(x, y)] if state_view != "sample" else [(x[k : k + 1], y[k : k + 1]) for k in range(3)]
    after, error, ratios = 0.0, 0.0, []
    model.tune_only([n])
    kept = [p.detach().clone() for p in theta]

    def moved(g, step):
        with torch.no_grad():
            for p, before, one in zip(theta, kept, g, strict=True):
                p.copy_(before + step * one)

    for x_k, y_k in problems:
        alone = predicted_loss(state_view, c)(model, [(x_k, y_k)])
        rho_hat, predicted = alone.logged["rho_hat"][n], alone.values[n] * len(y_k)
        model.tune_only([n])
        g = torch.autograd.grad(cross_entropy(model(x_k), y_k).sum(), theta)
        moved(g, -1 / rho_hat)
        j = cross_entropy(model(x_k), y_k).sum().item()
        ends = []
        for h in (1e-6, -1e-6):
            moved(g, h)
            ends.append(torch.autograd.grad(cross_entropy(model(x_k), y_k).sum(), theta))
        moved(g, 0.0)
        hg = [(a - b) / 2e-6 for a, b in zip(*ends, strict=True)]
        curvature = sum((a * b).sum() for a, b in zip(g, hg, strict=True)) / sum(a.square().sum() for a in g)
        after, error = after + j / 3, error + abs(predicted - j) / 3
        ratios.append(rho_hat / curvature.item())
    assert found.logged["loss_after"][n] == pytest.approx(after, rel=1e-9)
    assert found.logged["step_error"][n] == pytest.approx(error, rel=1e-7)
    assert found.logged["rho_ratio"][n] == pytest.approx(sum(ratios) / len(ratios), rel=1e-4)


@pytest.mark.parametrize("name", ["rgn", "batch_snr", "auto_snr", "fisher", "gradient_length"])
def test_a_layer_without_parameters_ranks_last(name):
    model = toy.source_model()
    model.restrict(lambda parameter, module: parameter.startswith("block"))
    batches = [(torch.rand(8, *toy.SHAPE, generator=generator(i)), torch.arange(8) % 4) for i in range(2)]
    found = CRITERIA.get(name)()(model, batches)
    assert found.values[3] == -LARGEST and found.best != 3 and min(found.values[:3]) > -LARGEST
