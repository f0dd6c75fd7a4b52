"""Published rows against their authors' arithmetic, in float64 on nets of a few weights."""

import math

import pytest
import torch
import toy
from torch import nn

from lmsa_bench.control import low_rank, selectors, tensor_rates
from lmsa_bench.control.anchored import SelectiveDecay, SquaredDistance
from lmsa_bench.control.closed_form import ClosedForm
from lmsa_bench.control.criteria import largest, smallest
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.control.freezing import Gathering, from_the_front
from lmsa_bench.control.gradient_criteria import fisher, gradient_length
from lmsa_bench.control.lookahead import search
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.projection import TrainableProjection
from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.trajectory import squared_error
from lmsa_bench.control.weight_criteria import outliers, spectrum
from lmsa_bench.methods import METHODS
from lmsa_bench.models.deep_linear import deep_linear
from lmsa_bench.models.layered import LayeredModel
from lmsa_bench.seeding import generator

LR = 0.125


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def linear(*thetas):
    """A deep linear network of these matrices."""
    matrices = [tensor(theta) for theta in thetas]
    model = deep_linear([matrices[0].shape[1], *(len(m) for m in matrices)]).double()
    with torch.no_grad():
        for parameter, matrix in zip(model.tunable(), matrices, strict=True):
            parameter.copy_(matrix)
    return model


def method(name, **given):
    return METHODS.get(name)(**toy.hparams(name, **given))


def stepped(name, model="wrn_10_1", **given):
    """A toy model before and after the first step of a method, in float64, and its selection."""
    chosen, network = method(name, lr=LR, **given), toy.source_model(model).double()
    chosen.prepare(network, generator(0))
    x, y = torch.rand(8, *toy.SHAPE, dtype=torch.float64, generator=generator(1)), torch.arange(8) % 4
    selection = chosen.select(network, Evidence(lambda: iter([(x, y)])), 0, generator(0))
    network.tune_only(selection.layers, chosen.rest)
    update = chosen.update(network)
    if selection.rates:
        update.selected(selection)
    before = {name: p.detach().clone() for name, p in network.source.named_parameters()}
    update.step(x, y, selection.layers)
    after = dict(network.source.named_parameters())
    return {name: after[name].detach() - value for name, value in before.items()}, network, selection


def moved(changes):
    return {name for name, change in changes.items() if change.any()}


def longest(changes, names):
    """Adam's first step is lr · g/(|g| + 1e-8), so the largest change is the rate, to 1e-6 for |g| > 0.01."""
    return max(changes[name].abs().max().item() for name in names)


def test_linear_probe_moves_the_classifier_alone():
    assert moved(stepped("linear_probe")[0]) == {"fc.weight", "fc.bias"}
    assert moved(stepped("linear_probe", "small_vit")[0]) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(("model", "head"), [("wrn_10_1", "fc"), ("small_vit", "head")])
def test_lp_ft_starts_with_the_classifier_at_its_own_rate(model, head):
    changes, network, _ = stepped("lp_ft", model, probe_lr=0.5)
    assert moved(changes) == {f"{head}.weight", f"{head}.bias"}
    assert longest(changes, moved(changes)) == pytest.approx(0.5, rel=1e-5)
    chosen = method("lp_ft", lr=LR, probe_epochs=2)
    # 3 steps an epoch: the probe from step 0, all from step 6, and no new Adam after that.
    assert [step for step in range(30) if chosen.every.due(step, 3)] == [0, 6]
    whole = chosen.select(network, Evidence(), 6, generator(0))
    assert whole.layers == tuple(range(len(network))) and set(whole.rates) == {1.0}


def test_norm_only_moves_every_norm_and_no_more():
    changes, *_ = stepped("norm_only")
    # Channels of bn1 and bn2: 16, 16; 16, 32; 32, 64; then the last norm's 64: 240, each with a scale and a shift.
    assert sum(changes[name].numel() for name in moved(changes)) == 480
    assert all("bn" in name for name in moved(changes))
    assert all("norm" in name for name in moved(stepped("norm_only", "small_vit")[0]))


def test_bitfit_moves_every_bias_and_no_more():
    changes, *_ = stepped("bitfit")
    assert sum(changes[name].numel() for name in moved(changes)) == 240 + 4  # of all norms, and the classifier's
    assert {name.rpartition(".")[2] for name in moved(changes)} == {"bias"}


def test_lora_is_the_merged_weight_and_learns_b_first():
    model = linear([[1.0, 2.0], [3.0, 4.0]], [[1.0, -1.0]])
    x, y = tensor([[1.0, 1.0]]), tensor([[0.0]])
    plain = model(x)
    low_rank.add(1, 2.0, model, generator(0))
    assert torch.equal(model(x), plain)  # B = 0
    first = model.layers[0]
    with torch.no_grad():
        first.lora_a.copy_(tensor([[1.0, 3.0]]))
    # W x = (3, 7), the output −4, ∂J/∂(output) = −4, so ∂J/∂W_0 = −4 · (1, −1)ᵀ (1, 1).
    squared_error(model(x), y).sum().backward()
    # B's gradient is (alpha/rank) ∂J/∂W Aᵀ = 2 · −4 · (1, −1)ᵀ · (1 + 3); A's is 0 while B is.
    assert torch.equal(first.lora_b.grad, tensor([[-32.0], [32.0]])) and not first.lora_a.grad.any()
    assert [p is q for p, q in zip(model.parameters_of(0), (first.lora_a, first.lora_b), strict=True)] == [True, True]
    with torch.no_grad():
        first.lora_b.copy_(tensor([[0.5], [0.0]]))
    # W_0 + 2 · B A = ((1 + 1, 2 + 3), (3, 4)): W x = (7, 7), the output 0.
    assert model(x).item() == 0


def test_lora_of_a_convolution_is_the_merged_kernel():
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1).double()
    model = LayeredModel(nn.Sequential(conv), {"conv": conv})
    low_rank.add(2, 4.0, model, generator(0))
    draw = generator(1)
    with torch.no_grad():
        conv.lora_b.copy_(torch.randn(5, 2, generator=draw, dtype=torch.float64))
    x = torch.randn(2, 3, 8, 8, generator=draw, dtype=torch.float64)
    kernel = conv.weight + 2 * torch.einsum("or,rikl->oikl", conv.lora_b, conv.lora_a)
    torch.testing.assert_close(model(x), nn.functional.conv2d(x, kernel, conv.bias, 2, 1), rtol=1e-12, atol=1e-12)


def test_lora_plus_moves_b_sixteen_times_as_fast():
    changes, *_ = stepped("lora_plus")
    assert moved(changes) == {name for name in changes if low_rank.is_b(name)}  # A has no gradient yet
    assert longest(changes, moved(changes)) == pytest.approx(16 * LR, rel=1e-4)
    plain = stepped("lora")[0]
    assert longest(plain, moved(plain)) == pytest.approx(LR, rel=1e-4)


def test_layer_decay_is_a_rate_a_layer():
    changes, network, _ = stepped("layer_decay", decay=0.5)
    names = {id(p): name for name, p in network.source.named_parameters()}
    rates = [longest(changes, [names[id(p)] for p in network.parameters_of(n)]) for n in range(4)]
    assert rates == pytest.approx([LR / 8, LR / 4, LR / 2, LR], rel=1e-4)


def test_auto_rgn_as_published():
    # θ_1 θ_0 x = 3 · 2 · 1 = 6 against 0: ∂J/∂θ_0 = 6 · 3 = 18, ∂J/∂θ_1 = 6 · 2 = 12; 18/2 = 9 and 12/3 = 4.
    model = linear([[2.0]], [[3.0]])
    batch = tensor([[1.0]]), tensor([[0.0]])
    chosen = tensor_rates.relative(1, squared_error)(model, [batch], 0, generator(0))
    assert (chosen.layers, chosen.rates) == ((0, 1), pytest.approx((1, 4 / 9), rel=1e-12))
    changes, network, selection = stepped("auto_rgn_published", weight_decay=0.0)
    assert not any("bn" in name for name in moved(changes))
    names = {id(p): name for name, p in network.source.named_parameters()}
    for parameter, rate in zip(network.tunable(), selection.rates, strict=True):
        assert longest(changes, [names[id(parameter)]]) == pytest.approx(rate * LR, rel=1e-3)
    assert method("auto_rgn_published", lr=LR).every.due(3, 3)


@pytest.mark.parametrize(
    ("gradient", "rate"),
    [
        ([1.0, 3.0], 1.0),  # variance 2: (1/2 + 9/2)/2 = 2.5
        ([1.0, -1.0], 0.0),  # variance 2: (1/2 + 1/2)/2 = 0.5 < 0.95
        ([5.0], 1.0),  # one row: the variance is nan, which is not below 0.95
        ([0.0, 0.0], 0.0),  # 0/1e-8
    ],
)
def test_auto_snr_as_published(gradient, rate):
    model = linear([[0.0]] * len(gradient))
    batch = tensor([[1.0]]), -tensor([gradient])  # ∂J/∂θ = (0 − y) x
    chosen = tensor_rates.steady(1, squared_error)(model, [batch], 0, generator(0))
    assert (chosen.layers, chosen.rates) == ((0,), (rate,))


def test_lisa_of_lmflow_draws_from_all_layers_and_keeps_moments():
    select = selectors.ends_and_drawn(1)
    drawn = [select([None] * 4, Evidence(), 0, generator(0, i)).layers for i in range(400)]
    # One of 4 layers is drawn: half of the draws are an end, which trains anyway.
    assert set(drawn) == {(0, 3), (0, 1, 3), (0, 2, 3)}
    assert 160 < drawn.count((0, 3)) < 240
    assert METHODS.get("lisa_lmflow")(lr=LR).update(toy.source_model()).keep_state


def test_outlier_ratios_and_draws_in_proportion():
    # ‖x_j‖ over two samples: (5, 0): |W| ‖x‖ of θ_0 = ((5, 0), (0, 0)), mean 1.25; 5 > 3 · 1.25: a quarter.
    # θ_0 x = (3, 0) and (4, 0), so ‖·‖ = (5, 0): θ_1 = (1, 1) gives (5, 0), mean 2.5: none above 3 · 2.5.
    model = linear([[1.0, 2.0], [0.0, 1.0]], [[1.0, 1.0]])
    batches = [(tensor([[3.0, 0.0]]), None), (tensor([[4.0, 0.0]]), None)]
    found = outliers(3.0)(model, batches)
    assert (found.values, found.best) == ([25.0, 0.0], 0)
    conv = nn.Conv2d(1, 1, 2, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
    # The only patch is the image (2, 1; 1, 1): |w| ‖x‖ = (2, 0, 0, 0), mean 0.5.
    layered = LayeredModel(nn.Sequential(conv), {"conv": conv})
    assert outliers(3.0)(layered, [(tensor([[[[2.0, 1.0], [1.0, 1.0]]]]), None)]).values == [25.0]
    select = selectors.ends_and_drawn(1, lambda model, evidence: pytest.fail("scored again"))
    known = Evidence(before={"outliers": [1.0, 3.0, 0.0, 0.0]})
    drawn = [select([None] * 4, known, 20, generator(0, i)).layers for i in range(400)]
    assert set(drawn) == {(0, 3), (0, 1, 3)} and 260 < drawn.count((0, 1, 3)) < 340  # 3 of 4


def test_badam_goes_round_in_blocks_of_steps_with_fresh_moments():
    turns = {}
    for order in ("front_to_end", "end_to_front", "random"):
        before, turns[order] = {}, []
        for step in range(0, 24, 2):
            chosen = selectors.in_cycles(order, 2)(toy.source_model(), Evidence(before=before), step, generator(step))
            before = chosen.scores or before
            turns[order].append(*chosen.layers)
    assert turns["end_to_front"] == [3, 2, 1, 0] * 3 and turns["front_to_end"] == [0, 1, 2, 3] * 3
    cycles = [tuple(turns["random"][i : i + 4]) for i in (0, 4, 8)]
    assert all(sorted(cycle) == [0, 1, 2, 3] for cycle in cycles) and len(set(cycles)) > 1
    update = METHODS.get("badam")(lr=LR).update(toy.source_model())
    x, y = torch.rand(4, *toy.SHAPE), torch.arange(4)
    for layer, states in ((3, {3}), (2, {2}), (3, {3})):
        update.model.tune_only([layer])
        update.optimizer.zero_grad()
        update.step(x, y, [layer])
        kept = {n for n in range(4) if any(p in update.optimizer.state for p in update.model.parameters_of(n))}
        assert kept == states
        assert all(state["step"] == 1 for state in update.optimizer.state.values())


def test_hift_takes_groups_in_turn_round_the_end():
    select = selectors.one_by_one("front_to_end", group=3)
    # Elements 0 1 2 go to the back of the queue 3 0 1 2, then 3 0 1, and so on, as select_element does.
    groups = [select([None] * 4, (), step, None).layers for step in range(4)]
    assert groups == [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]


def test_fisher_is_the_mean_square_of_each_samples_gradient():
    # Outputs θ_1 θ_0 x = 7x, ∂Φ_i/∂θ_0 = (3, 1) x (7x − y), ∂Φ_i/∂θ_1 = (2x, x) (7x − y). Samples (1, 5) and (−1, −6)
    # have residuals 2 and −1: gradients (6, 2) and (3, 1), (4, 2) and (2, 1). Mean squares: 20 and 5, 10 and 2.5.
    model = linear([[2.0], [1.0]], [[3.0, 1.0]])
    batch = tensor([[1.0], [-1.0]]), tensor([[5.0], [-6.0]])
    found = fisher(loss=squared_error)(model, [batch])
    assert (found.values, found.best) == (pytest.approx([12.5, 6.25], rel=1e-12), 0)
    # Of the mean loss: (4.5, 1.5) and (3, 1.5).
    assert gradient_length(loss=squared_error)(model, [batch]).values == pytest.approx([6.0, 4.5])


def test_spectrum_by_hand():
    # s = 4, 3, 2, 1, 0 of a square matrix, β = 1: quartiles 1 and 3, σ = 2/1.349, t = 2σ = 2.965: signal 4 + 3 = 7,
    # noise 2 + 1 = 3, and 7/3/4. Of a single singular value the quartiles are equal: t = 0, no noise, no limit.
    found = spectrum()(linear(torch.diag(tensor([4.0, 3, 2, 1, 0])).tolist(), [[1.0] * 5]), ())
    assert found.values[0] == pytest.approx(7 / 12, rel=1e-12) and found.best == 1


def test_autofreeze_by_hand():
    model = linear(*[[[1.0]]] * 4)
    update = Gathering(model, LR)
    everything = tuple(range(4))
    update.selected(Selection(everything, {}))  # at step 0 nothing is gathered
    select = from_the_front(50)

    def interval(*lengths):
        update.sums = {n: [tensor([[length]])] for n, length in zip(range(4 - len(lengths), 4), lengths, strict=True)}
        chosen = select(model, Evidence(update=update), 3, None)
        update.selected(chosen)
        return chosen.layers

    assert interval(10.0, 10.0, 10.0, 10.0) == everything  # the first lengths are only compared with
    # Changes 0.1, 0.2, 0.5, 0.4: the median is 0.3, and layer 2 the first to reach it.
    assert interval(9.0, 8.0, 5.0, 14.0) == (2, 3)
    # Of layers 2 and 3 alone, 0.2 and 0: the median is 0.1, and layer 2 reaches it.
    assert interval(4.0, 14.0) == (2, 3)
    assert interval(4.0, 7.0) == (3,)


def test_autofreeze_gathers_the_gradients_of_steps():
    model = linear([[2.0]], [[3.0]])
    update = Gathering(model, 1e-9, loss=squared_error)
    model.tune_only([0, 1])
    for y in (4.0, 5.0):  # residuals 2 and 1: gradients 6 and 3 of θ_0, 4 and 2 of θ_1
        update.step(tensor([[1.0]]), tensor([[y]]), [0, 1])
    assert update.lengths() == pytest.approx({0: 9.0, 1: 6.0}, rel=1e-6)


def test_subtunings_search_by_hand():
    # Alone 0.5, 0.7, 0.6; with 1: {0, 1} 0.65, {1, 2} 0.72; then all 0.71.
    table = {(0,): 0.5, (1,): 0.7, (2,): 0.6, (0, 1): 0.65, (1, 2): 0.72, (0, 1, 2): 0.71}
    seen = []

    def accuracy(layers):
        seen.append(tuple(layers))
        return table[tuple(layers)]

    assert search(3, accuracy, 0.4, 0.0) == ((1, 2), [0.5, 0.7, 0.6]) and len(seen) == 6
    table[1, 2] = 0.68  # below 0.7 − ε ends the search at once, with a larger ε it goes on
    seen.clear()
    assert search(3, accuracy, 0.4, 0.0)[0] == (1,) and len(seen) == 5
    assert search(3, accuracy, 0.4, 0.05)[0] == (0, 1, 2)
    assert search(3, accuracy, 0.9, 0.0)[0] == ()  # the source model is better


def test_wise_ft_takes_the_average_that_validation_prefers(tmp_path):
    run = toy.run(toy.trial("wise_ft", epochs=2, alphas=4), tmp_path)
    before = {name: p.detach().clone() for name, p in run.parameters.items()}
    records = run.epochs()
    first = [next(records) for _ in range(2)]
    after = dict(run.best_parameters)
    (last,) = records
    assert last.epoch == 3 and last.train_loss is None and last.flops == 0
    shares = {
        round((((p.detach() - before[n]) / (after[n] - before[n])).nanmean()).item(), 4)
        for n, p in run.parameters.items()
        if not torch.equal(after[n], before[n])
    }
    assert len(shares) == 1 and shares.pop() in (0.25, 0.5, 0.75, 1.0)
    assert run.result().best_epoch == min([*first, last], key=lambda r: r.stopping_key).epoch


def alone(kind, theta, **options):
    """An update of one weight from θ_0 = theta; ``step(g)`` gives it that gradient and returns the weight."""
    model = linear([theta])
    (weight,) = model.tunable()
    update = kind(model, LR, **options)

    def step(*g):
        weight.grad = tensor([g])
        update.apply()
        return weight.detach()[0].tolist()

    return step, update


def adam(gradients):
    """θ − θ_0 of torch's Adam after these gradients of a single weight, one by one."""
    m = v = at = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        at -= LR * m / (1 - 0.9**t) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return at


def test_l2_sps_gradient():
    step, _ = alone(SquaredDistance, [3.0], penalty=2.0)
    moved_by = step(1.0)[0] - 3.0
    assert moved_by == pytest.approx(adam([1.0]), rel=1e-12)
    # The next gradient has 2 · (θ − θ_0) besides.
    assert step(1.0)[0] - 3.0 == pytest.approx(adam([1.0, 1.0 + 2.0 * moved_by]), rel=1e-12)


def test_spd_takes_back_what_leads_away():
    step, _ = alone(SelectiveDecay, [0.0], decay=0.5)
    a = step(1.0)[0]
    assert a == pytest.approx(adam([1.0]))  # at θ_0 there is no direction away from it
    # ⟨g, θ − θ_0⟩ = 1 · a < 0: Adam's step to lower θ leads away from θ_0, but as g asks: nothing is undone.
    b = step(1.0)[0]
    assert b == pytest.approx(adam([1.0, 1.0])) and b < a
    # g = −2: ⟨g, b⟩ > 0, and the moments still lead down, from b to c: c − 0.5 (1 − |b|/|c|) c.
    c = adam([1.0, 1.0, -0.5])
    assert c < b and step(-0.5)[0] == pytest.approx(c - 0.5 * (1 - abs(b) / abs(c)) * c, rel=1e-9)


def test_ftps_radius_by_hand():
    step, update = alone(TrainableProjection, [0.0, 0.0], radius_lr=0.01, anneal=1.0)
    # Adam moves both weights by −0.125: ‖c‖₁ = 0.25, and the first radius of 1e-8 leaves 1e-8/0.25 of it.
    first = step(2.0, 1.0)
    assert first == pytest.approx([-0.125 * 1e-8 / 0.25] * 2, rel=1e-6)
    # ∂J/∂γ = (2 · −0.125 + 1 · −0.125)/0.25 = −1.5 at the second step: m = −0.15, v = 0.00225, corrected with t = 2:
    # −0.15/0.19 = −0.78947, √(0.00225/0.001999) = 1.06092, so γ = 1e-8 + 0.01 · 0.744138.
    second = step(2.0, 1.0)
    mean, root = -0.15 / (1 - 0.9**2), math.sqrt(0.001 * 1.5**2 / (1 - 0.999**2))
    radius = 1e-8 - 0.01 * mean / (root + 1e-8)
    assert update.radii[0][0][0].item() == pytest.approx(radius, rel=1e-9) == pytest.approx(0.00744, abs=1e-5)
    assert sum(map(abs, second)) == pytest.approx(radius, rel=1e-6)  # projected onto the ball
    # A positive derivative, of −g, shrinks the radius, with anneal = 0 it does nothing at first.
    for anneal, shrinks in ((1.0, True), (0.0, False)):
        step, update = alone(TrainableProjection, [0.0, 0.0], radius_lr=1e-4, anneal=anneal)
        for g in (1.0, 1.0, -30.0):
            before = update.radii[0][0][0].item() if update.radii else 0
            step(g, g)
        assert (update.radii[0][0][0].item() < before) is shrinks


def test_random_layer_is_one_for_the_whole_training(tmp_path):
    chosen = set()
    for seed in range(12):
        run = toy.run(toy.trial("random_layer", epochs=2, seed=seed), tmp_path)
        layers = {record.layers for record in run.epochs()}
        assert len(layers) == 1
        chosen |= layers
    assert chosen == {(n,) for n in range(4)}


@pytest.mark.parametrize("c", [1.0, 3.0])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_the_closed_form_leaves_the_loss_that_it_predicts(n, c):
    torch.manual_seed(0)
    model = deep_linear([4, 5, 3, 2]).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    predicted = predicted_loss("flat", c, loss=squared_error)(model, [(x, y)]).values[n]
    model.tune_only([n])
    before = squared_error(model(x), y).mean().item()
    assert ClosedForm(model, c, "flat", squared_error).step(x, y, [n]).item() == pytest.approx(before, rel=1e-12)
    assert squared_error(model(x), y).mean().item() == pytest.approx(predicted, rel=1e-10)


def test_any_criterion_may_choose_several_layers():
    scores = [3.0, 1.0, 2.0, 1.0]
    for kind, orders in ((largest, [(0,), (0, 2), (0, 1, 2)]), (smallest, [(1,), (1, 3), (1, 2, 3)])):
        assert [kind("some", scores).top(k) for k in (1, 2, 3)] == orders
    chosen = selectors.best(lambda model, evidence: largest("some", scores), k=2)(None, (), 0, None)
    assert chosen.layers == (0, 2)
