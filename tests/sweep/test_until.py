"""A sweep that adds replications until all is decided that can be ends early, says why, and goes on after a kill."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hand_made import entry, suite_of, write

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.spec import Suite
from lmsa_bench.sweep import command, running, until
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
    for one in Journal(results).entries():
        if one.result is not None:
            found[one.trial.method] = found.get(one.trial.method, 0) + 1
    return found


def test_it_adds_only_what_can_change_and_goes_on_after_a_kill(swept):
    sweep, results, monkeypatch = swept
    run_all = running.run

    def killed(suite: Suite, pending: list[Trial], *more: Any) -> None:
        run_all(suite, pending[:4], *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert sum(numbers(results).values()) == 4
    monkeypatch.setattr(running, "run", run_all)
    status, told = sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert status == 0 and "0 of 3 comparisons are decided at 3 replications" in told
    assert "ended since" in told and "The sweep added replications only where a verdict could change" in told
    before = numbers(results)
    status, again = sweep("--until", "decided", "--most", "5", "--margin", "2")
    assert status == 0 and numbers(results) == before  # all of it is in the records
    assert "ended since" in again and "trials are done: nothing to run" in again
    assert told[told.index("decides: mean") :] == again[again.index("decides: mean") :]


def test_what_cannot_be_is_said(swept):
    sweep, _, _ = swept
    with pytest.raises(UserError, match="starts at 1 seeds: expected 2 to 20"):
        sweep("--until", "decided", "--seeds", "1")
    with pytest.raises(UserError, match="expected 0 to 100 points"):
        sweep("--margin", "-1")


def test_a_grid_goes_on_as_its_trials_end_and_each_trial_is_handed_out_once(tmp_path):
    made = {(lr, seed): entry("t", "m", {"lr": lr}, seed, [lr / 20], 0.5) for lr in (0.1, 1.0, 10.0) for seed in (0, 1)}
    suite = suite_of({"m": list(made.values())})
    suite = replace(suite, rows=(replace(suite.rows[0], start={("t", "lr"): (0.1, 1.0)}),))
    steps = until.Steps(suite, [], journal := Journal(tmp_path, make=True))

    def end(trials):
        for one in made.values():
            if one.trial in trials:
                write(journal, one)

    def named(trials):
        return [(trial.hparams["lr"], trial.seed) for trial in trials]

    first = steps.pending()
    assert named(first) == [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    assert steps.grow(bool) == ([], first[:1])  # its better end will be followed
    end(first)
    assert not steps.grow(lambda trial: trial.seed != 0).trials  # the next value is tried at the first seed
    probe, awaited = steps.grow(bool)
    assert named(probe) == [(10.0, 0)] and not awaited and not steps.grow(bool).trials
    end(probe)
    joined, _ = steps.grow(bool)
    assert named(joined) == [(10.0, 1)]
    end(joined)
    assert not steps.grow(bool).trials and steps.pending() == []
    assert len(steps.suite.trials) == 6 and not steps.suite.probes
