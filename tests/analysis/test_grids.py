"""Grids that go on where the best value is an end: only there, part by part, and no further than they may."""

import json
from dataclasses import replace

import pytest
from hand_made import entry, suite_of

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.grids import reached
from lmsa_bench.errors import UserError
from lmsa_bench.results.table import rows
from lmsa_bench.suites.load import load

VALUES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def made(best, start=(1e-3, 1e-2)):
    """A suite whose row has five rates, of which a variant's ``best`` has the highest validation accuracy."""
    entries = {
        (variant, lr): entry(
            "t", "m", {"lr": lr}, 0, [0.9 - 0.1 * abs(VALUES.index(lr) - VALUES.index(top))], 0.5, variant=variant
        )
        for variant, top in best.items()
        for lr in VALUES
    }
    suite = suite_of({"m": list(entries.values())})
    suite = replace(suite, rows=(replace(suite.rows[0], start={("t", "lr"): start}),))
    return suite, entries


def rates(suite, variant):
    return sorted(trial.hparams["lr"] for trial in suite.trials if trial.variant == variant)


def test_each_part_goes_on_by_its_own_choice_once_its_trials_have_ended():
    suite, entries = made({"noise": 1e-1, "blur": 1e-2})
    ended = {}
    seen = []
    while True:
        now = reached(suite, rows(ended.values()))
        seen.append((rates(now, "noise"), rates(now, "blur")))
        new = {key: one for key, one in entries.items() if one.trial in now.trials and key not in ended}
        if not new:
            break
        ended |= new
    assert seen == [
        ([1e-3, 1e-2], [1e-3, 1e-2]),  # nothing has ended
        ([1e-3, 1e-2, 1e-1], [1e-3, 1e-2, 1e-1]),  # both chose the largest
        ([1e-3, 1e-2, 1e-1, 1.0], [1e-3, 1e-2, 1e-1]),  # blur's choice is inside now
        ([1e-3, 1e-2, 1e-1, 1.0], [1e-3, 1e-2, 1e-1]),
    ]
    cell = report(suite, rows(ended.values())).cells["m", "t"]
    assert cell.missing == 0 and cell.edges == ()
    assert cell.selected == {"noise": {"lr": 0.1}, "blur": {"lr": 0.01}}


def test_the_last_value_is_an_edge_that_is_flagged():
    suite, entries = made({"": 10.0})
    found = report(suite, rows(entries.values())).cells["m", "t"]
    assert found.edges == ("lr",) and found.tried == 5


def test_downwards_too():
    suite, entries = made({"": 1e-3}, start=(1e-1, 1.0))
    assert rates(reached(suite, rows(entries.values())), "") == [1e-3, 1e-2, 1e-1, 1.0]


def suite_file(tmp_path, grid, **row):
    path = tmp_path / "s.yaml"
    path.write_text(
        json.dumps({"suite": "s", "tasks": ["digits_flip"], "seeds": 1, "rows": {"full": {"grid": grid, **row}}})
    )
    return load(str(path))


def test_from_a_suites_file(tmp_path):
    suite = suite_file(tmp_path, {"lr": {"start": [1e-3, 1e-2], "extend": 10}})
    every = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
    assert sorted(trial.hparams["lr"] for trial in suite.trials) == every
    assert suite.rows[0].start == {("digits_flip", "lr"): (1e-3, 1e-2)} and suite.grows
    assert len(reached(suite, rows([])).trials) == 2
    plain = suite_file(tmp_path, {"lr": [1e-3, 1e-2]})
    assert not plain.grows and {t.id for t in plain.trials} < {t.id for t in suite.trials}
    bounded = suite_file(tmp_path, {"lr": {"start": [1e-3, 1e-2], "extend": 10, "bounds": [1e-3, 0.5]}})
    assert sorted(trial.hparams["lr"] for trial in bounded.trials) == [1e-3, 1e-2, 1e-1]


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"lr": {"start": [1e-3], "extend": 1}}, "extend"),
        ({"lr": {"start": [], "extend": 10}}, "is empty"),
        ({"lr": {"extend": 10}}, "'start' is missing"),
        ({"lr": {"start": [1e-2], "extend": 10, "bounds": [0.1, 1]}}, "do not hold the start"),
        ({"lr": [1e-2], "weight_decay": {"start": [0], "extend": 10}}, "only numbers above 0"),
    ],
)
def test_mistakes_are_told(grid, told, tmp_path):
    with pytest.raises(UserError, match=told):
        suite_file(tmp_path, grid)


def test_a_row_for_each_value_is_not_extended(tmp_path):
    with pytest.raises(UserError, match="an extended grid has no rows of its own"):
        suite_file(tmp_path, {"lr": {"start": [1e-2], "extend": 10}}, each="lr")
