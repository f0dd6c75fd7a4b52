"""Code and weights that change between two sweeps over one results folder."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lmsa_bench
from lmsa_bench import local
from lmsa_bench.errors import UserError
from lmsa_bench.models import MODELS
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.sources import SourceModel
from lmsa_bench.sweep import command
from lmsa_bench.trial.names import task_of
from lmsa_bench.trial.spec import Trial

PACKAGE = Path(lmsa_bench.__file__).parent
SUITE = """
suite: two
tasks: [digits_flip]
seeds: 2
sources: one
epochs: 2
figures: []
rows:
  full: {grid: {lr: 1e-2}}
  mine: {method: auto_rgn, grid: {lr: 1e-2}}
"""
PLUGIN = """
from functools import partial
from rates import RATE
from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Method

@METHODS.register
def scaled() -> Method:
    return Method(selectors.only(-1), partial(Adam, lr=RATE))
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package that a test may edit."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "copy" / "lmsa_bench", ignore=shutil.ignore_patterns("*.pyc")))


def run(folder: Path, copy: Path, *more: str, module: str = "sweep") -> subprocess.CompletedProcess:
    asked = [sys.executable, "-m", f"lmsa_bench.{module}", "suite.yaml", "--results", str(folder / "results"), *more]
    if module == "sweep":
        asked += ["--local", "--data", str(folder / "data")]
    environment = os.environ | {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=500, env=environment)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def table(folder: Path) -> dict:
    return json.loads((folder / "results/summary/two/table.json").read_text())


def written(folder: Path, method: str) -> dict[str, int]:
    """When each result of a method was written."""
    journal = Journal(folder / "results")
    ids = [entry.trial.id for entry in journal.entries() if entry.trial.method == method]
    return {trial: (journal.trials / trial / "result.json").stat().st_mtime_ns for trial in ids}


def test_a_changed_method_is_refused_rerun_or_kept_with_a_footnote(tmp_path, copy):
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert run(tmp_path, copy, "--seeds", "1").returncode == 0
    before, others = written(tmp_path, "full"), written(tmp_path, "auto_rgn")

    edit(copy / "methods/full.py", '"""Tunes', '"""Now tunes')
    edit(copy / "control/updates.py", "class Adam", "# A remark.\n\n\nclass Adam")
    told = run(tmp_path, copy, "--seeds", "1")
    assert told.returncode == 0 and "nothing to run" in told.stdout  # words cost nothing

    edit(copy / "methods/full.py", "lr=lr", "lr=lr / 1000")
    told = run(tmp_path, copy)
    assert told.returncode == 2 and told.stderr == (
        "error: suite two: 1 finished trial of full ran on other code than is here (lmsa_bench/methods/full.py): "
        "--changed rerun runs them anew, --changed keep keeps them and says so below the table\n"
    )
    told = run(tmp_path, copy, "--dry-run")
    assert told.returncode == 0 and "1 finished trial of full ran on other code than is here" in told.stdout

    told = run(tmp_path, copy, "--changed", "keep")
    assert told.returncode == 0, told.stderr
    note = "full on digits_flip: trials from more than one version of the code are averaged."
    assert note in told.stdout and note in run(tmp_path, copy, module="report").stdout
    cells = {row["method"]: row["tasks"]["digits_flip"] for row in table(tmp_path)["rows"]}
    assert sorted(cells["full"]["codes"].values()) == [1, 1] and list(cells["mine"]["codes"].values()) == [2]
    assert "1 finished trial of full ran on other code than this version's." in table(tmp_path)["notes"]
    assert before.items() <= written(tmp_path, "full").items()

    told = run(tmp_path, copy, "--changed", "rerun")
    assert told.returncode == 0 and "versions of the code" not in told.stdout
    again = written(tmp_path, "full")
    assert all(again[trial] > time for trial, time in before.items())
    assert others.items() <= written(tmp_path, "auto_rgn").items()
    assert table(tmp_path)["notes"] == []
    store = ResultStore(default_uri(tmp_path / "results"))
    assert store.table().equals(Journal(tmp_path / "results").table())
    client, _ = store._connected()
    keyed = [run for run in store._runs() if "lmsa.trial_key" in run.data.tags]
    assert len(keyed) == 4
    assert {len(client.get_metric_history(run.info.run_id, "val_loss")) for run in keyed} == {2}


def test_a_changed_plugin_is_named_with_its_file(tmp_path, copy):
    (tmp_path / "rates.py").write_text("RATE = 1e-2\n")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "suite.yaml").write_text(
        SUITE.replace("figures", "plugins: [plugin.py]\nfigures") + "  scaled: {grid: {}}\n"
    )
    assert run(tmp_path, copy, "--seeds", "1").returncode == 0
    (tmp_path / "rates.py").write_text("# Slower.\nRATE = 1e-3\n")
    told = run(tmp_path, copy, "--seeds", "1")
    assert told.returncode == 2
    assert "1 finished trial of scaled ran on other code than is here (rates.py): --changed" in told.stderr


@pytest.fixture
def here(tmp_path, data, capsys):
    """Runs the sweep's command in this process; what it printed."""

    def sweep(*more: str) -> str:
        where = ["--results", str(tmp_path / "results"), "--data", str(data), "--local"]
        assert command.main([str(tmp_path / "suite.yaml"), "--seeds", "1", *where, *more]) == 0
        return capsys.readouterr().out

    return sweep


def test_weights_are_named_by_their_content(tmp_path, here):
    def weights(seed: int, name: str) -> None:
        torch.manual_seed(seed)
        torch.save(MODELS.get("wrn_10_1")(10, (1, 8, 8)).source.state_dict(), tmp_path / name)

    given = SUITE.replace("figures", "weights: {wrn_10_1: a.pt}\nfigures")
    (tmp_path / "suite.yaml").write_text(given)
    assert f"({tmp_path / 'a.pt'}): there is no such file" in here("--dry-run")
    with pytest.raises(UserError, match=f"^task digits_flip: weights: there is no file {tmp_path / 'a.pt'}$"):
        here()

    weights(0, "a.pt")
    assert "average rank" in here()
    (tmp_path / "a.pt").rename(tmp_path / "moved.pt")
    (tmp_path / "suite.yaml").write_text(given.replace("a.pt", "moved.pt"))
    assert "nothing to run" in here()
    weights(1, "moved.pt")
    assert "0 of 2 trials are done" in here("--dry-run")  # another model at the same path


def test_weights_that_change_while_a_suite_runs_are_refused(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(b"another")
    trial = Trial("digits_flip", "", "full", {"lr": 0.1, "weight_decay": 0.0}, 0, 1)
    trial = replace(trial, weights=str(tmp_path / "a.pt"), weights_sha256="0" * 64)
    journal = Journal(tmp_path / "results", make=True)
    with pytest.raises(UserError, match=r"a.pt: the file has changed since the suite was read"):
        next(local.run(trial, local.Place(journal, data), SourceModel(task_of(trial), data)))


def test_a_part_has_a_summary_of_its_own(tmp_path, here):
    def shown() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in summary.iterdir() if path.is_file()}

    def note() -> str:
        (run,) = store._runs("tags.`lmsa.suite_key` = 'two'")
        return run.data.tags["mlflow.note.content"]

    (tmp_path / "suite.yaml").write_text(SUITE)
    summary = tmp_path / "results/summary/two"
    here()
    store = ResultStore(default_uri(tmp_path / "results"))
    before = shown(), note()
    assert "two, only method=full: mean over seeds" in here("--only", "method=full")
    assert before == (shown(), note())
    assert "two, only method=full" in (summary / "parts/method-full/table.txt").read_text()
    here()
    assert before == (shown(), note())
