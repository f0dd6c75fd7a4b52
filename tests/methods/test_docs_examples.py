"""The examples of docs/rows.md: a criterion and a row are added as the page says, and do what they say."""

import re
from pathlib import Path

import pytest
import torch
import toy

from lmsa_bench.control import CRITERIA
from lmsa_bench.methods import METHODS
from lmsa_bench.methods.norm_only import NORMS
from lmsa_bench.suites.plugins import import_plugin

PAGE = Path(__file__).parents[2] / "docs/rows.md"


@pytest.fixture(scope="module", autouse=True)
def added(tmp_path_factory):
    """What the page's code registers, as a plug-in for each block."""
    known = {registry: set(registry.names()) for registry in (CRITERIA, METHODS)}
    folder = tmp_path_factory.mktemp("docs")
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
        (folder / f"rows_{i}.py").write_text(block)
        import_plugin(str(folder / f"rows_{i}.py"))
    new = {registry: set(registry.names()) - names for registry, names in known.items()}
    assert new == {CRITERIA: {"unsure"}, METHODS: {"norms_then_all"}}
    yield
    for registry, names in new.items():
        for name in names:
            registry._factories.pop(name)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_the_criterion_asks_for_validation_and_nothing_else(tmp_path):
    run = toy.run(toy.trial("score_only", criterion="unsure"), tmp_path)
    (record,) = run.epochs()
    result = run.result()
    wrong = 1 - record.val_accuracy
    assert result.saw == ("validation",) and wrong > 0.5
    assert result.scores["unsure"] == [pytest.approx(record.val_accuracy), 0, 0, pytest.approx(wrong)]
    assert record.layers == (3,)


def test_the_row_tunes_norms_for_two_epochs_and_then_everything(tmp_path):
    run = toy.run(toy.trial("norms_then_all", epochs=3), tmp_path)
    parts = run.model.named_modules()
    norms = {f"{name}.{key}" for name, part in parts if isinstance(part, NORMS) for key, _ in part.named_parameters()}
    moved, before = [], {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for _ in run.epochs():
        moved.append({name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])})
    assert moved[0] == moved[1] == norms and moved[2] == set(before)
