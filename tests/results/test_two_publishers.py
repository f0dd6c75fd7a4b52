"""Two results folders that hold the same trials, and one store."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hand_made import entry, write
from mlflow import MlflowClient

from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore

PUBLISH = (
    "import sys, pathlib; from lmsa_bench.results.journal import Journal; from lmsa_bench.results.tracking import *\n"
    "store = ResultStore(sys.argv[2]); store._connected(); print('ready', flush=True); sys.stdin.read(1)\n"
    "store.publish(Journal(pathlib.Path(sys.argv[1])), 'suite'); store.deduplicate()"
)


def later(made, seconds=100.0):
    """The same trial as another user's machine has run it."""
    records = [replace(record, time=record.time + seconds, seconds=1.0) for record in made.records]
    result = made.result and replace(made.result, seconds=9.0, provenance=made.result.provenance | {"machine": "other"})
    return made._replace(records=records, result=result)


@pytest.fixture
def folders(tmp_path):
    return Journal(tmp_path / "mine", make=True), Journal(tmp_path / "yours", make=True)


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/store.db"


def trial_runs(uri):
    return [run for run in ResultStore(uri)._runs() if "lmsa.trial_key" in run.data.tags]


def test_the_first_end_stays_and_the_second_changes_nothing(folders, uri):
    mine, yours = folders
    made = entry("t", "m", {"lr": 0.1}, 0, [0.5, 0.6])
    write(mine, made)
    write(yours, later(made))
    assert ResultStore(uri).publish(mine, "suite") == 1
    (before,) = trial_runs(uri)
    assert ResultStore(uri).publish(yours, "suite") == 0
    assert ResultStore(uri).publish(yours, "other") == 1  # that it belongs to this suite too
    (after,) = trial_runs(uri)
    assert after.data.tags == before.data.tags | {"lmsa.suite.other": "true"}
    assert len(MlflowClient(uri).get_metric_history(after.info.run_id, "val_loss")) == 2
    assert ResultStore(uri).table().equals(mine.table())


def test_an_end_goes_before_a_failure_and_before_a_run_that_has_not_ended(folders, uri):
    mine, yours = folders
    made = entry("t", "m", {"lr": 0.1}, 0, [0.5, 0.6, 0.7])
    write(mine, made._replace(records=made.records[:2], result=None))
    write(yours, later(made)._replace(records=later(made).records[:1], result=None))
    opened = ResultStore(uri)
    assert (opened.publish(mine, "suite"), opened.publish(yours, "suite")) == (1, 0)  # mine is further
    yours.finish(replace(made.result, status="failed", reason="no memory"))
    assert opened.publish(yours, "suite") == 1
    write(mine, made)
    assert (opened.publish(mine, "suite"), opened.publish(yours, "suite", anew=True)) == (1, 0)
    assert opened.table().equals(mine.table())


def test_other_numbers_take_the_place_of_older_ones(folders, uri):
    mine, yours = folders
    made = entry("t", "m", {"lr": 0.1}, 0, [0.5], data="old")
    write(mine, made)
    write(yours, later(entry("t", "m", {"lr": 0.1}, 0, [0.5], data="new")))
    opened = ResultStore(uri)
    assert (opened.publish(mine, "suite"), opened.publish(yours, "suite")) == (1, 1)
    assert opened.table().equals(yours.table())
    assert (opened.settle(mine, "suite"), opened.settle(mine, "suite")) == (1, 0)  # earlier, but the last to be asked
    assert opened.table().equals(mine.table()) and len(trial_runs(uri)) == 1


def test_of_two_runs_of_a_trial_or_a_suite_one_is_left(folders, uri):
    mine, _ = folders
    for seed in range(2):
        write(mine, entry("t", "m", {}, seed))
    opened = ResultStore(uri)
    opened.publish(mine, "suite")
    client, experiment = opened._connected()
    (suite,) = opened._runs("tags.`lmsa.suite_key` = 'suite'")
    whole = {run.data.tags["lmsa.trial_key"]: run.info.run_id for run in trial_runs(uri)}
    doubled = mine.ids()[0]
    client.create_run(experiment, start_time=1, tags={"lmsa.trial_key": doubled})  # earlier, but not filled
    second = client.create_run(experiment, tags={"lmsa.suite_key": "suite"}).info.run_id
    client.set_tag(whole[doubled], "mlflow.parentRunId", second)
    assert opened.table().equals(mine.table())
    assert (opened.deduplicate(), opened.deduplicate()) == (2, 0)
    assert {run.data.tags["lmsa.trial_key"]: run.info.run_id for run in trial_runs(uri)} == whole
    assert {run.data.tags["mlflow.parentRunId"] for run in trial_runs(uri)} == {suite.info.run_id}


@pytest.mark.slow
def test_two_publishers_that_race_leave_one_run_a_trial(folders, uri):
    for seed in range(40):
        made = entry("t", "m", {}, seed, [0.5, 0.6])
        for folder, own in zip(folders, (made, later(made)), strict=True):
            write(folder, own)
    children = []
    for folder in folders:
        asked = [sys.executable, "-c", PUBLISH, str(folder.root), uri]
        children.append(subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("x")
        child.stdin.close()
    for child in children:
        child.wait(timeout=200)
    for folder in folders:  # what the one deleted beneath the other is found again
        ResultStore(uri).publish(folder, "suite", anew=True)
    assert ResultStore(uri).deduplicate() == 0
    assert sorted(run.data.tags["lmsa.trial_key"] for run in trial_runs(uri)) == folders[0].ids()
    assert {run.info.status for run in trial_runs(uri)} == {"FINISHED"}
    assert len(list(ResultStore(uri)._runs("tags.`lmsa.suite_key` = 'suite'"))) == 1
