"""The index of a results folder against a fresh read of it, whatever happened to either."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import hand_made
import pytest
from hand_made import entry, write

from lmsa_bench.errors import UserError
from lmsa_bench.results import index
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import rows
from lmsa_bench.trial.spec import PROTOCOL


class Reading(Journal):
    """Counts the trials that are read."""

    read = 0

    def entry(self, trial_id):
        self.read += 1
        return super().entry(trial_id)


def assert_current(root, read=None):
    """Its table is what the folders hold, and tells who has ended; of ``read`` trials they were read."""
    journal = Reading(root)
    table = journal.table()
    assert read is None or journal.read == read
    entries = list(Journal(root).entries())
    assert repr(table.to_pylist()) == repr(rows(entries).to_pylist()) and table.schema == rows(()).schema
    assert {(end.trial, end.status, end.total_seconds, end.code) for end in journal.ends()} == {
        (e.trial.id, e.result.status, e.result.seconds, e.result.provenance.get("trial_code", ""))
        for e in entries
        if e.result is not None
    }
    assert journal.finished() == {e.trial.id for e in entries if e.result and e.result.status != "failed"}


@pytest.fixture
def root(tmp_path):
    journal = Journal(tmp_path / "results", make=True)
    for i in range(4):
        write(journal, entry("t", "m", {"lr": 0.1}, i, [0.1, 0.2, 0.3], facts={"trial_code": f"c{i % 2}"}))
    write(journal, entry("t", "m", {}, 4, [(0.1, float("inf")), (0.1, float("nan"))], status="diverged"))
    write(journal, entry("t", "m", {}, 5, status="failed", reason="boom")._replace(records=[]))
    write(journal, entry("t", "m", {}, 6, [0.5, 0.6])._replace(records=[], result=None))
    return journal.root


def test_only_what_is_new_is_read(root):
    assert_current(root, 7)
    assert_current(root, 0)
    journal = Journal(root)
    made = entry("t", "m", {}, 6, [0.5, 0.6])
    journal.append(made.records[1])
    assert_current(root, 1)
    journal.finish(made.result)
    write(journal, entry("t", "m", {}, 7))
    assert_current(root, 2)
    for path in (journal.trials / made.trial.id).iterdir():
        path.unlink()
    assert_current(root, 0)
    write(journal, made)
    assert_current(root, 1)


def test_trials_of_another_protocol_are_left_out(root):
    write(Journal(root), entry("t", "m", {}, 9, protocol=1))
    assert_current(root, 7)
    assert len(Journal(root).ids()) == 7
    assert Journal(root).others() == [
        f"1 finished trial of protocol 1 is in this folder; this version runs protocol {PROTOCOL}"
    ]


@pytest.mark.parametrize("name", ["trial.json", "records.jsonl", "result.json"])
def test_a_file_that_is_damaged_later_is_seen_where_its_size_and_time_are_the_same(root, name):
    assert_current(root)
    journal = Journal(root)
    damaged = next(iter(journal.finished()))
    path = journal.trials / damaged / name
    before, text = path.stat(), path.read_bytes()
    path.write_bytes(text.replace(b"{", b"[", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(UserError, match=f"{damaged}: cannot be read"):
            Journal(root).table()
    if name == "records.jsonl":  # its result still stands
        assert damaged in Journal(root).finished()
    path.write_bytes(text)
    assert_current(root, 1)


def test_an_index_that_is_damaged_or_of_other_code_is_made_anew(root, monkeypatch):
    assert_current(root)
    path = root / index.NAME
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(20):
        at = draw.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        assert_current(root, 7)
    for text in (b"", b"x" * 20, whole[:-1], whole[32:], whole + b"x"):
        path.write_bytes(text)
        assert_current(root, 7)
    assert path.read_bytes() == whole
    index._schema.cache_clear()
    monkeypatch.setattr(index, "code_of_package", lambda: "another")
    assert_current(root, 7)
    index._schema.cache_clear()


def test_a_folder_in_which_it_cannot_be_written_does_without(root):
    (root / index.NAME).mkdir()
    assert_current(root, 7)
    assert_current(root, 7)
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_a_folder_it_is_as_a_fresh_read(root, seed):
    draw = random.Random(seed)
    journal = Journal(root)
    for _ in range(15):
        made = entry("t", "m", {}, draw.randrange(6), [0.1, 0.2, 0.3], status=draw.choice([None, "finished", "failed"]))
        done = draw.choice(["write", "append", "finish", "remove", "forget", "index", "look"])
        if done == "write" or not (journal.trials / made.trial.id).exists():
            write(journal, made)
        elif done == "append":
            journal.append(replace(made.records[draw.randrange(3)], val_loss=draw.random()))
        elif done == "finish" and made.result is not None:
            journal.finish(made.result)
        elif done == "remove":
            for path in (journal.trials / made.trial.id).iterdir():
                path.unlink()
        elif done == "forget":
            journal.forget(made.trial.id, "")
        elif done == "index":
            (root / index.NAME).write_bytes(b"" if draw.random() < 0.5 else (root / index.NAME).read_bytes()[:-9])
        else:
            assert_current(root)
        assert repr(journal.table().to_pylist()) == repr(rows(journal.entries()).to_pylist())
    assert_current(root)


def test_several_processes_write_it_while_trials_go_on(root):
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2]); from hand_made import entry, write\n"
        "from lmsa_bench.results.journal import Journal\n"
        "for i in range(8):\n"
        "    write(Journal(pathlib.Path(sys.argv[1])), entry('t', sys.argv[3], {}, i, [0.5, 0.6]))\n"
        "    table = Journal(pathlib.Path(sys.argv[1])).table()\n"
        "    assert table.num_rows >= 2 * i + 2, table.num_rows\n"
    )
    arguments = [sys.executable, "-c", program, str(root), os.path.dirname(hand_made.__file__)]
    children = [subprocess.Popen([*arguments, name]) for name in ("a", "b", "c")]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert_current(root)
    assert_current(root, 0)
