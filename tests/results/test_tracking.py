import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from filelock import FileLock
from flaky import Flaky
from hand_made import entry, suite_of, write
from mlflow import MlflowClient
from sweeps import Server

from lmsa_bench.analysis.build import report as analysed
from lmsa_bench.errors import StoreUnavailable, UserError
from lmsa_bench.report import command as report
from lmsa_bench.report import write as summary
from lmsa_bench.results import cursor
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import rows
from lmsa_bench.results.tracking import ResultStore, default_uri

PUBLISH = (
    "import sys, pathlib; from lmsa_bench.results.journal import Journal\n"
    "from lmsa_bench.results.tracking import *\n"
    "ResultStore(sys.argv[2]).publish(Journal(pathlib.Path(sys.argv[1])), 'suite')"
)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow takes seconds to make its tables, so it does that once."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def journal(tmp_path, empty_database):
    made = Journal(tmp_path / "results", make=True)
    shutil.copy(empty_database, made.root / "mlflow.db")
    return made


def filled(journal, count=6):
    for i in range(count):
        write(journal, entry("t", "m", {"lr": 10.0 ** -(i % 3), "k": None}, i // 3, [0.1 + i / 99, 1 / 3, 0.2], 1 / 7))
    write(journal, entry("u", "m", {}, 0, status="diverged", variant="noise"))
    write(journal, entry("u", "m", {}, 1, [0.3, 0.4], status=None))
    return journal


def assert_mirrored(journal, uri=None):
    """One run a trial, every metric row once, and the same table."""
    uri = uri or default_uri(journal.root)
    client, opened = MlflowClient(uri), ResultStore(uri)
    runs = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    assert sorted(run.data.tags["lmsa.trial_key"] for run in runs) == journal.ids()
    for run in runs:
        records = journal.entry(run.data.tags["lmsa.trial_key"]).records
        for name in ("val_loss", "val_accuracy"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [(m.step, m.value) for m in history] == [(r.epoch, getattr(r, name)) for r in records]
        for name in {name for name in run.data.metrics if name.startswith("best_")}:
            assert len(client.get_metric_history(run.info.run_id, name)) == 1
    assert opened.table().equals(journal.table())
    return {run.data.tags["lmsa.trial_key"]: run for run in runs}


def test_published_twice_and_with_a_lost_cursor_it_is_the_same(journal):
    filled(journal)
    opened = ResultStore(default_uri(journal.root))
    assert opened.publish(journal, "suite") == 8
    assert opened.publish(journal, "suite") == 0
    first = assert_mirrored(journal)
    (journal.root / cursor.NAME).unlink()
    assert ResultStore(opened.uri).publish(journal, "suite") == 0
    again = assert_mirrored(journal)
    assert {key: run.info.run_id for key, run in first.items()} == {key: run.info.run_id for key, run in again.items()}


def test_a_run_shows_what_a_reader_looks_for(journal):
    made = entry("t", "m", {"lr": 0.01, "k": None}, 3, [0.5, 0.9, 0.7], 0.8, layers=(0, 2))
    write(journal, made)
    ResultStore(default_uri(journal.root)).publish(journal, "suite")
    run = assert_mirrored(journal)[made.trial.id]
    assert (run.info.run_name, run.info.status) == ("t m lr=0.01 seed=3", "FINISHED")
    shown = {"task": "t", "variant": "", "method": "m", "lr": "0.01", "k": "None", "seed": "3", "epochs": "3"}
    assert run.data.params == {**shown, "batch_size": "64"}
    figures = {name: value for name, value in run.data.metrics.items() if "best" in name}
    losses = {"best_val_loss": 1.0, "best_test_loss": 0.9}
    assert figures == {"best_val_accuracy": 0.9, "best_test_accuracy": 0.8, "best_epoch": 2.0} | losses
    assert run.data.tags["layers"] == "0 2"
    parent = MlflowClient(default_uri(journal.root)).get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.data.tags["lmsa.suite"]) == ("suite", "suite")


def test_nothing_new_costs_no_mlflow(journal):
    filled(journal, 1)
    ResultStore(default_uri(journal.root)).publish(journal, "suite")
    program = (
        "import sys, pathlib; from lmsa_bench.results.journal import Journal\n"
        "from lmsa_bench.results.tracking import *\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "print(ResultStore(default_uri(journal.root)).publish(journal, 'suite'), 'mlflow' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(journal.root)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "0 False\n"


def test_a_publisher_that_stopped_half_way_is_taken_up(journal):
    filled(journal)
    opened = ResultStore(default_uri(journal.root))
    opened.publish(journal, "suite", [*journal.ids()[:3], "not started"])
    # What a publisher leaves that is killed after create_run: a run with the key, and nothing in the cursor.
    client, experiment = opened._connected()
    client.create_run(experiment, tags={"lmsa.trial_key": journal.ids()[3]})
    assert opened.table().num_rows == sum(len(journal.entry(trial).records) for trial in journal.ids()[:3])
    ResultStore(opened.uri).publish(journal, "suite")
    assert_mirrored(journal)


def test_a_running_trial_goes_on_in_its_run(journal):
    made = entry("t", "m", {"lr": 0.1}, 0, [0.5, 0.6, 0.7])
    opened = ResultStore(default_uri(journal.root))
    write(journal, made._replace(records=made.records[:2], result=None))
    opened.publish(journal, "suite")
    assert [run.info.status for run in assert_mirrored(journal).values()] == ["RUNNING"]
    journal.append(made.records[2])
    journal.finish(replace(made.result, status="failed", reason="x" * 6000))  # longer than one tag
    opened.publish(journal, "suite")
    assert [run.info.status for run in assert_mirrored(journal).values()] == ["FAILED"]
    journal.finish(made.result)
    opened.publish(journal, "suite")
    assert [run.info.status for run in assert_mirrored(journal).values()] == ["FINISHED"]


def test_long_trials_and_trials_that_were_set_back(journal):
    made = entry("t", "m", {}, 0, [i / 999 for i in range(150)], status=None)
    opened = ResultStore(default_uri(journal.root))
    write(journal, made)
    opened.publish(journal, "suite")
    assert_mirrored(journal)
    journal.append(made.records[9])  # a resume from an early checkpoint
    opened.publish(journal, "suite")
    assert opened.table().equals(journal.table())
    assert opened.table().num_rows == 10


def test_losses_that_are_not_numbers_survive(journal):
    made = entry("t", "m", {}, 0, [(0.1, float("inf")), (0.1, float("nan"))], status="diverged")
    write(journal, made)
    opened = ResultStore(default_uri(journal.root))
    opened.publish(journal, "suite")
    (journal.root / cursor.NAME).unlink()
    opened.publish(journal, "suite")
    assert repr(opened.table().to_pylist()) == repr(journal.table().to_pylist())
    (run,) = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    assert run.info.status == "FINISHED"
    assert run.data.tags["lmsa.status"] == "diverged"
    assert len(opened._connected()[0].get_metric_history(run.info.run_id, "val_loss")) == 2


def test_a_trial_of_two_suites_has_one_run(journal):
    write(journal, entry("t", "m", {}, 0))
    opened = ResultStore(default_uri(journal.root))
    assert (opened.publish(journal, "one"), opened.publish(journal, "two"), opened.publish(journal, "one")) == (1, 1, 0)
    (run,) = assert_mirrored(journal).values()
    assert {"lmsa.suite.one", "lmsa.suite.two"} <= set(run.data.tags)
    assert run.data.tags["lmsa.suite"] == "one"


def test_a_database_that_was_deleted_is_filled_again(journal):
    filled(journal, 1)
    uri = default_uri(journal.root)
    stamps = {trial: journal.stamp(trial) for trial in journal.ids()}
    (journal.root / cursor.NAME).write_text(json.dumps({uri: {"identity": "1 1", "suites": {"suite": stamps}}}))
    assert ResultStore(uri).publish(journal, "suite") == 0
    (journal.root / "mlflow.db").unlink()
    with pytest.raises(UserError, match="there is none"):
        ResultStore(uri).table()
    assert ResultStore(uri).publish(journal, "suite") == 3
    assert_mirrored(journal)


def test_what_a_store_has_lost_it_gets_again(journal, tmp_path):
    filled(journal, 3)
    opened, database = ResultStore(default_uri(journal.root)), journal.root / "mlflow.db"
    opened.publish(journal, "suite", journal.ids()[:2])
    shutil.copy(database, tmp_path / "backup.db")
    assert opened.publish(journal, "suite") == 3
    shutil.copy(tmp_path / "backup.db", database)  # into the same file, which MLflow has open
    assert opened.publish(journal, "suite") == 0  # what was published is known, and the store is not asked
    assert (opened.settle(journal, "suite"), opened.settle(journal, "suite")) == (3, 0)
    assert_mirrored(journal)


def test_another_store_at_the_same_address_is_told_from_the_first(journal, empty_database):
    filled(journal, 3)
    opened = ResultStore(default_uri(journal.root))
    opened.publish(journal, "suite", journal.ids()[:4])
    shutil.copy(empty_database, journal.root / "mlflow.db")
    assert opened.publish(journal, "suite") == 5
    assert_mirrored(journal)


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"uri": 5}', '{"URI": {"suite": {}}}', "[" * 5000, "\udcff"])
def test_a_cursor_that_cannot_be_read_costs_nothing(journal, text):
    filled(journal, 1)
    (journal.root / cursor.NAME).write_text(text.replace("URI", default_uri(journal.root)), errors="surrogateescape")
    assert ResultStore(default_uri(journal.root)).publish(journal, "suite") == 3


def test_a_run_that_somebody_has_spoilt_is_made_anew_and_keeps_up_no_other(journal):
    filled(journal)
    opened, trials = ResultStore(default_uri(journal.root)), journal.ids()
    client, experiment = opened._connected()
    finished, other, *_ = [trial for trial in trials if journal.result(trial) and journal.result(trial).test_accuracy]
    damaged = next(trial for trial in trials if trial not in (finished, other, trials[-1]))
    made = client.create_run(experiment, tags={"lmsa.trial_key": other})
    client.log_param(made.info.run_id, "seed", "another")  # which cannot be changed
    assert opened.publish(journal, "suite") == 8
    runs = assert_mirrored(journal)
    client.log_metric(runs[finished].info.run_id, "best_test_accuracy", 0.99, step=5)
    client.set_tag(runs[other].info.run_id, "mlflow.lmsa.records.0", "{")
    assert (opened.settle(journal, "suite"), opened.settle(journal, "suite")) == (2, 0)
    assert assert_mirrored(journal)[finished].data.metrics["best_test_accuracy"] == 1 / 7
    (journal.trials / damaged / "records.jsonl").write_text("{")
    client.delete_run(runs[trials[-1]].info.run_id)
    with pytest.raises(UserError, match=f"^1 of 8 trials are not published: .*{damaged}: cannot be read"):
        opened.settle(journal, "suite")
    keys = [run.data.tags.get("lmsa.trial_key") for run in opened._runs()]
    assert trials[-1] in keys  # it was published all the same


@pytest.mark.parametrize("name", ["pq?x", "a%20b", "100%", "a b#c;d&e=f"])
def test_a_folder_of_any_name_has_its_database_in_it(tmp_path, empty_database, name):
    journal = filled(Journal(tmp_path / name, make=True), 1)
    shutil.copy(empty_database, journal.root / "mlflow.db")
    opened = ResultStore(default_uri(journal.root))
    assert opened.publish(journal, "suite") == 3
    (journal.root / "summary" / "suite").mkdir(parents=True)
    (journal.root / "summary" / "suite" / "table.txt").write_text("method  t\n")
    opened.publish_summary(journal, "suite")
    assert [path.name for path in (journal.root / "artifacts").glob("*/artifacts/*")] == ["table.txt"]
    assert opened.table().equals(journal.table())
    assert {path.name for path in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize("path", ["pq?x/mlflow.db", "100%/mlflow.db"])
def test_an_unescaped_path_is_the_users_error(tmp_path, path):
    with pytest.raises(UserError, match=r"in whose path \? is written %3F, and % is %25"):
        ResultStore(f"sqlite:///{tmp_path}/{path}")


def test_what_killed_makers_of_a_database_left_is_removed(journal):
    filled(journal, 1)
    (journal.root / ".mlflow.db.0123").write_bytes(bytes(100))
    ResultStore(default_uri(journal.root)).publish(journal, "suite")
    assert not list(journal.root.glob(".*"))


def test_summary_is_on_the_suites_run_and_each_method_has_one_of_its_own(journal):
    suite = suite_of({name: [entry("t", name, {}, 0, [0.5, 0.75], 0.5 + i / 4)] for i, name in enumerate("ab")})
    for i, name in enumerate("ab"):
        write(journal, entry("t", name, {}, 0, [0.5, 0.75], 0.5 + i / 4))
    opened = ResultStore(default_uri(journal.root))
    opened.publish(journal, suite.name)
    summary.write(analysed(suite, journal.table()), journal)
    for _ in range(2):
        opened.publish_summary(journal, suite.name, anew=True)
    runs = list(opened._runs())
    (parent,) = [run for run in runs if "lmsa.suite_key" in run.data.tags]
    ranks = {"average_rank/a": 2.0, "average_rank/b": 1.0}
    assert parent.data.metrics == {"t/a": 0.5, "t/b": 0.75} | ranks
    assert "| b | **75.0** | 1.00 |" in parent.data.tags["mlflow.note.content"]
    assert {"report.html", "table.txt", "table.md"} <= {
        path.name for path in journal.root.glob("artifacts/*/artifacts/*")
    }
    methods = {run.info.run_name: run for run in runs if "lmsa.method_key" in run.data.tags}
    shown = {"best_test_accuracy": 0.5, "average_rank": 2.0, "t/test_accuracy": 0.5, "t/val_accuracy": 0.75}
    assert methods["a (hand_made)"].data.metrics == shown
    assert {run.data.params["method"] for run in methods.values()} == {"a", "b"}
    assert len({run.data.tags["mlflow.runColor"] for run in methods.values()}) == 2
    assert sorted(methods) == ["a (hand_made)", "b (hand_made)"] and len(runs) == 5
    client, experiment = opened._connected()
    history = client.get_metric_history(methods["b (hand_made)"].info.run_id, "t/val_accuracy")
    assert {(one.step, one.value) for one in history} == {(1, 0.5), (2, 0.75)}
    # The link's view is in the experiment's tags, and its filter and its columns are of what is there.
    told = client.get_experiment(experiment).tags
    assert "| b | **75.0** |" in told["mlflow.note.content"]
    assert opened.link(suite.name).endswith(
        f"/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=lmsa-hand_made"
    )
    view = json.loads(told["mlflow.sharedViewState.lmsa-hand_made"])
    listed = client.search_runs([experiment], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"])
    assert [run.info.run_name for run in listed] == ["b (hand_made)", "a (hand_made)"]
    assert view["selectedColumns"] == [
        f"metrics.`{name}`" for name in ("best_test_accuracy", "average_rank", "t/test_accuracy")
    ]
    assert opened.table().equals(journal.table())
    # A row that the suite no longer has goes.
    summary.write(replace(analysed(suite.only(rows=["a"]), journal.table()), part=""), journal)
    opened.publish_summary(journal, suite.name)
    assert len(list(opened._runs())) == 4


def test_a_summary_shows_its_last_figures_also_where_the_clock_was_put_back(journal, monkeypatch):
    opened, shown = ResultStore(default_uri(journal.root)), []
    for clock, accuracy in ((2e9, 0.25), (1e9, 0.5), (1e9 + 1, 0.75)):
        monkeypatch.setattr("lmsa_bench.results.runs.time.time", lambda at=clock: at)
        e = entry("t", "a", {}, 0, [0.5], accuracy)
        summary.write(analysed(suite_of({"a": [e]}), rows([e])), journal, anew=True)
        opened.publish_summary(journal, "hand_made", anew=True)
        shown.append([run.data.metrics["t/a"] for run in opened._runs() if "lmsa.suite_key" in run.data.tags])
        shown[-1] += [r.data.metrics["best_test_accuracy"] for r in opened._runs() if "lmsa.method_key" in r.data.tags]
    assert shown == [[0.25, 0.25], [0.5, 0.5], [0.75, 0.75]]


def test_the_same_report_from_the_folder_and_from_mlflow(journal, monkeypatch, capsys):
    filled(journal)
    suite = suite_of({"row": list(journal.entries())})
    monkeypatch.setattr("lmsa_bench.suites.known.load", lambda name, seeds: suite)
    ResultStore(default_uri(journal.root)).publish(journal, suite.name)
    assert report.main(["hand_made", "--results", str(journal.root)]) == 0
    from_folder = capsys.readouterr().out
    assert report.main(["hand_made", "--tracking-uri", default_uri(journal.root)]) == 0
    assert capsys.readouterr().out == from_folder
    assert "hand_made" in from_folder


def test_a_server_that_is_down_is_told_at_once_and_nothing_is_lost(journal, caplog):
    filled(journal, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        ResultStore(uri).publish(journal, "suite")
    assert time.monotonic() - start < 10
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]  # of each try
    nothing = {uri: {"identity": "", "settled": {}, "suites": {"suite": {}}}}
    assert json.loads((journal.root / cursor.NAME).read_text()) == nothing
    assert ResultStore(default_uri(journal.root)).publish(journal, "suite") == 3


def test_two_publishers_do_not_work_at_once(journal, monkeypatch):
    filled(journal, 1)
    monkeypatch.setattr(cursor, "LOCK_SECONDS", 0.1)
    with FileLock(journal.root / "mlflow.lock"), pytest.raises(StoreUnavailable, match="another process"):
        ResultStore(default_uri(journal.root)).publish(journal, "suite")


@pytest.mark.parametrize("uri", ["", "mlruns", "file:///tmp/mlruns", "nonsense://x", "sqlite:////proc/none/mlflow.db"])
def test_a_uri_that_cannot_be_one_is_the_users_error(journal, uri):
    filled(journal, 1)
    with pytest.raises(UserError) as told:
        ResultStore(uri).publish(journal, "suite")
    assert not isinstance(told.value, StoreUnavailable)


def test_a_file_that_is_no_database_is_the_users_error(journal):
    filled(journal, 1)
    (journal.root / "notes.db").write_text("these are my notes, not a database")
    with pytest.raises(UserError, match="not an SQLite file"):
        ResultStore(f"sqlite:///{journal.root}/notes.db").publish(journal, "suite")


@pytest.mark.slow
def test_a_publisher_that_is_killed_at_any_time_loses_and_doubles_nothing(journal):
    filled(journal, 60)
    uri = default_uri(journal.root)
    for wanted in (3, 20, 40):
        child = subprocess.Popen([sys.executable, "-c", PUBLISH, str(journal.root), uri])
        while child.poll() is None and len(list(ResultStore(uri)._runs())) < wanted:
            time.sleep(0.05)
        child.kill()
        child.wait()
    ResultStore(uri).publish(journal, "suite")
    assert_mirrored(journal)


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_behind_a_flaky_network_gets_everything_once(journal, tmp_path):
    filled(journal, 40)
    server = Server(tmp_path)
    server.start()
    network, direct = Flaky(server.port, seconds=0.5), ResultStore(server.uri)
    network.bad = True  # every third call fails, or is slow
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(journal.root), network.uri], stderr=subprocess.PIPE, text=True
        )
        while child.poll() is None and len(list(direct._runs())) < 10:
            time.sleep(0.2)
        server.kill()
        assert "StoreUnavailable" in child.communicate(timeout=60)[1]
        server.start()
        store = ResultStore(network.uri)
        assert store.publish(journal, "suite") >= 20
        store.deduplicate()  # runs whose calls were made again, since the answer was lost
        assert store.settle(journal, "suite") == 0
        assert_mirrored(journal, server.uri)
        (journal.root / "summary" / "suite").mkdir(parents=True)
        (journal.root / "summary" / "suite" / "table.txt").write_text("method  t\n")
        store.publish_summary(journal, "suite")
    finally:
        network.shutdown()
        server.kill()


def test_a_store_that_nobody_has_written_into_since_is_not_looked_at(journal, tmp_path):
    filled(journal, 3)
    opened, database = ResultStore(default_uri(journal.root)), journal.root / "mlflow.db"
    ids = journal.ids()
    assert not opened.is_settled(journal, "suite", ids)
    opened.publish(journal, "suite")
    assert not opened.is_settled(journal, "suite", ids)
    assert opened.settle(journal, "suite") == 0
    shutil.copy(database, tmp_path / "backup.db")
    assert opened.is_settled(journal, "suite", ids)
    assert opened.publish_summary(journal, "suite") == opened.publish_summary(journal, "suite") == opened.link("suite")
    assert ResultStore(opened.uri).is_settled(journal, "suite", ids)  # our own last words
    assert not opened.is_settled(journal, "another", ids)
    assert not ResultStore(f"sqlite:///{tmp_path}/backup.db").is_settled(journal, "suite", ids)

    client, _ = opened._connected()
    (run, *_) = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    client.set_tag(run.info.run_id, "note", "somebody was here")
    assert not opened.is_settled(journal, "suite", ids)
    assert opened.settle(journal, "suite") == 0 and opened.is_settled(journal, "suite", ids)
    shutil.copy(tmp_path / "backup.db", database)
    assert not opened.is_settled(journal, "suite", ids)
    assert opened.settle(journal, "suite") == 0 and opened.is_settled(journal, "suite", ids)
    write(journal, entry("t", "m", {}, 99))
    assert not opened.is_settled(journal, "suite", journal.ids())


def test_runs_that_are_written_at_once_are_those_that_the_client_writes(journal, empty_database, tmp_path):
    filled(journal, 3)
    write(
        journal, entry("t", "m", {"name": "x" * 300}, 50, [(0.1, float("inf")), (0.1, float("nan"))], status="diverged")
    )
    write(journal, entry("t", "m", {}, 51, status="failed", reason="boom " * 2000))
    write(journal, entry("t", "m", {}, 52, [0.5, 0.6])._replace(records=[], result=None))
    shutil.copy(empty_database, tmp_path / "other.db")
    at_once, one_by_one = ResultStore(default_uri(journal.root)), ResultStore(f"sqlite:///{tmp_path}/other.db")
    assert at_once.publish(journal, "suite") == len(journal.ids())
    parent = one_by_one._suite_run("suite")
    for trial in journal.ids():
        assert one_by_one._write(journal.entry(trial), "suite", parent, None)
    assert at_once.settle(journal, "suite") == 0
    assert one_by_one.settle(journal, "suite") == 0
    found = [kept(path) for path in (journal.root / "mlflow.db", tmp_path / "other.db")]
    assert found[0] == found[1] and len(found[0]) > 300


def kept(path):
    """All that a database says of trials, without the names and times that each draws for itself."""
    with sqlite3.connect(path) as opened:
        opened.row_factory = sqlite3.Row
        names = dict(opened.execute("SELECT run_uuid, value FROM tags WHERE key = 'lmsa.trial_key'").fetchall())
        rows = [
            (table, dict(row) | {"run_uuid": names[row["run_uuid"]]})
            for table in ("runs", "tags", "params", "metrics", "latest_metrics")
            for row in opened.execute(f"SELECT * FROM {table}")
            if row["run_uuid"] in names and dict(row).get("key") != "mlflow.parentRunId"
        ]
    for table, row in rows:
        if table == "runs":
            assert re.fullmatch(r".*/[0-9a-f]{32}/artifacts", row.pop("artifact_uri"))
            if row["status"] == "RUNNING":  # without an epoch it began when it was published
                row.pop("start_time")
    return sorted(map(repr, rows))


def test_a_trial_that_cannot_be_written_keeps_up_none_of_those_beside_it(journal):
    filled(journal, 3)
    write(journal, entry("t", "m", {"lr of all": 0.1, "a@b": 1}, 60))  # a name that MLflow refuses
    (journal.trials / journal.ids()[0] / "result.json").write_text("{")
    opened = ResultStore(default_uri(journal.root))
    with pytest.raises(UserError, match="2 of 6 trials are not published"):
        opened.publish(journal, "suite")
    assert len([run for run in opened._runs() if "lmsa.result" in str(run.data.tags)]) >= 4


def test_a_database_that_is_removed_under_a_publisher_is_told_in_a_line(journal, capfd):
    filled(journal)
    opened = ResultStore(default_uri(journal.root))
    opened.publish(journal, "suite", journal.ids()[:3])
    (journal.root / "mlflow.db").unlink()  # while it is open: SQLite calls it read-only
    with suppress(UserError):
        opened.publish(journal, "suite")
    assert capfd.readouterr().err == ""
    sync = [sys.executable, "-m", "lmsa_bench.results", "sync", "--results", str(journal.root)]
    assert subprocess.run(sync, capture_output=True, timeout=300).returncode == 0  # as a later process
