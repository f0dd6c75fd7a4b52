"""Errors and stored text on their way to a terminal."""

import gc
import subprocess
import sys
from dataclasses import replace

import pytest
from hand_made import entry, suite_of, write

from lmsa_bench.analysis.build import report
from lmsa_bench.errors import INTERRUPTED, LONGEST, UserError, exit_status, importing, in_one_line, one_line
from lmsa_bench.report.tables import render
from lmsa_bench.results.journal import Journal
from lmsa_bench.trial.spec import canonical

RED = "\x1b[31mred\x1b[0m\x07 \x9b2Jafter"


def test_a_message_is_one_line_without_commands_to_a_terminal():
    assert one_line(f"{RED}\r\nnext\tone") == "\N{REPLACEMENT CHARACTER}[31mred".join(
        ["", "\N{REPLACEMENT CHARACTER}[0m\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}2Jafter next one"]
    )
    assert one_line(ValueError()) == "ValueError" and in_one_line(ValueError()) == "ValueError"
    assert "\x1b" not in in_one_line(ValueError(RED))
    assert one_line("x" * 10**7) == f"{'x' * LONGEST} … (10000000 characters)"


@pytest.mark.parametrize("form", ["table", "csv", "latex"])
def test_a_stored_reason_colours_no_terminal(form, tmp_path):
    journal, made = Journal(tmp_path, make=True), entry("t", "m", {}, 0)
    failed = replace(entry("t", "m", {}, 1).result, status="failed", reason=RED)
    rows = [made, entry("t", "m", {}, 1)._replace(records=[], result=failed)]
    for one in rows:
        write(journal, one)
    suite = suite_of({"row": rows})
    text = render(report(suite, journal.table()), form).decode()
    assert not set(text) & set("\x1b\x07\x9b") and (form != "table" or "31mred" in text)


def test_a_long_stored_text_is_not_printed_whole(tmp_path, capsys):
    journal, made = Journal(tmp_path, make=True), entry("t", "m", {}, 0)
    write(journal, made)
    path = tmp_path / "trials" / made.trial.id / "result.json"
    for provenance in ({"x" * 10**6: []}, {"x": ["y" * 10**6]}, ["z" * 10**6]):
        path.write_text(canonical({"trial": made.trial.id, "status": "failed", "provenance": provenance}))
        assert exit_status(lambda: len(journal.table())) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and len(told) < LONGEST + 300 and "provenance" in told
    with pytest.raises(UserError):
        journal.table()


def test_ctrl_c_while_a_command_is_imported_is_one_line(tmp_path):
    """As by a library that breaks where it is interrupted."""
    interrupted = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    1 / 0\n"
    (tmp_path / "command.py").write_text(interrupted)
    run = (
        "import sys; from lmsa_bench import errors as e; sys.exit(e.exit_status(lambda: e.imported('command').main()))"
    )
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (130, f"{INTERRUPTED}\n")


def test_garbage_is_looked_for_again_after_an_import_that_fails():
    with pytest.raises(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
