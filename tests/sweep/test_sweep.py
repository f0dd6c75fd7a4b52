"""The sweep as a user runs it: real Ray, real MLflow, real kills, in processes of their own."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.sweep import command as sweep
from lmsa_bench.tasks import fashion

SUITE = """
suite: tiny
tasks: [digits_flip]
seeds: 2
sources: one
epochs: 3
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-2, 1e-3]}}
  last: {method: single_layer, grid: {n: -1, lr: 0.1}}
  lmsa: {epochs: 2, grid: {lr: 1e-2, rho: 0.1}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def command(folder: Path, data: Path, *more: str, module: str = "sweep") -> list[str]:
    if module == "sweep":
        more = (*more, "--data", str(data))
    return [sys.executable, "-m", f"lmsa_bench.{module}", "tiny.yaml", "--results", str(folder / "results"), *more]


def run(folder: Path, data: Path, *more: str, module: str = "sweep") -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(SUITE)
    asked = command(folder, data, *more, module=module)
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=400)


def untimed(table: pa.Table) -> list[dict]:
    return table.drop_columns(["seconds", "time", "provenance"]).to_pylist()


def journal(folder: Path) -> Journal:
    return Journal(folder / "results")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(folder, data)


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_in_three_places(undisturbed, data):
    folder, done = undisturbed
    assert done.returncode == 0, done.stderr
    assert "average rank" in done.stdout and "Traceback" not in done.stderr + done.stdout
    table = journal(folder).table()
    assert len(set(table["trial"].to_pylist())) == 10
    assert ResultStore(default_uri(folder / "results")).table().equals(table)
    from_folder = run(folder, data, "--format", "json", module="report").stdout
    asked = [sys.executable, "-m", "lmsa_bench.report", "tiny.yaml", "--format", "json"]
    uri = ["--tracking-uri", default_uri(folder / "results")]
    from_store = subprocess.run([*asked, *uri], cwd=folder, capture_output=True, text=True, timeout=200).stdout
    assert from_store == from_folder
    rows = {row["method"]: row for row in json.loads(from_folder)["rows"]}
    assert rows["no_adaptation"]["tasks"]["digits_flip"]["mean"] < 0.05 < rows["last"]["tasks"]["digits_flip"]["mean"]
    assert rows["full"]["tasks"]["digits_flip"]["n"] == 2
    assert (folder / "results" / "summary" / "tiny" / "table.txt").read_text().splitlines()[0] in done.stdout


@pytest.mark.slow
def test_the_same_command_again_runs_nothing_and_needs_no_torch(undisturbed, data, monkeypatch):
    folder, first = undisturbed
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    before = {path: path.stat().st_mtime_ns for path in (folder / "results" / "trials").rglob("*")}
    again = run(folder, data)
    assert again.returncode == 0 and "nothing to run" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "results" / "trials").rglob("*")} == before
    imported = set(re.findall(r"\| +(\w+)$", again.stderr, re.MULTILINE))
    assert "pyarrow" in imported and not {"torch", "ray", "mlflow"} & imported
    assert first.stdout[first.stdout.index("tiny: mean") :] == again.stdout[again.stdout.index("tiny: mean") :]


@pytest.mark.slow  # a whole sweep on Ray
def test_a_sweep_that_runs_trials_needs_no_torch_itself(undisturbed, data, tmp_path):
    folder, _ = undisturbed  # the suite is known since then
    program = "import sys; from lmsa_bench.sweep.command import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    asked = [sys.executable, "-c", program, "tiny.yaml", "--data", str(data), "--results", str(tmp_path)]
    done = subprocess.run([*asked, "--only", "method=last"], cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.stdout.splitlines()[-1] == "0 False", done.stdout + done.stderr
    assert "2/2 trials" in done.stdout and len(Journal(tmp_path).finished()) == 2


STOPPED = """
suite: tiny
tasks: [digits_flip]
seeds: 1
sources: one
epochs: 8
rows:
  full: {grid: {lr: [1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6]}}
"""


@pytest.mark.slow
def test_asha_stops_early_and_says_so_and_a_terminal_shows_what_happens(tmp_path):
    (tmp_path / "tiny.yaml").write_text(STOPPED)
    master, slave = pty.openpty()
    asked = command(tmp_path, tmp_path / "data", "--asha")
    with subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave, text=True) as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # at its end
            while part := os.read(master, 4096):
                shown += part
        said = process.stdout.read()
    os.close(master)
    assert process.returncode == 0 and "not comparable" in said and "not finished" in said
    stopped = sum(not (folder / "result.json").exists() for folder in journal(tmp_path).trials.iterdir())
    assert 0 < stopped < 8 and f"ASHA stopped {stopped} of 8 trials" in said
    assert b"starting Ray" in shown and b"a source model at epoch" in shown
    assert b"8 of 8 trials" in shown and b"Traceback" not in shown


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, data, capsys):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    asked = [str(tmp_path / "tiny.yaml"), "--dry-run", "--results", str(tmp_path / "results"), "--data", str(data)]
    assert sweep.main(asked) == 0
    said = capsys.readouterr().out
    assert "0 of 10 trials are done, 10 to run" in said and "in training" in said
    assert not (tmp_path / "results").exists()


def test_a_dry_run_without_its_data_is_a_plan_that_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "nothing")
    asked = ["fashion", "--only", "method=full", "--seeds", "1", "--results", str(tmp_path), "--data", str(tmp_path)]
    assert sweep.main([*asked, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "10 to run" in said and said.count("no Fashion-MNIST in") == 1 and "apt-get install" in said


BAD = {
    "an unknown suite": (["quickstrat"], "unknown suite 'quickstrat': did you mean 'quickstart'"),
    "an unknown task": (["quickstart", "--only", "task=digit_c"], "did you mean 'digits_c'"),
    "an unknown method": (["quickstart", "--only", "method=lsma"], "did you mean 'lmsa'"),
    "a malformed part": (["quickstart", "--only", "seed=1"], "expected task=NAME or method=NAME"),
    "no seed": (["quickstart", "--seeds", "0"], "--seeds 0: expected at least 1"),
    "a store that is none": (["quickstart", "--tracking-uri", "nowhere"], "tracking URI 'nowhere'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments(what, tmp_path, data):
    arguments, message = BAD[what]
    with pytest.raises(UserError, match=message):
        sweep.main([*arguments, "--results", str(tmp_path / "results"), "--data", str(data)])


def test_an_unwritable_results_folder(tmp_path, data):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        sweep.main(["quickstart", "--results", str(tmp_path / "file" / "results"), "--data", str(data)])


def test_a_results_folder_of_another_version(tmp_path, data):
    (tmp_path / "lmsa_bench.json").write_text('{"format":0}')
    with pytest.raises(UserError, match="format 0, this version writes"):
        sweep.main(["quickstart", "--results", str(tmp_path), "--data", str(data)])


def test_a_user_error_is_one_line_and_exit_status_2(tmp_path):
    asked = [sys.executable, "-m", "lmsa_bench.sweep", "quickstrat", "--results", str(tmp_path / "results")]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: unknown suite 'quickstrat'") and done.stderr.count("\n") == 1
