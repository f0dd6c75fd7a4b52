"""A sweep without Ray: the same records, and errors of a user's own code where they were raised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from lmsa_bench import local
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.load import load
from lmsa_bench.sweep import command

PLUGIN = Path(toy.__file__).with_name("raising.py")
LINE = next(i for i, line in enumerate(PLUGIN.read_text().splitlines(), 1) if "# RAISED" in line)
BUILT_IN = METHODS.names()  # before another test's plug-ins are among them
RAISING = f"""
suite: raising
tasks: [raising_task]
seeds: 1
epochs: 2
plugins: [{PLUGIN}]
rows:
  raising: {{grid: {{lr: 1e-2}}}}
  full: {{grid: {{lr: 1e-2}}}}
"""


def sweep(folder: Path, data: Path, *more: str, raises: str = "") -> subprocess.CompletedProcess:
    where = ["--results", str(folder / "results"), "--data", str(data), "--cpus", "1"][: 4 if "--local" in more else 6]
    command = [sys.executable, "-m", "lmsa_bench.sweep", "suite.yaml", *where, *more]
    environment = os.environ | {"RAISES": raises}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, env=environment)


def every_method() -> str:
    """A suite with a row for each method, and one whose grid goes on by what validation chooses."""
    rows = {name: {"grid": toy.hparams(name), "epochs": 2} for name in BUILT_IN}
    for name, row in rows.items():
        row["grid"] = {key: value for key, value in row["grid"].items() if value is not None}
        row["ranked"] = name not in ("no_adaptation", "score_only")
    growing = {"lr": {"start": [1e-2], "extend": 10, "bounds": [1e-3, 1e-1]}}
    rows["grown"] = {"method": "full", "grid": growing, "epochs": 2}
    head = {"suite": "every", "tasks": ["digits_flip"], "seeds": 1, "rows": rows}
    return json.dumps(head)  # which YAML can read


def untimed(folder: Path) -> list[dict]:
    return Journal(folder / "results").table().drop_columns(["seconds", "time", "provenance"]).to_pylist()


@pytest.mark.slow  # two sweeps over every method, one of them on Ray
def test_here_and_on_ray_the_records_are_the_same(tmp_path, data):
    told = {}
    for mode in ("--local", "--plain"):
        folder = tmp_path / mode
        folder.mkdir()
        (folder / "suite.yaml").write_text(every_method())
        told[mode] = sweep(folder, data, mode)
        assert told[mode].returncode == 0, told[mode].stderr
    assert untimed(tmp_path / "--local") == untimed(tmp_path / "--plain")
    tables = [(tmp_path / mode / "results/summary/every/table.csv").read_bytes() for mode in told]
    assert tables[0] == tables[1]
    assert told["--plain"].stdout.count(" on Ray") == 1  # what its grids came to ran on the same workers
    ran = len(Journal(tmp_path / "--local" / "results").ids())
    assert ran > len(BUILT_IN)
    assert sweep(tmp_path / "--local", data, "--local").stdout.startswith(f"all {ran} trials are done")


def test_here_twice_the_records_are_the_same(tmp_path, data, monkeypatch):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "suite.yaml").write_text(every_method())
        suite = load(str(folder / "suite.yaml"))
        with local.ready(suite.plugins) as device:
            local.run_all(suite.trials, local.Place(Journal(folder / "results", make=True), data, device))
    assert untimed(tmp_path / "one") == untimed(tmp_path / "two")


@pytest.mark.parametrize("where", ["step", "criterion", "splits"])
def test_here_an_error_of_a_plugin_ends_in_its_traceback(tmp_path, data, where):
    (tmp_path / "suite.yaml").write_text(RAISING)
    done = sweep(tmp_path, data, "--local", raises=where)
    assert done.returncode == 1
    assert f'File "{PLUGIN}", line {LINE}, in momentum' in done.stderr
    assert done.stderr.rstrip().endswith("KeyError: 'momentum'")


@pytest.mark.parametrize("mode", ["--local", "--plain"])
def test_an_error_of_a_plugins_factory_is_one_line_with_its_place(tmp_path, data, mode):
    (tmp_path / "suite.yaml").write_text(RAISING)
    done = sweep(tmp_path, data, mode, raises="factory")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"rows.raising: raising: KeyError: 'momentum' ({PLUGIN}:{LINE})" in done.stderr


@pytest.mark.slow  # a sweep on Ray
def test_on_ray_an_error_of_a_plugin_is_final_and_names_its_place(tmp_path, data):
    (tmp_path / "suite.yaml").write_text(RAISING)
    done = sweep(tmp_path, data, "--plain", raises="step")
    assert done.returncode == 1, done.stderr
    journal = Journal(tmp_path / "results")
    failed = [entry for entry in journal.entries() if entry.result and entry.result.status == "failed"]
    assert len(failed) == 1
    for entry in failed:
        folder = journal.trials / entry.trial.id
        assert entry.result.reason == f"KeyError: 'momentum' ({PLUGIN}:{LINE}); its traceback: {folder / 'error.txt'}"
        assert f'File "{PLUGIN}", line {LINE}, in momentum' in (folder / "error.txt").read_text()
    assert "after 3 tries" not in done.stdout and f"({PLUGIN}:{LINE})" in done.stdout


def test_local_means_no_cluster():
    with pytest.raises(UserError, match="--local runs in this process, where --address, --asha and --cpus mean"):
        command.main(["--local", "--address", "auto"])


def test_an_error_names_the_users_line():
    from lmsa_bench.errors import in_one_line, raised_at

    try:
        METHODS.get("full")(lr="x", momentum=1)
    except TypeError as error:
        assert raised_at(error).startswith(f"{__file__}:")
        assert in_one_line(error).startswith("TypeError: full() got an unexpected keyword argument 'momentum' (")
    with pytest.raises(UserError):
        METHODS.get("ful")
