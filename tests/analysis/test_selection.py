import json
import math

import pyarrow as pa
import pytest
from hand_made import entry, suite_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.selection import cells, outcomes
from lmsa_bench.errors import UserError
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows
from lmsa_bench.trial.spec import PROTOCOL


def only_cell(entries, **options):
    (cell,) = cells(suite_of({"row": entries}, **options), rows(entries))
    return cell


def test_mean_interval_and_n_over_seeds():
    # .80 .82 .90: mean .84, sd .0529, t(.975, 2) = 4.303: half width .1315.
    cell = only_cell([entry("t", "m", {"lr": 1.0}, seed, test=test) for seed, test in enumerate((0.80, 0.82, 0.90))])
    assert cell.mean == pytest.approx(0.84)
    assert cell.interval == pytest.approx((0.84 - 0.1315, 0.84 + 0.1315), abs=1e-4)
    assert (cell.n, cell.seeds, cell.selected, cell.missing) == (3, 3, {}, 0)


def test_one_seed_has_no_interval():
    cell = only_cell([entry("t", "m", {}, 0, test=0.7)])
    assert (cell.mean, cell.interval, cell.n) == (0.7, None, 1)


@pytest.mark.parametrize(
    ("val", "best"),
    [
        ([0.5, 0.7, 0.6], 2),
        ([(0.7, 0.9), (0.7, 0.8), (0.6, 0.1)], 2),  # the lower loss decides a tie
        ([(0.7, 0.8), (0.7, 0.8)], 1),  # then the earlier epoch
    ],
)
def test_best_epoch_is_the_journals(val, best):
    made = entry("t", "m", {}, 0, val)
    assert outcomes(rows([made]))[made.trial.id].epoch == best


def test_a_result_that_names_another_epoch_is_refused():
    made = entry("t", "m", {}, 0, [0.5, 0.7])
    changed = made._replace(result=type(made.result)(**{**vars(made.result), "best_epoch": 1}))
    with pytest.raises(UserError, match="names epoch 1"):
        outcomes(rows([changed]))


def test_hyper_parameters_are_chosen_by_validation_and_reported():
    entries = [entry("t", "m", {"lr": 0.1, "k": 5}, s, [0.6, 0.9], 0.3) for s in range(2)]
    entries += [entry("t", "m", {"lr": 0.2, "k": 5}, s, [0.8, 0.8], 0.99) for s in range(2)]
    cell = only_cell(entries)
    assert (cell.mean, cell.selected) == (0.3, {"lr": 0.1})


def test_equal_accuracy_goes_to_the_lower_val_loss():
    entries = [entry("t", "m", {"lr": lr}, 0, [(0.8, loss)]) for lr, loss in ((0.1, 0.6), (0.2, 0.5), (0.3, 0.7))]
    assert only_cell(entries).selected == {"lr": 0.2}


def test_averaged_hyper_parameters_have_a_choice_each():
    # forward: lr .1 by val (test .4 .6); backward: lr .2 (test .8 1.0). Per seed: .6, .8: mean .7.
    entries = []
    for order, best in (("forward", 0.1), ("backward", 0.2)):
        for lr in (0.1, 0.2):
            for seed in (0, 1):
                good = {"forward": (0.4, 0.6), "backward": (0.8, 1.0)}[order][seed]
                hparams = {"order": order, "lr": lr}
                entries.append(
                    entry("t", "m", hparams, seed, [0.9 if lr == best else 0.5], good if lr == best else 0.0)
                )
    cell = only_cell(entries, averaged={"row": ("order",)})
    assert cell.accuracies == pytest.approx({0: 0.6, 1: 0.8})
    assert cell.mean == pytest.approx(0.7)
    assert cell.selected == {"order=forward": {"lr": 0.1}, "order=backward": {"lr": 0.2}}


def test_variants_are_chosen_apart_averaged_by_seed_and_stay_visible():
    entries = [entry("t", "m", {}, s, test=test, variant="noise") for s, test in enumerate((0.2, 0.4))]
    entries += [entry("t", "m", {}, s, test=test, variant="blur") for s, test in enumerate((0.6, 1.0))]
    entries += [entry("t", "m", {}, 2, test=0.0, variant="noise"), entry("t", "m", {}, 2, status=None, variant="blur")]
    cell = only_cell(entries)
    assert cell.accuracies == pytest.approx({0: 0.4, 1: 0.7})  # seed 2 lacks blur
    assert cell.variants == pytest.approx({"noise": 0.2, "blur": 0.8})
    assert (cell.n, cell.seeds, cell.missing) == (2, 3, 1)


def test_a_variant_without_results_leaves_no_mean():
    entries = [entry("t", "m", {}, 0, variant="noise"), entry("t", "m", {}, 0, variant="blur", status=None)]
    cell = only_cell(entries)
    assert (cell.mean, cell.n, cell.score, cell.variants) == (None, 0, None, {"noise": 0.5})


def test_diverged_configurations_lose_and_if_nothing_else_is_left_rank_last():
    stable = [entry("t", "m", {"lr": 0.1}, s, [0.5], 0.4) for s in range(2)]
    wild = [entry("t", "m", {"lr": 1.0}, 0, [0.9], 0.9), entry("t", "m", {"lr": 1.0}, 1, status="diverged")]
    assert only_cell(stable + wild).selected == {"lr": 0.1}
    alone = only_cell(wild)
    assert (alone.mean, alone.interval, alone.diverged, alone.score, alone.n) == (None, None, 1, -math.inf, 1)


def test_failed_trials_are_counted_with_their_reason():
    entries = [entry("t", "m", {}, s, test=0.6) for s in range(2)]
    entries.append(entry("t", "m", {}, 2, status="failed", reason="out of memory"))
    cell = only_cell(entries)
    assert (cell.mean, cell.n, cell.seeds, cell.failed) == (0.6, 2, 3, {"out of memory": 1})


def test_remarks_are_counted_over_all_trials_and_told_in_one_line():
    made = [entry("t", "m", {"lr": lr}, s, [lr], remarks=("late",)) for lr in (0.1, 0.2) for s in (0, 1)]
    made.append(entry("t", "m", {"lr": 0.1}, 2, status="diverged", remarks=("late", "restarted")))
    cell = only_cell(made)
    assert cell.remarks == {"late": 5, "restarted": 1}
    others = [entry("u", "m", {"lr": 0.1}, s, remarks=("late",)) for s in (0, 1)]
    text = render(report(suite_of({"row": [*made, *others]}), rows([*made, *others])), "table").decode()
    assert "\nrow on t, u: 7 trials: late.\nrow on t: 1 trial: restarted.\n" in text
    document = json.loads(render(report(suite_of({"row": made}), rows(made)), "json"))
    assert document["rows"][0]["tasks"]["t"]["remarks"] == {"late": 5, "restarted": 1}


def test_layers_of_the_best_epochs_are_counted():
    layers = [(3,), (0,), (3,)]
    cell = only_cell([entry("t", "m", {}, s, layers=chosen) for s, chosen in enumerate(layers)])
    assert cell.layers == {(3,): 2, (0,): 1}


def test_trials_of_other_suites_are_not_looked_at():
    own, other = entry("t", "m", {}, 0, test=0.1), entry("t", "m", {}, 1, test=0.9, data="other", protocol=1)
    (cell,) = cells(suite_of({"row": [own]}), rows([own, other]))
    assert (cell.mean, cell.n) == (0.1, 1)


def test_protocols_and_data_are_not_mixed():
    for change, text in (
        ({"protocol": 1}, f"protocols 1, {PROTOCOL}"),
        ({"data": "other"}, "task t: .* different data"),
    ):
        entries = [entry("t", "m", {}, 0), entry("t", "m", {}, 1, **change)]
        with pytest.raises(UserError, match=text):
            only_cell(entries)
    two_tasks = [entry("t", "m", {}, 0), entry("u", "m", {}, 0, data="other")]
    assert len(cells(suite_of({"row": two_tasks}), rows(two_tasks))) == 2
    two_variants = [entry("t", "m", {}, 0, variant="fog"), entry("t", "m", {}, 0, variant="snow", data="other")]
    assert only_cell(two_variants).n == 1  # each corruption has a file, and so a fingerprint, of its own


grids = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.integers(0, 2), st.integers(0, 4), st.integers(0, 4)),
    min_size=1,
    unique_by=lambda item: item[:2],
)


@settings(max_examples=60, deadline=None)
@given(grids, st.randoms())
def test_neither_test_figures_nor_the_order_of_rows_change_a_choice(grid, random):
    entries = [entry("t", "m", {"lr": lr}, s, [(v / 4, w / 4), (0.5, 0.5)], random.random()) for lr, s, v, w in grid]
    suite, table = suite_of({"row": entries}), rows(entries)
    shuffled = table.take(random.sample(range(len(table)), len(table)))
    noise = pa.array([random.random() if value is not None else None for value in table["test_accuracy"].to_pylist()])
    column = table.column_names.index("test_accuracy")
    (first,), (again,) = cells(suite, table), cells(suite, shuffled)
    (other,) = cells(suite, table.set_column(column, "test_accuracy", noise))
    assert first == again
    assert (first.selected, first.layers, first.n) == (other.selected, other.layers, other.n)


def test_choices_are_made_without_the_test_columns():
    made = [entry("t", "m", {"lr": lr}, 0, [lr]) for lr in (0.1, 0.9)]
    table = rows(made)
    blind = table.drop_columns([name for name in table.column_names if name.startswith("test_")])
    assert outcomes(blind) == outcomes(table)
