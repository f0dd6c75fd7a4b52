"""Mistakes in an author's own module end in one line when a suite is loaded, and in --dry-run."""

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.suites.load import load
from lmsa_bench.sweep import command

HEAD = """
from functools import partial
from torch import nn
from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Method, Positive
from lmsa_bench.models import MODELS
from lmsa_bench.tasks import TASKS
from lmsa_bench.tasks.digits import digits_flip
"""
METHOD = "@METHODS.register\ndef {0}(lr: Positive = 0.1) -> Method:\n    return {1}\n"
# name -> (what the plug-in registers, row or task, the message)
MISTAKES = {
    "returns_dict": (METHOD.format("returns_dict", "dict(select=None)"), "returns a value of type dict, not a Method"),
    "no_type": (
        "@METHODS.register\ndef no_type(lr):\n    return Method(selectors.every_layer(), partial(Adam, lr=lr))\n",
        r"no_type: parameter 'lr' has no type; write lr: float, say",
    ),
    "takes_anything": (
        "@METHODS.register\ndef takes_anything(**options: float):\n    return Method(selectors.none(), None)\n",
        r"takes_anything takes \*\*options: float: name each parameter, with its type",
    ),
    "layer_9": (METHOD.format("layer_9", "Method(selectors.only(9), partial(Adam, lr=lr))"), "layer 9: the model has"),
    "raises": (
        METHOD.format("raises", "Method(selectors.only(1 / 0), None)"),
        r"ZeroDivisionError: .*plug_raises\.py:",
    ),
    "unnamed_layer": (
        "from lmsa_bench.control.selectors import Selection\n"
        + METHOD.format("unnamed_layer", "Method(lambda m, b, s, g: Selection((4,), {}), partial(Adam, lr=lr))"),
        r"selects \[4\]: the model has layers 0 to 3",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_method_that_cannot_work_is_one_line(name, tmp_path):
    source, message = MISTAKES[name]
    (tmp_path / f"plug_{name}.py").write_text(HEAD + source)
    suite = tmp_path / "suite.yaml"
    grid = "{grid: {lr: 0.1}}" if name == "no_type" else ""
    suite.write_text(f"suite: s\nplugins: [plug_{name}.py]\ntasks: [digits_flip]\nrows: {{{name}: {grid}}}\n")
    with pytest.raises(UserError, match=rf"suite\.yaml: rows\.{name}.*{message}"):
        load(str(suite))


def test_a_built_in_row_that_the_model_cannot_have_is_one_line(tmp_path):
    suite = tmp_path / "suite.yaml"
    head = "suite: s\ntasks: [digits_flip]\nrows:\n"
    for row, message in {
        "lisa: {grid: {lr: 1e-2, gamma: 9}}": "rows.lisa: lisa: gamma 9: the model has 2 middle layers",
        "single_layer: {grid: {lr: 1e-2, n: [0, 4]}}": "rows.single_layer: single_layer: layer 4: the model has layers",
        "given_layers: {grid: {lr: 1e-2, layers: [0+1, 1+4]}}": "rows.given_layers: given_layers: layer 4: the model",
        "given_layers: {grid: {lr: 1e-2, layers: last}}": "layers 'last': give different numbers joined by",
        "given_layers: {grid: {lr: 1e-2, layers: 1+1}}": "layers '1\\+1': give different numbers joined by",
    }.items():
        suite.write_text(f"{head}  {row}\n")
        with pytest.raises(UserError, match=message):
            load(str(suite))


def test_tasks_and_models_of_the_wrong_type_are_one_line(tmp_path):
    (tmp_path / "plug_kinds.py").write_text(
        HEAD
        + "from dataclasses import replace\n"
        + "@TASKS.register\ndef no_task():\n    return 3\n"
        + "@MODELS.register\ndef no_layers(classes: int, shape: tuple[int, int, int]):\n    return nn.Linear(3, 3)\n"
        + "@TASKS.register\ndef odd_model():\n    return replace(digits_flip(), name='odd_model', model='no_layers')\n"
    )
    suite = tmp_path / "suite.yaml"
    for task, message in {
        "no_task": "task_options.no_task: no_task returns a value of type int, not a Task",
        "odd_model": "task_options.odd_model: model no_layers: returns a value of type Linear, not a LayeredModel",
    }.items():
        suite.write_text(f"suite: s\nplugins: [plug_kinds.py]\ntasks: [{task}]\nrows: {{no_adaptation: }}\n")
        with pytest.raises(UserError, match=message):
            load(str(suite))


def test_a_step_that_raises_is_one_line_of_a_plan(tmp_path, capsys):
    (tmp_path / "plug_step.py").write_text(
        HEAD
        + "class Broken(Adam):\n    def step(self, x, target, layers, start):\n        return {}['momentum']\n"
        + METHOD.format("broken_step", "Method(selectors.every_layer(), partial(Broken, lr=lr))")
    )
    suite = tmp_path / "suite.yaml"
    suite.write_text("suite: s\nplugins: [plug_step.py]\ntasks: [digits_flip]\nrows: {broken_step: }\n")
    with pytest.raises(UserError, match=r"digits_flip broken_step: KeyError: 'momentum' \(.*plug_step\.py:12\)"):
        command.main([str(suite), "--dry-run", "--results", str(tmp_path / "r"), "--data", str(tmp_path / "d")])


def test_a_criterion_that_needs_data_or_numbers_is_left_to_its_trial(tmp_path):
    (tmp_path / "plug_needs.py").write_text(
        HEAD
        + "from lmsa_bench.control.selectors import Selection\n"
        + "def data(m, batches, s, g):\n    x, y = next(iter(batches))\n"
        + "def numbers(m, b, s, g):\n    return Selection((int(next(m.parameters()).sum().item() > 0),), {})\n"
        + METHOD.format("needs_data", "Method(data, partial(Adam, lr=lr))")
        + METHOD.format("needs_numbers", "Method(numbers, partial(Adam, lr=lr))")
    )
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "suite: s\nplugins: [plug_needs.py]\ntasks: [digits_flip]\nseeds: 1\nrows: {needs_data: , needs_numbers: }\n"
    )
    assert len(load(str(suite)).trials) == 2
