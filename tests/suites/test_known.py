"""Suites are read again from the user's cache, without torch, and only where neither file nor program has changed."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lmsa_bench.suites.load import load
from lmsa_bench.trial.code import modules_of

SUITE = """
suite: kept
tasks: [digits_flip, digits_noise]
rows:
  full: {grid: {lr: [1e-2, {lr}]}}
  last: {method: single_layer, grid: {n: -1, lr: 0.1}}
"""
LOAD = """
import pickle, sys
from lmsa_bench.suites import known
suite = known.load("kept.yaml", 2)
pickle.dump(("torch" in sys.modules, suite), sys.stdout.buffer)
"""


class Executed:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Loads the suite in a process of its own, and tells whether that needed torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "kept.yaml").write_text(SUITE.replace("{lr}", "1e-3"))

    def read():
        done = subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, capture_output=True, timeout=200)
        assert done.returncode == 0, done.stderr.decode()
        return pickle.loads(done.stdout)

    return read


def test_a_suite_that_is_kept_is_the_one_that_was_loaded(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load("kept.yaml", 2)
    (needed, first), (again, second) = read(), read()
    assert needed and not again
    assert first == second and [t.id for t in second.trials] == [t.id for t in loaded.trials]
    assert second.modules == {trial.configuration: modules_of(trial) for trial in loaded.trials}
    assert (second.facts, second.criteria, second.rows) == (loaded.facts, loaded.criteria, loaded.rows)


def test_it_is_loaded_anew_where_its_file_changed_or_what_is_kept_is_damaged(read, tmp_path):
    read()
    (tmp_path / "kept.yaml").write_text(SUITE.replace("{lr}", "1e-4"))
    needed, changed = read()
    assert needed and {trial.hparams.get("lr") for trial in changed.trials} >= {1e-2, 1e-4}
    (kept,) = (tmp_path / "cache").rglob("*.pickle")
    kept.write_bytes(kept.read_bytes()[:-1])
    needed, anew = read()
    assert needed and anew == changed
    needed, again = read()
    assert not needed and again == changed
    key = kept.read_bytes()[:16]
    kept.write_bytes(key + pickle.dumps(Executed(tmp_path / "run")))
    needed, anew = read()
    assert needed and anew == changed and not (tmp_path / "run").exists()


def test_a_suite_with_a_plug_in_is_never_kept(read, tmp_path):
    (tmp_path / "own.py").write_text("")
    (tmp_path / "kept.yaml").write_text(SUITE.replace("{lr}", "1e-3") + "plugins: [./own.py]\n")
    assert read()[0] and read()[0] and not [*(tmp_path / "cache").rglob("*.pickle")]
