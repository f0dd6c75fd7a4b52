"""The code that decides a trial: which files it is, and what in them counts."""

import subprocess
import sys
from pathlib import Path

import pytest
import toy

from lmsa_bench.trial import code
from lmsa_bench.trial.spec import Trial

ALWAYS = {"trial/run.py", "trial/samples.py", "sources/model.py", "sources/training.py", "seeding.py", "tasks/task.py"}


def trial(method: str, task: str = "digits_flip", **hparams) -> Trial:
    return Trial(task, "", method, toy.hparams(method, **hparams), 0, 1)


def test_it_is_the_modules_that_method_task_and_model_use():
    full, lmsa = (set(code.modules_of(trial(method))) for method in ("full", "lmsa"))
    assert lmsa ^ full == {f"lmsa_bench/{n}.py" for n in ("methods/full", "methods/lmsa", "control/predicted_loss")}
    assert {f"lmsa_bench/{name}" for name in ALWAYS} <= full
    assert "lmsa_bench/models/wide_resnet.py" in full and "lmsa_bench/models/vit.py" not in full
    assert "lmsa_bench/tasks/fashion.py" not in full and "lmsa_bench/tasks/imagenet.py" not in full
    # Registries, and what only writes and complains, decide nothing.
    assert not {f"lmsa_bench/{n}" for n in ("errors.py", "atomic.py", "object_store.py")} & full
    assert not {f"lmsa_bench/{n}__init__.py" for n in ("", "control/", "methods/", "models/", "tasks/")} & full


def test_corruptions_that_are_drawn_in_a_trial_are_part():
    corruptions = {f"lmsa_bench/tasks/corruptions/{n}.py" for n in ("__init__", "noise", "pixels", "severities")}
    assert corruptions <= code.modules_of(trial("full", "digits_noise")).keys()
    assert code.code_of_states(trial("full", "digits_noise")) != code.code_of_states(trial("full", "digits_flip"))


def test_a_criterion_that_a_hyper_parameter_names_is_part():
    assert "lmsa_bench/control/criteria.py" in code.modules_of(trial("score_only", criterion="rgn"))


def test_it_is_the_same_in_another_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import toy\n"
        "from lmsa_bench.trial import code\nfrom lmsa_bench.trial.spec import Trial\n"
        "print(code.code_of(Trial('digits_flip', '', 'full', toy.hparams('full'), 0, 1)))"
    )
    folder = str(Path(toy.__file__).parent)
    told = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == code.code_of(trial("full"))


BASE = "def f(x, y=1):\n    return x + y\n"
SAME = {
    "a module's docstring": f'"""Adds."""\n\n{BASE}',
    "a function's docstring": 'def f(x, y=1):\n    """Adds."""\n    return x + y\n',
    "a comment": f"{BASE}# A remark.\n",
    "layout": "def f(\n    x,\n    y=1,\n):\n\n    return (x\n            + y)\n",
}
OTHER = {
    "a default": BASE.replace("1", "2"),
    "its kind": BASE.replace("1", "1.0"),
    "an operator": BASE.replace("+", "-"),
    "a name": BASE.replace("def f", "def g"),
    "a text": f"{BASE}TEXT = 'x'\n",
    "a decorator": f"@print\n{BASE}",
}


@pytest.mark.parametrize("what", [*SAME, *OTHER])
def test_only_what_a_module_does_counts(what, tmp_path):
    texts = {"base": BASE, "changed": (SAME | OTHER)[what]}
    digests = []
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        digests.append(code._read(tmp_path / f"{name}.py")[1])
    assert (digests[0] == digests[1]) == (what in SAME)


FILES = {
    "plugin.py": "import torch\nimport helpers as h\nfrom pack import wanted\nfrom lmsa_bench import METHODS\n"
    "def late():\n    from lazy import x\n    return h.y",
    "helpers.py": "import json\nfrom below.deep import z",
    "below/deep.py": "import lmsa_bench as lb\nfrom lmsa_bench import control\n"
    "CHOICE = control.selectors.only, lb.Method",
    "pack/__init__.py": "from .one import wanted\nfrom .two import unwanted",
    "pack/one.py": "from . import three\nwanted = 1",
    "pack/two.py": "unwanted = 1",
    "pack/three.py": "",
    "lazy.py": "x = 1",
    "unused.py": "",
}


def test_imports_are_followed_through_a_plugin_and_into_the_package(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    home = code.Home(tmp_path)
    found = {path for path, at in code._closure([(tmp_path / "plugin.py", home)]) if at == home}
    assert {str(path.relative_to(tmp_path)) for path in found} == set(FILES) - {
        "unused.py",
        "pack/__init__.py",
        "pack/two.py",
    }
    ours = {path.name for path, at in code._closure([(tmp_path / "plugin.py", home)]) if at == code.OURS}
    assert {"selectors.py", "method.py"} <= ours and "__init__.py" not in ours and "fashion.py" not in ours
    assert code.beside(tmp_path / "plugin.py") == {
        "helpers": tmp_path / "helpers.py",
        "below": tmp_path / "below",
        "pack": tmp_path / "pack",
        "lazy": tmp_path / "lazy.py",
    }
