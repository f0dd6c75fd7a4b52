"""What a table says of trials that do not have everything in common."""

import json
from dataclasses import replace

import pytest
from hand_made import entry, suite_of

from lmsa_bench.analysis.build import report
from lmsa_bench.errors import UserError
from lmsa_bench.report.notebook import fragment
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows

HERE = {"device": "cpu", "cpu": "A", "instructions": "AVX2", "torch": "2.9"}


def made(*facts, **options):
    entries = [entry("t", "m", {}, seed, facts=one) for seed, one in enumerate(facts)]
    return report(suite_of({"row": entries}, **options), rows(entries))


def test_a_cell_of_two_codes_says_so_in_every_form():
    found = made({"trial_code": "a"}, {"trial_code": "b"}, {"trial_code": "a"})
    note = "row on t: trials from more than one version of the code are averaged."
    assert found.notes == (note,)
    for form in ("table", "latex", "json"):
        assert note in render(found, form).decode()
    assert note in fragment(found)
    assert json.loads(render(found, "json"))["rows"][0]["tasks"]["t"]["codes"] == {"a": 2, "b": 1}
    assert made({"trial_code": "a"}, {}).notes and not made({"trial_code": "a"}, {"trial_code": "a"}).notes


def test_rows_of_the_same_tasks_share_a_line():
    two = ({"trial_code": "a"}, {"trial_code": "b"})
    entries = {
        row: [entry(task, row, {}, seed, facts=one) for task in tasks for seed, one in enumerate(two)]
        for row, tasks in {"a": "tu", "b": "tu", "c": "u"}.items()
    }
    found = report(suite_of(entries), rows([one for group in entries.values() for one in group]))
    averaged = "trials from more than one version of the code are averaged."
    assert found.notes == (f"a, b on t, u: {averaged}", f"c on u: {averaged}")


def test_kinds_of_machine_are_told():
    assert not made(HERE, HERE).notes
    (note,) = made(HERE, HERE, HERE | {"instructions": "AVX512"}).notes
    assert note == (
        "Its trials ran on 2 kinds of machine, which may round otherwise: 2 on A (AVX2), torch 2.9; "
        "1 on A (AVX512), torch 2.9."
    )
    for change in ({"cpu": "B"}, {"torch": "2.8"}, {"device": "NVIDIA H100"}):
        assert len(made(HERE, HERE | change).notes) == 1


def test_rows_that_choose_from_more_configurations_are_told():
    def row(method, *lrs):
        return [entry("t", method, {"lr": lr}, seed) for lr in lrs for seed in (0, 1)]

    rows_of = {"a": row("m", 0.1, 0.2), "b": row("n", 0.1), "c": row("o", 0.1)}
    entries = [one for es in rows_of.values() for one in es]
    (note,) = report(suite_of(rows_of), rows(entries)).notes
    assert note == "Rows do not choose from as many configurations a task: 1 for b, c; 2 for a."
    assert not report(suite_of(rows_of, unranked=["a"]), rows(entries)).notes
    suite = suite_of(rows_of)
    growing = replace(suite, rows=(replace(suite.rows[0], start={("t", "lr"): (0.1, 0.2)}), *suite.rows[1:]))
    (note,) = report(growing, rows(entries)).notes
    assert note == "Rows chose from 1 to 2 configurations a task, as their grids went on."


def test_seeds_share_a_source_model_unless_it_is_trained_on_their_images():
    with pytest.raises(UserError, match="task t: its results start from different source models"):
        made({"source": "a"}, {"source": "b"})
    assert not made({"source": "a", "source_seed": 0}, {"source": "b", "source_seed": 1}).notes
    two = [entry("t", m, {}, 0, facts={"source": m, "source_seed": 0}) for m in ("m", "n")]
    with pytest.raises(UserError, match="different source models"):
        report(suite_of({e.trial.method: [e] for e in two}), rows(two))


def test_source_models_of_two_codes_are_told():
    (note,) = made({"source": "a", "source_code": "x"}, {"source": "b", "source_code": "y"}).notes
    assert note == "The source models of t were made by more than one version of the code."
