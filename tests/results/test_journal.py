import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import hand_made
import pytest
from filelock import Timeout
from hand_made import entry, write

from lmsa_bench.errors import UserError
from lmsa_bench.object_store import Storage
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import SCHEMA, Entry, rows


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "results", make=True)


def test_an_epoch_that_is_run_again_replaces_itself_and_later_ones(journal):
    made = entry("t", "m", {}, 0, [0.1, 0.2, 0.3], status=None)
    write(journal, made)
    again = replace(made.records[1], val_accuracy=0.25)
    journal.append(again)
    assert journal.entry(made.trial.id).records == [made.records[0], again]


def test_a_half_written_file_is_not_read(journal):
    made = entry("t", "m", {}, 0, [0.1, 0.2])
    write(journal, made)
    folder = journal.folder(made.trial)
    for name in ("records.jsonl", "result.json", "trial.json"):
        (folder / f".{name}.12345").write_text('{"trial": "')
    assert journal.entry(made.trial.id) == made
    assert list(journal.entries()) == [made]


def test_a_folder_without_its_trial_file_has_not_started(journal):
    (journal.trials / "0123").mkdir()
    assert journal.ids() == []
    assert journal.table().num_rows == 0


def test_a_writer_that_is_killed_leaves_the_old_or_the_new_file(tmp_path):
    # The child rewrites one record as fast as it can until it is killed; whatever the moment, the file is whole.
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2]); from hand_made import entry, write\n"
        "from lmsa_bench.results.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), make=True)\n"
        "made = entry('t', 'm', {}, 0, [0.5] * 40, status=None)\n"
        "write(journal, made); print('ready', flush=True)\n"
        "while True: journal.append(made.records[-1])\n"
    )
    folder = os.path.dirname(hand_made.__file__)
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), folder], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.kill()
    child.wait()
    (found,) = Journal(tmp_path).entries()
    assert found == entry("t", "m", {}, 0, [0.5] * 40, status=None)


def test_finished_and_diverged_trials_are_done_and_failed_ones_are_not(journal):
    made = {
        status: entry("t", "m", {}, i, status=status) for i, status in enumerate(("finished", "diverged", "failed"))
    }
    for one in [*made.values(), entry("t", "m", {}, 9, status=None)]:
        write(journal, one)
    assert journal.finished() == {made["finished"].trial.id, made["diverged"].trial.id}
    assert len(journal.ids()) == 4


def test_table_holds_every_record_and_the_ends(journal):
    ended = entry("t", "m", {"lr": 1e-3, "order": None}, 1, [0.1, 0.3, 0.2], 0.7, layers=(0, 3), variant="noise")
    running = entry("t", "m", {"lr": 1e-3}, 0, [0.1], status=None)
    crashed = Entry(*entry("t", "m", {}, 2, status="failed", reason="boom"))._replace(records=[])
    for one in (ended, running, crashed):
        write(journal, one)
    table = journal.table()
    assert table.schema == SCHEMA
    assert table.equals(rows([running, crashed, ended]))  # whatever the order in which they come
    by_trial = {one.trial.id: [r for r in table.to_pylist() if r["trial"] == one.trial.id] for one in (ended, running)}
    assert [row["test_accuracy"] for row in by_trial[ended.trial.id]] == [None, 0.7, None]
    assert [row["val_accuracy"] for row in by_trial[ended.trial.id]] == [0.1, 0.3, 0.2]
    assert by_trial[ended.trial.id][0]["layers"] == [0, 3]
    assert by_trial[ended.trial.id][0]["hparams"] == '{"lr":0.001,"order":null}'
    assert [row["status"] for row in by_trial[running.trial.id]] == [None]
    (lost,) = [row for row in table.to_pylist() if row["trial"] == crashed.trial.id]
    assert (lost["epoch"], lost["status"], lost["reason"]) == (None, "failed", "boom")


def test_a_folder_of_another_format_is_refused(tmp_path):
    (tmp_path / "lmsa_bench.json").write_text('{"format": 0}')
    with pytest.raises(UserError, match="format 0, this version writes 1"):
        Journal(tmp_path)
    (tmp_path / "lmsa_bench.json").write_text("[]")
    with pytest.raises(UserError, match="not this program's"):
        Journal(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"):
        Journal(tmp_path / "file" / "results", make=True)


@pytest.mark.parametrize("name", ["trial.json", "records.jsonl", "result.json"])
def test_a_damaged_file_is_one_line(journal, name):
    made = entry("t", "m", {}, 0)
    write(journal, made)
    for text in ('{"half', '{"unknown": 1}'):
        (journal.folder(made.trial) / name).write_text(text)
        with pytest.raises(UserError, match=f"{made.trial.id}: cannot be read"):
            journal.table()
        whole = entry("t", "m", {}, 1)
        write(journal, whole)
        table, damaged = journal.readable()
        assert set(table["trial"].to_pylist()) == {whole.trial.id} and list(damaged) == [made.trial.id]


def test_the_stamp_changes_with_the_records_and_the_result(journal):
    made = entry("t", "m", {}, 0)
    journal.folder(made.trial)
    stamps = [journal.stamp(made.trial.id)]
    journal.append(made.records[0])
    stamps.append(journal.stamp(made.trial.id))
    journal.append(made.records[0])  # the same bytes, written anew
    stamps.append(journal.stamp(made.trial.id))
    journal.finish(made.result)
    stamps.append(journal.stamp(made.trial.id))
    assert len(set(stamps)) == 4
    assert journal.stamp(made.trial.id) == stamps[-1]


def test_a_trial_that_is_forgotten_is_gone_from_the_object_store_and_its_code_is_there(tmp_path):
    made = entry("t", "m", {}, 0, facts={"trial_code": "c0de"})
    for folder in ("code", f"trials/{made.trial.id}"):  # which a bucket needs not
        (tmp_path / "bucket/results" / folder).mkdir(parents=True)
    uri = (tmp_path / "bucket/results").as_uri()
    first = Journal(tmp_path / "one", Storage(uri), make=True)
    write(first, made)
    first.add_code("c0de", {"m.py": "1"})
    first.push(made.trial.id)
    second = Journal(tmp_path / "two", Storage(uri), make=True)
    second.refresh()
    assert second.entry(made.trial.id) == made and second.code("c0de") == {"m.py": "1"}
    second.forget(made.trial.id, "another")
    assert second.result(made.trial.id) is not None  # another process has run it anew
    second.forget(made.trial.id, "c0de")
    third = Journal(tmp_path / "three", Storage(uri), make=True)
    third.refresh()
    assert third.entry(made.trial.id) == Entry(made.trial, [], None)
    assert second.code("../lmsa_bench") == {} == second.code("none")


def test_a_trial_that_has_ended_leaves_no_lock_and_no_parts(journal):
    made = entry("t", "m", {}, 0)
    folder = journal.folder(made.trial)
    (folder / ".records.jsonl.0123").touch()
    lock, waiting = journal.lock(made.trial.id), journal.lock(made.trial.id)
    with lock:
        journal.unlock(made.trial.id, lock)
        assert not lock.is_locked and (folder / "lock").exists()  # it goes on elsewhere
    write(journal, made)
    with lock, ThreadPoolExecutor(1) as pool:
        turn = pool.submit(waiting.acquire, timeout=20)
        time.sleep(0.2)  # for it to wait with the file open
        journal.unlock(made.trial.id, lock)
        assert turn.result() and waiting.is_locked and (folder / "lock").exists()
        with pytest.raises(Timeout):
            journal.lock(made.trial.id).acquire(timeout=0)
    journal.unlock(made.trial.id, waiting)
    assert {path.name for path in folder.iterdir()} == {"trial.json", "records.jsonl", "result.json"}


def test_a_folder_that_is_removed_while_its_trial_runs_is_one_line(journal):
    made = entry("t", "m", {}, 0, [0.1, 0.2])
    write(journal, made._replace(records=made.records[:1], result=None))
    shutil.rmtree(journal.root)
    for written in (lambda: journal.append(made.records[1]), lambda: journal.finish(made.result)):
        with pytest.raises(UserError, match=f"{made.trial.id}: cannot be written .* was it removed or closed while"):
            written()
