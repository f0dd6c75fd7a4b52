"""Grids that go on where the best value is an end: only there, part by part, and no further than they may."""

import json
from dataclasses import replace
from itertools import product

import pytest
from hand_made import entry, suite_of

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.grids import reached
from lmsa_bench.errors import UserError
from lmsa_bench.results.table import rows
from lmsa_bench.suites.load import load

VALUES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def rates(suite):
    return sorted({trial.hparams["lr"] for trial in suite.trials})


def made(best, start=(1e-3, 1e-2), first=None):
    """A suite whose row has five rates at two seeds, of which a variant's ``best`` has the highest validation accuracy.

    ``first`` is the best of a variant at the first seed alone, where it is another.
    """
    entries = {}
    for variant, top in best.items():
        for seed, lr in product((0, 1), VALUES):
            peak = (first or {}).get(variant, top) if seed == 0 else top
            val = 0.9 - 0.1 * abs(VALUES.index(lr) - VALUES.index(peak))
            entries[variant, lr, seed] = entry("t", "m", {"lr": lr}, seed, [val], 0.5, variant=variant)
    suite = suite_of({"m": list(entries.values())})
    suite = replace(suite, rows=(replace(suite.rows[0], start={("t", "lr"): start}),))
    return suite, entries


def swept(suite, entries):
    """The ended trials of a sweep, and what it ran step by step: by variant, rates at the first and the second seed."""
    ended, steps = {}, []
    while True:
        now = reached(suite, rows(ended.values()))
        assert reached(now, rows(ended.values())) == now
        new = {key: one for key, one in entries.items() if one.trial in now.needed and key not in ended}
        if not new:
            return list(ended.values()), steps
        ended |= new
        steps.append({v: tuple([lr for w, lr, s in new if (w, s) == (v, seed)] for seed in (0, 1)) for v, *_ in new})


def test_each_part_goes_on_by_its_own_choice_once_its_trials_have_ended():
    suite, entries = made({"noise": 1e-1, "blur": 1e-2})
    ended, steps = swept(suite, entries)
    assert steps == [
        {"noise": ([1e-3, 1e-2], [1e-3, 1e-2]), "blur": ([1e-3, 1e-2], [1e-3, 1e-2])},
        {"noise": ([1e-1], []), "blur": ([1e-1], [])},  # both chose the largest: the next one, at the first seed
        {"noise": ([], [1e-1])},  # noise prefers it there
        {"noise": ([1.0], [])},  # and is at an end again
    ]
    now = reached(suite, rows(ended))
    assert {(t.variant, t.hparams["lr"]) for t in now.probes} == {("noise", 1.0), ("blur", 1e-1)}
    cell = report(suite, rows(ended)).cells["m", "t"]
    assert cell.missing == 0 and cell.edges == () and cell.n == 2
    assert cell.selected == {"noise": {"lr": 0.1}, "blur": {"lr": 0.01}}


def test_the_first_replication_alone_can_hold_a_value_back():
    suite, entries = made({"": 1e-1}, first={"": 1e-2})
    ended, steps = swept(suite, entries)
    assert steps[1:] == [{"": ([1e-1], [])}]
    assert report(suite, rows(ended)).cells["m", "t"].selected == {"lr": 1e-2}


def test_the_last_value_is_an_edge_that_is_flagged():
    suite, entries = made({"": 10.0})
    ended, _ = swept(suite, entries)
    found = report(suite, rows(ended)).cells["m", "t"]
    assert found.edges == ("lr",) and found.tried == 5


def test_a_value_that_could_not_be_tried_leaves_an_edge():
    suite, entries = made({"": 1e-2})
    failed = entry("t", "m", {"lr": 1e-1}, 0, [0.5], None, status="failed", reason="no")
    ended, _ = swept(suite, entries | {("", 1e-1, 0): failed})
    assert report(suite, rows(ended)).cells["m", "t"].edges == ("lr",)


def test_downwards_too_and_from_one_value_to_both_sides():
    suite, entries = made({"": 1e-3}, start=(1e-1, 1.0))
    ended, _ = swept(suite, entries)
    assert rates(reached(suite, rows(ended))) == [1e-3, 1e-2, 1e-1, 1.0]
    suite, entries = made({"": 1e-1}, start=(1e-1,))
    ended, steps = swept(suite, entries)
    assert steps == [{"": ([1e-1], [1e-1])}, {"": ([1e-2, 1.0], [])}]
    assert rates(reached(suite, rows(ended))) == [1e-1]


def suite_file(tmp_path, grid, extend=None, **row):
    path = tmp_path / "s.yaml"
    given = {"suite": "s", "tasks": ["digits_flip"], "seeds": 1, "rows": {"full": {"grid": grid, **row}}}
    path.write_text(json.dumps(given | ({"extend": extend} if extend else {})))
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


def test_a_suite_extends_the_lists_of_all_its_rows(tmp_path):
    grown = suite_file(tmp_path, {"lr": [1e-3, 1e-2], "weight_decay": 0.1}, extend={"lr": 10, "weight_decay": 2})
    alone = suite_file(tmp_path, {"lr": {"start": [1e-3, 1e-2], "extend": 10}, "weight_decay": 0.1})
    assert [t.id for t in grown.trials] == [t.id for t in alone.trials] and grown.rows == alone.rows
    of_task = suite_file(tmp_path, {"lr": 1.0}, extend={"lr": 10}, task_grids={"digits_flip": {"lr": [0.1]}})
    assert of_task.rows[0].start == {("digits_flip", "lr"): (0.1,)}


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
