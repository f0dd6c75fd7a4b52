"""Weights of every origin and format as source models, and files that do not fit."""

import os
import pickle
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from fuzzing import MARKER, Hostile
from toy import net, same, split, task

from lmsa_bench.errors import UserError
from lmsa_bench.models import MODELS, weights
from lmsa_bench.sources import SourceFacts, SourceModel, needs
from lmsa_bench.suites import load as suites
from lmsa_bench.tasks import build
from lmsa_bench.tasks.task import Stage, to_unit

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path):
    """Writes a state dict, or any content, and returns its path."""

    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


FORMATS = {
    "plain": lambda state: state,
    "robustbench": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
    "model prefix": lambda state: {f"model.{key}": value for key, value in state.items()},
    "both prefixes": lambda state: {f"module.model.{key}": value for key, value in state.items()},
    "deit": lambda state: {"model": state},
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads_the_same_network(file, form):
    state = net(seed=1).state_dict()
    if form == "half precision":
        state = {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    other = net(seed=2)
    assert weights.load(other, file(FORMATS[form](state)), new_head=False)
    assert same(other.state_dict(), state)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    state = net(seed=1).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    other = net(seed=2)
    assert weights.load(other, tmp_path / "a.safetensors", new_head=False) and same(other.state_dict(), state)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-50])
    with pytest.raises(UserError, match=r"b.safetensors: cannot be read"):
        weights.read(tmp_path / "b.safetensors")


@pytest.mark.slow
def test_torchvision_and_timm_files_of_the_papers_models_fit(file):
    import timm
    import torchvision

    for name, other in (
        ("resnet50", torchvision.models.resnet50()),
        ("deit_tiny", timm.create_model("deit_tiny_patch16_224.fb_in1k")),
    ):
        model = MODELS.get(name)(1000, (3, 224, 224)).eval()
        assert weights.load(model.source, file({"model": other.state_dict()}), new_head=False)
        x = torch.rand(1, 3, 224, 224)
        with torch.no_grad():
            torch.testing.assert_close(model(x), other.eval()(x), rtol=1e-4, atol=1e-5)
        new = MODELS.get(name)(17, (3, 224, 224))
        assert not weights.load(new.source, file(other.state_dict()), new_head=True)


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda s: without(s, "conv1.weight"), "missing keys conv1.weight$"),
        (lambda s: without(s, *list(s)[:6]), "missing keys .*, .* and [123] more"),
        (lambda s: s | {"sub_block1.weight": s["fc.bias"]}, "unexpected keys sub_block1.weight$"),
        (lambda s: s | {"conv1.weight": s["conv1.weight"][:, :1]}, r"conv1.weight \(16, 1, 3, 3\) for \(16, 3, 3, 3\)"),
        (lambda s: net(1000).state_dict(), "its model has 1000 outputs, the task has 4 classes"),
        (lambda s: without(s, "fc.weight"), "missing keys fc.weight"),
        (lambda s: {}, "not a state dict of tensors"),
        (lambda s: {"state_dict": {"a": 1}}, "not a state dict of tensors: a"),
        (lambda s: [1], "not a state dict but a list"),
        (lambda s: s | {"evil": Path("x")}, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(file, change, text):
    path = file(change(net().state_dict()))
    with pytest.raises(UserError, match=text) as error:
        weights.load(net(), path, new_head=False)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", pickle.dumps(Hostile(0), 2), pickle.dumps({"a": 1}, 2), b"PK\3\4 cut"],
    ids=["empty", "text", "hostile", "pickle", "cut"],
)
def test_a_file_that_is_not_a_checkpoint_is_one_line_and_executes_nothing(tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"weights.pt: (cannot be read|not a state dict)") as error:
        weights.read(tmp_path / "weights.pt")
    assert "\n" not in str(error.value) and not os.path.exists(MARKER)


def test_a_truncated_file_is_one_line(file):
    path = file(net().state_dict())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot be read"):
        weights.read(path)


def test_weights_that_fit_are_the_source_model(file, tmp_path):
    given = task(weights=str(file(net(seed=3).state_dict())), stages=(Stage("all", 1, 1e-3),))
    facts = SourceModel(given, tmp_path).ensure(CPU)
    assert same(SourceModel(given, tmp_path).load(CPU).source.state_dict(), net(seed=3).state_dict())
    assert "whose classifier fits the task's 4 classes, so it was not trained further: " in facts.judgement(given)
    assert facts.provenance()["stages_skipped"] and SourceModel(given, tmp_path).ensure(CPU) == facts
    other = task(weights=str(file(net(seed=4).state_dict(), "other.pt")))
    assert SourceModel(other, tmp_path).fingerprint != SourceModel(given, tmp_path).fingerprint


def test_a_linear_probe_trains_the_new_head_alone_on_each_seeds_tuning_images(file, tmp_path):
    backbone = net(1000, seed=3).state_dict()
    probed = task(weights=str(file(backbone)), stages=(Stage("head", 60, 3e-2),), on_tuning=True, load=None)
    facts = [SourceModel(probed, tmp_path, seed).ensure(CPU) for seed in (0, 0, 1)]
    assert facts[0] == facts[1] and facts[0].source != facts[2].source
    state = SourceModel(probed, tmp_path).load(CPU).source.state_dict()
    assert same(without(state, "fc.weight", "fc.bias"), without(backbone, "fc.weight", "fc.bias"))
    assert facts[0].source_accuracy > 0.5  # a quarter by chance
    assert not any("stages_skipped" in one.provenance() for one in facts)
    why = "task toy: its source model cannot be trained here: give weights: {wrn_10_1: hub} or a file's path"
    assert needs.missing_weights(task(load=None), tmp_path) == [why]  # in a plan
    for make in (
        partial(needs.prepare, task(load=None), tmp_path),
        partial(SourceModel(task(load=None), tmp_path).ensure, CPU),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(why)}$"):
            make()


def test_lp_ft_trains_the_head_first_and_then_all(file, tmp_path):
    backbone = net(1000, seed=3).state_dict()
    stages = (Stage("head", 3, 1e-3), Stage("all", 12, 3e-3))  # batch statistics need more than two short epochs
    tuned = task(weights=str(file(backbone)), stages=stages)
    facts = SourceModel(tuned, tmp_path).ensure(CPU)
    state = SourceModel(tuned, tmp_path).load(CPU).source.state_dict()
    assert not torch.equal(state["conv1.weight"], backbone["conv1.weight"]) and facts.source_accuracy > 0.5
    assert SourceModel(tuned, tmp_path, 1).ensure(CPU) == facts  # the source's data do not depend on the seed


def test_an_accuracy_is_measured_once_its_images_are_present(file, tmp_path):
    path = str(file(net(seed=3).state_dict()))
    before = SourceModel(task(weights=path, holdout=lambda root: None), tmp_path).ensure(CPU)
    assert before.source_accuracy is None
    after = SourceModel(task(weights=path), tmp_path).ensure(CPU)
    assert after.source == before.source and 0 <= after.source_accuracy <= 1


def test_a_wrong_normalisation_is_warned_about():
    given = task(weights="hub", accuracy=0.9478)
    assert SourceFacts("", "", 0.95).judgement(given).endswith("95.00% on held-out images, published 94.78%")
    assert "warning: off by more than 2 points" in SourceFacts("", "", 0.91).judgement(given)
    assert "not measured" in SourceFacts("", "", None).judgement(given)
    assert "warning" not in SourceFacts("", "", 0.5).judgement(task(accuracy=0.9478))
    near = f"warning: near chance, which is {1 / given.classes:.2%}"
    assert near in SourceFacts("", "", 1.9 / given.classes).judgement(task())
    assert near not in SourceFacts("", "", 2.1 / given.classes).judgement(task())


def test_the_hubs_file_is_downloaded_once_and_verified(tmp_path, monkeypatch):
    state = net(seed=5).state_dict()
    torch.save(state, tmp_path / "published.pt")
    published = weights.Published((tmp_path / "published.pt").as_uri(), "file.pt", "", 4, 0.5)
    monkeypatch.setattr(weights, "PUBLISHED", {"wrn_10_1": published})
    hub = task(weights="hub")
    assert needs.missing_weights(hub, tmp_path) and weights.default("wrn_10_1") == "hub"
    needs.prepare(hub, tmp_path)
    assert not needs.missing_weights(hub, tmp_path)
    SourceModel(hub, tmp_path).ensure(CPU)
    assert same(SourceModel(hub, tmp_path).load(CPU).source.state_dict(), state)
    monkeypatch.setattr(weights, "PUBLISHED", {"wrn_10_1": replace(published, file="other.pt", sha256="00")})
    with pytest.raises(UserError, match=r"weights of wrn_10_1: .*its sha256 is .*; or put the file at .*other.pt"):
        needs.prepare(hub, tmp_path)


def test_an_unreachable_hub_and_one_without_the_model(tmp_path, monkeypatch):
    published = weights.Published("http://127.0.0.1:9/none", "file.pt", "", 4, None)
    monkeypatch.setattr(weights, "PUBLISHED", {"wrn_10_1": published})
    with pytest.raises(UserError, match=r"weights of wrn_10_1: .* unreachable .*or put the file at"):
        needs.prepare(task(weights="hub"), tmp_path)
    monkeypatch.setattr(weights, "PUBLISHED", {})
    with pytest.raises(UserError, match="no weights of wrn_10_1 are published: expected pretrain or a file, not hub"):
        needs.prepare(task(weights="hub"), tmp_path)
    with pytest.raises(UserError, match=r"no file /none.pt"):
        needs.prepare(task(weights="/none.pt"), tmp_path)


SUITE = """
suite: small
tasks: [cifar10_c, cifar_flip]
rows: {full: {grid: {lr: 0.001}}}
seeds: 2
sources: one
"""


def load(tmp_path, text):
    (tmp_path / "small.yaml").write_text(SUITE + text)
    return suites.load(str(tmp_path / "small.yaml"))


def test_a_suites_options_and_weights_are_in_its_trials(tmp_path):
    suite = load(
        tmp_path,
        "task_options: {cifar10_c: {corruptions: [fog, frost], model: wrn_16_1}}\nweights: {wrn_28_10: ../wrn.pt}\n",
    )
    corrupted = [t for t in suite.trials if t.task == "cifar10_c" and t.seed == 0]
    assert [(t.variant, t.options["corruptions"]) for t in corrupted] == [("fog", ["fog"]), ("frost", ["frost"])]
    assert corrupted[0].options["severity"] == 5 and corrupted[0].weights == "pretrain"
    flipped = next(t for t in suite.trials if t.task == "cifar_flip")
    assert flipped.weights == str(tmp_path.parent / "wrn.pt")
    rebuilt = build(corrupted[0].task, corrupted[0].options, corrupted[0].weights)
    assert rebuilt.variants == ("fog",) and rebuilt.model == "wrn_16_1" and rebuilt.source.weights == "pretrain"
    more = load(tmp_path, "task_options: {cifar10_c: {corruptions: [snow, fog], model: wrn_16_1}}\n")
    assert corrupted[0].id in {t.id for t in more.trials}  # a longer list of corruptions does not change their trials


@pytest.mark.parametrize(
    "text, error",
    [
        ("task_options: {cifar10_c: {severty: 4}}", "cifar10_c: unknown option 'severty': did you mean 'severity'"),
        ("task_options: {cifar10_c: {severity: 6}}", "cifar10_c.severity: 6 is not valid"),
        ("task_options: {cifar10_c: {corruptions: fog}}", "cifar10_c.corruptions: 'fog' is not valid"),
        ("task_options: {cifar10_c: {corruptions: [fogg]}}", "no corruption 'fogg': did you mean 'fog'"),
        ("task_options: {cifar10_c: {corruptions: []}}", "is empty"),
        ("task_options: {cifar10_c: {model: wrn_28_1}}", "cifar10_c: unknown model 'wrn_28_1': did you mean"),
        ("task_options: {living17: {}}", "task_options: 'living17' is not one of the tasks"),
        ("weights: {resnet50: hub}", "weights: 'resnet50' is not a model of the suite"),
        ("weights: {wrn_28_10: 3}", "weights: .* is not valid"),
    ],
)
def test_a_wrong_option_or_weight_in_a_suite_is_one_line(tmp_path, text, error):
    with pytest.raises(UserError, match=error) as raised:
        load(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_input_is_normalised_for_the_model():
    assert torch.equal(weights.normalised("wrn_28_10")(x := to_unit(split(2, 0, "input").images)), x)
    assert not torch.equal(weights.normalised("resnet50")(x), x)
