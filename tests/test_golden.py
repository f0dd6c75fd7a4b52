"""That no number changes without PROTOCOL: tiny trials of each method, kind of task and reading, to 1e-9."""

import json

import golden
import pytest

from lmsa_bench.trial.spec import PROTOCOL

KNOWN = json.loads(golden.FILE.read_text())
CASES = {name: case for name, *case in golden.cases()}


def test_the_file_is_of_this_protocol_and_of_every_method():
    assert KNOWN["protocol"] == PROTOCOL and KNOWN["trials"].keys() == CASES.keys()
    assert {method for _, method, _ in CASES.values()} == set(golden.OURS)


@pytest.mark.parametrize("name", CASES)
def test_a_golden_trial(name):
    changed = list(golden.compare(KNOWN["trials"][name], golden.run(*CASES[name])))
    assert not changed, (
        f"{changed[:5]}: if the change is meant, raise PROTOCOL, run python tests/support/golden.py, and say why"
    )


def test_a_change_shows():
    known = next(iter(KNOWN["trials"].values()))
    changed = json.loads(json.dumps(known))
    changed["result"]["val_loss"] *= 1 + 1e-8
    (line,) = golden.compare(known, changed)
    assert line.startswith("result val_loss: ")
