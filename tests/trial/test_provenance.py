"""Where a result comes from, and that results of different origins do not mix."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hand_made import entry, suite_of, write

from lmsa_bench.analysis.build import report
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.suites import load as suite
from lmsa_bench.trial import provenance


def test_a_process_tells_commit_packages_and_command():
    facts = provenance.of_process()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert facts["commit"] == (head.stdout.strip() or None)
    assert facts["dirty"] in ((True, False) if facts["commit"] else (None,))
    assert facts["torch"] and facts["python"] and facts["command"]


def test_a_machine_tells_its_processor_and_instruction_set():
    found = provenance.of_machine("cpu")
    assert (
        found["device"] == "cpu" and found["cpu"] and found["instructions"] == torch.backends.cpu.get_cpu_capability()
    )


def test_a_command_is_told_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/lmsa_bench/sweep/__main__.py", "quickstart", "--seeds", "2"])
    module = SimpleNamespace(__spec__=SimpleNamespace(name="lmsa_bench.sweep.__main__"))
    monkeypatch.setitem(sys.modules, "__main__", module)
    assert provenance.of_process()["command"] == "python -m lmsa_bench.sweep quickstart --seeds 2"
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None))  # a script, a notebook's kernel
    assert provenance.of_process()["command"] == "__main__.py quickstart --seeds 2"


def test_without_a_checkout_the_commit_is_what_the_environment_says(monkeypatch, tmp_path):
    package = tmp_path / "lmsa_bench"
    package.mkdir()
    (package / "__init__.py").touch()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # another project's, with an environment in it
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.setattr(provenance, "code_of_package", provenance.code_of_package.__wrapped__)  # without its cache
    assert (provenance.of_process()["commit"], provenance.of_process()["dirty"]) == (None, None)
    monkeypatch.setenv("LMSA_COMMIT", "c0ffee")
    assert provenance.of_process()["commit"] == "c0ffee"
    before = provenance.of_process()["code"]
    (package / "other.py").write_text("1")
    assert provenance.of_process()["code"] != before


def test_no_password_is_kept_or_shown(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["x", "--tracking-uri", "http://me:secret@host/a", "--storage=s3://k:secret@b/c?d"])
    assert provenance.of_process()["command"].endswith("http://***@host/a --storage=s3://***@b/c?d")
    with pytest.raises(UserError) as error:
        ResultStore("http://me:secret@127.0.0.1:1/").publish(journal := Journal(tmp_path, make=True), "suite", ["none"])
        write(journal, entry("t", "m", {}, 0))
        ResultStore("http://me:secret@127.0.0.1:1/").publish(journal, "suite")
    assert "http://***@127.0.0.1:1/" in str(error.value) and "secret" not in str(error.value)


def test_a_suites_hash_is_of_what_it_says(tmp_path):
    text = "suite: mine\ntasks: [digits_c]\nrows:\n  full: {grid: {lr: 1e-2}}\n"
    hashes = []
    for i, content in enumerate((text, f"# a remark\n{text}", text.replace("1e-2", "1e-3"))):
        path = tmp_path / f"{i}.yaml"
        path.write_text(content)
        hashes.append(suite.load(str(path)).config)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_shows_commit_and_command(tmp_path):
    journal = Journal(tmp_path, make=True)
    made = entry("t", "m", {}, 0)
    made.result.provenance.update(commit="c0ffee", command="python -m lmsa_bench.sweep mine")
    write(journal, made)
    opened = ResultStore(default_uri(tmp_path))
    opened.publish(journal, "suite")
    (run,) = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["mlflow.source.name"] == "python -m lmsa_bench.sweep mine"


MIXTURES = {
    "different source models": [entry("t", "m", {}, 0, source="a"), entry("t", "m", {}, 1, source="b")],
    "different data": [entry("t", "m", {}, 0), entry("t", "m", {}, 1, data="newer")],
}


@pytest.mark.parametrize("reason", MIXTURES)
def test_results_of_different_origins_are_refused_from_the_folder_and_from_the_store(reason, tmp_path):
    journal = Journal(tmp_path, make=True)
    for made in MIXTURES[reason]:
        write(journal, made)
    opened = ResultStore(default_uri(tmp_path))
    opened.publish(journal, "suite")
    for table in (journal.table(), opened.table()):
        with pytest.raises(UserError, match=reason):
            report(suite_of({"row": MIXTURES[reason]}), table)
