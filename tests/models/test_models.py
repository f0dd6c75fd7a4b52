"""What every registered model must satisfy, and the paper's cuts and parameter counts."""

import copy

import pytest
import torch

from lmsa_bench.models import MODELS

SMALL = {"small_vit": (1, 8, 8), "wrn_10_1": (1, 8, 8)}
PAPER = {  # table 2 and appendix A.2.4: input, classes, layers, parameters
    "deit_tiny": ((3, 224, 224), 1000, 12, 5_717_416),
    "resnet50": ((3, 224, 224), 1000, 5, 25_557_032),
    "wrn_28_10": ((3, 32, 32), 10, 4, 36_479_194),
}


def shape_of(name: str) -> tuple[int, int, int]:
    return SMALL.get(name) or PAPER.get(name, ((3, 32, 32),))[0]


@pytest.fixture(params=MODELS.names())
def model(request):
    torch.manual_seed(0)
    shape = shape_of(request.param)
    model = MODELS.get(request.param)(7, shape).eval()
    return model, torch.rand(2, *shape)


@torch.no_grad()
def test_the_composition_is_the_source_model(model):
    model, x = model
    assert torch.equal(model(x), model.source(x))
    assert model(x).shape == (2, 7)
    state = x
    for n in range(len(model)):
        state = model.run(state, n, n + 1)
    assert torch.equal(state, model(x))


def test_no_parameter_belongs_to_two_layers(model):
    model, _ = model
    ids = [id(p) for n in range(len(model)) for p in model.parameters_of(n)]
    assert len(ids) == len(set(ids)) and all(model.parameters_of(n) for n in range(len(model)))
    assert set(ids) <= {id(p) for p in model.parameters()}
    assert set(model.state_dict()) == {f"source.{name}" for name in model.source.state_dict()}
    assert len(model.names) == len(model) == len(set(model.names))


def test_tune_only_unfreezes_one_layer(model):
    model, _ = model
    last = len(model) - 1
    model.tune_only([last])
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in model.parameters_of(last)}


@torch.no_grad()
def test_a_copy_is_independent(model):
    model, x = model
    before = model(x)
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(model(x), before) and not twin(x).any()


def test_layers_are_per_sample_functions(model):
    model, x = model
    together, alone = model(x)[:1], model(x[:1])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PAPER)
def test_paper_models_have_their_counts(name):
    shape, classes, layers, parameters = PAPER[name]
    model = MODELS.get(name)(classes, shape)
    assert len(model) == layers
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_wrn_has_robustbench_key_names_and_freezes_its_last_norm():
    model = MODELS.get("wrn_28_10")(10, (3, 32, 32))
    names = set(model.source.state_dict())
    assert {"conv1.weight", "block1.layer.0.bn1.weight", "block2.layer.0.convShortcut.weight", "fc.bias"} <= names
    assert "block1.layer.3.conv2.weight" in names and "bn1.running_var" in names
    assert [p.shape for p in model.parameters_of(3)] == [(10, 640), (10,)]


def test_an_invalid_depth_of_a_wide_resnet():
    from lmsa_bench.models.wide_resnet import wide_resnet

    with pytest.raises(ValueError, match="6k"):
        wide_resnet(12, 1, 10)
