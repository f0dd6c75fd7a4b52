"""The benchmark's plain loop computes what a sweep does, and a row that is not there is told so."""

import pytest

from lmsa_bench.analysis import codes
from lmsa_bench.bench import command, rows
from lmsa_bench.bench.plain import train
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.load import load

SUITE = """
suite: small
tasks: [digits_flip]
seeds: 1
epochs: 2
sources: one
rows:
  full: {grid: {lr: 1e-2}}
  lift: {grid: {lr: 1e-2, order: random}}
  lmsa: {grid: {lr: 1e-2}}
  single_layer: {grid: {n: 2, lr: [1e-2, 1e+10]}}
  no_adaptation: {}
"""


def test_the_plain_loop_and_a_sweep_give_the_same_accuracies(data, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE)
    suite = load(str(tmp_path / "small.yaml"))
    rows.one_after_the_other(suite.trials, data, tmp_path)
    accuracies = {trial.id: train(trial, data) for trial in suite.trials}
    journal = Journal(tmp_path / "local")
    rows.check(suite.trials, journal, accuracies)
    first = suite.trials[0]
    accuracies[first.id] += 1e-9
    with pytest.raises(
        UserError, match=r"full lr=0.01 seed=0: the plain loop's test accuracy is 0\.\d+, the sweep's 0"
    ):
        rows.check(suite.trials, journal, accuracies)


def test_made_up_results_are_results(tmp_path):
    suite = load("quickstart", 1)
    journal = rows.made(tmp_path, suite, 20)
    assert len(journal.finished()) == 20 and len(list(journal.entries())) == 20
    assert codes.changed_trials(suite, journal, journal.ends()) is not None  # of no known code


def test_a_row_over_made_up_trials_says_how_many():
    assert rows.ROWS["report"].title == f"report over {len(load('quickstart', 12).trials):,} trials"
    assert rows.ROWS["dry_run"].title == "--dry-run of quickstart"


def test_a_row_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="unknown row 'last_laier': did you mean 'last_layer'"):
        command.main(["last_laier", "--data", str(tmp_path)])
    with pytest.raises(UserError, match="--rounds 0: expected at least 1"):
        command.main(["nothing", "--rounds", "0", "--data", str(tmp_path)])
