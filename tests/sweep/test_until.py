"""A sweep that adds replications until all is decided that can be ends early, says why, and goes on after a kill."""

import json

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.sweep import command, until
from lmsa_bench.trial.spec import Trial

# Adapting one epoch at a rate of 1e-2 gains tens of points over no adaptation, at 1e-6 nothing: two rows of the three
# stay open.
SUITE = {
    "suite": "decides",
    "tasks": ["digits_flip"],
    "seeds": 3,
    "epochs": 2,
    "sources": "one",
    "rows": {
        "no_adaptation": {"ranked": True},
        "lmsa_adam": {"grid": {"lr": 1e-2}},
        "auto_rgn": {"grid": {"lr": 1e-2}, "ranked": True},
    },
}


@pytest.fixture
def swept(tmp_path, data, monkeypatch, capsys):
    (tmp_path / "suite.yaml").write_text(json.dumps(SUITE))
    where = [str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "results"), "--data", str(data), "--local"]

    def sweep(*more: str) -> tuple[int, str]:
        return command.main([*where, *more]), capsys.readouterr().out

    return sweep, tmp_path / "results", monkeypatch


def numbers(results) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in Journal(results).entries():
        if entry.result is not None:
            found[entry.trial.method] = found.get(entry.trial.method, 0) + 1
    return found


def test_it_adds_only_what_can_change_and_goes_on_after_a_kill(swept):
    sweep, results, monkeypatch = swept
    at_once = until.run_in_steps

    def killed(needed, journal, run):
        def some(trials: list[Trial]) -> None:
            run(trials[:4])
            raise KeyboardInterrupt

        return at_once(needed, journal, some)

    monkeypatch.setattr(command, "run_in_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert sum(numbers(results).values()) == 4
    monkeypatch.setattr(command, "run_in_steps", at_once)
    status, told = sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert status == 0 and "0 of 3 comparisons are decided at 3 replications" in told
    assert "ended since" in told and "The sweep added replications only where a verdict could change" in told
    before = numbers(results)
    status, again = sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert status == 0 and numbers(results) == before  # all of it is in the records
    assert told[told.index("ended since") :] == again[again.index("ended since") :]


def test_what_cannot_be_is_said(swept):
    sweep, _, _ = swept
    with pytest.raises(UserError, match="starts at 1 seeds: expected 2 to 20"):
        sweep("--until", "decided", "--seeds", "1")
    with pytest.raises(UserError, match="expected 0 to 100 points"):
        sweep("--margin", "-1")
