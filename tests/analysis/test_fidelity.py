"""How criteria are judged, on numbers small enough to do by hand."""

import json
import math
from dataclasses import replace
from itertools import permutations
from statistics import fmean

import pytest
from hand_made import suite_of
from layers_by_hand import ended, layer_rows, measured, scored, tuned

from lmsa_bench.analysis import fidelity as judging
from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.fidelity import OVERALL, RANDOM, by_lot, fidelity, judge, leads, of_subsets
from lmsa_bench.analysis.measures import Truth, measure
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows
from lmsa_bench.trial.spec import Trial

TRUTH = Truth([0.5, 0.7, 0.9], [0.9, 0.5, 0.3])


def test_a_judgement_by_hand():
    # The second layer is chosen: .9 - .7 of accuracy and .5 - .3 of loss are lost. Ranks of the scores: 3 1 2; of the
    # layers, best first, by accuracy as by loss: 3 2 1; rho = 1 - 6 (0 + 1 + 1) / (3 (9 - 1)) = .5.
    found = judge([3.0, 1.0, 2.0], TRUTH)
    assert tuple(found) == pytest.approx((0.2, 0.0, 0.5, 0.5, 0.2))
    assert tuple(judge([3.0, 2.0, 1.0], TRUTH)) == pytest.approx((0.0, 1.0, 1.0, 1.0, 0.0))
    assert tuple(judge([1.0, 2.0, 3.0], TRUTH)) == pytest.approx((0.4, 0.0, -1.0, -1.0, 0.6))


def test_ties():
    # A constant score chooses the first layer and orders nothing; of two best layers either is a hit.
    assert tuple(judge([1.0, 1.0, 1.0], TRUTH)) == pytest.approx((0.4, 0.0, 0.0, 0.0, 0.6))
    equal = Truth([0.9, 0.9, 0.1], [0.2, 0.4, 0.6])
    assert judge([2.0, 1.0, 3.0], equal).hit == 1.0


def test_only_the_order_of_scores_matters():
    scores = [0.3, 2.0, 0.1]
    for changed in ([math.exp(s) for s in scores], [1e9 * s for s in scores], [s - 5 for s in scores]):
        assert judge(changed, TRUTH) == judge(scores, TRUTH)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_renumbering_layers_changes_nothing(order):
    def renumbered(values):
        return [values[i] for i in order]

    truth = Truth(renumbered(TRUTH.accuracies), renumbered(TRUTH.losses))
    for scores in permutations([0.1, 0.2, 0.3]):
        assert tuple(judge(renumbered(scores), truth)) == pytest.approx(tuple(judge(scores, TRUTH)))
    assert tuple(by_lot(truth)) == pytest.approx(tuple(by_lot(TRUTH)))


def test_the_lot_is_the_mean_over_all_scores():
    judged = [judge(scores, TRUTH) for scores in permutations([0.1, 0.2, 0.3])]
    assert tuple(by_lot(TRUTH)) == pytest.approx([fmean(column) for column in zip(*judged, strict=True)])


@pytest.fixture
def made():
    """Two seeds: the truth is that layer 2, then layer 1 is the best; `good` knows, `bad` says layer 0."""
    layers = [
        *(
            tuned("noise", 0, n, accuracy, loss)
            for n, (accuracy, loss) in enumerate([(0.5, 0.9), (0.7, 0.5), (0.9, 0.3)])
        ),
        *(
            tuned("noise", 1, n, accuracy, loss)
            for n, (accuracy, loss) in enumerate([(0.5, 0.9), (0.8, 0.2), (0.7, 0.4)])
        ),
    ]
    good = [scored("noise", 0, [1, 2, 3]), scored("noise", 1, [1, 3, 2])]
    bad = [scored("noise", seed, [1, 2, 3], name="predicted_loss") for seed in (0, 1)]
    return {"bad": bad, "good": good}, layers


def test_means_and_intervals_over_seeds(made):
    found = fidelity(measure(*measured(*made)))
    assert (found.tasks, found.criteria) == (("noise",), ("good", RANDOM, "bad"))
    assert found.means["good", "noise"].regret == (0.0, (0.0, 0.0), 2)
    # bad loses .9 - .5 and .8 - .5: mean .35, sd .0707, half width 12.706 * .0707 / sqrt 2 = .6353.
    regret = found.means["bad", "noise"].regret
    assert (regret.mean, regret.n) == (pytest.approx(0.35), 2)
    assert tuple(regret.interval) == pytest.approx((0.35 - 0.6353, 0.35 + 0.6353), abs=1e-4)
    # Its order 0 1 2 against 2 1 0 and against 1 2 0: rho = -1 and 1 - 6 (4 + 1 + 1) / 24 = -.5.
    assert found.means["bad", "noise"].spearman_accuracy.mean == pytest.approx(-0.75)
    assert found.means["bad", OVERALL] == found.means["bad", "noise"]
    assert (found.chosen["good", "noise"], found.chosen["bad", "noise"]) == ({(2,): 1, (1,): 1}, {(0,): 2})
    assert found.best["noise"] == {(2,): 1, (1,): 1}
    assert found.agreement == {"good": 0.0, "bad": 1.0}
    # By lot: .9 - .7 and .8 - .6667.
    assert found.means[RANDOM, "noise"].regret.mean == pytest.approx((0.2 + 0.8 - 2 / 3) / 2)


def test_variants_of_a_seed_count_once():
    layers, criteria = [], []
    for variant, accuracies in {"fog": (0.9, 0.5, 0.5), "snow": (0.5, 0.7, 0.5)}.items():
        layers += [tuned("noise", 0, n, a, 1 - a, variant) for n, a in enumerate(accuracies)]
        criteria.append(scored("noise", 0, [3, 2, 1], variant))
    found = fidelity(measure(*measured({"rgn": criteria}, layers)))
    # Layer 0 loses nothing in fog and .2 in snow: one seed, whose mean is .1, and no interval.
    assert found.means["rgn", "noise"].regret == (pytest.approx(0.1), None, 1)


def test_tasks_are_pooled_over_task_and_seed_pairs(made):
    criteria, layers = made
    layers = layers + [tuned("flip", 0, n, a, 1 - a) for n, a in enumerate((0.2, 0.1, 0.1))]
    criteria = {
        "bad": [*criteria["bad"], scored("flip", 0, [1, 2, 3], name="predicted_loss")],
        "good": criteria["good"],  # has nothing of flip: it is no rival over all tasks
    }
    found = fidelity(measure(*measured(criteria, layers)))
    assert found.means["bad", OVERALL].regret[::2] == (pytest.approx((0.4 + 0.3 + 0.0) / 3), 3)
    assert ("good", OVERALL) not in found.means and found.criteria[-1] == "good"


def test_leads_hold_on_these_tasks_and_beyond_them():
    ours, theirs = {"a": [0.0, 0.0], "b": [0.0, 0.0]}, {"a": [0.1, 0.2], "b": [0.3, 0.4]}
    (lead,) = leads({"good": ours, "bad": theirs})
    # Here: variances .005 within both tasks, so the error is sqrt(2 * .005 / 2) / 2 = .0354, times t(2) = 4.303.
    # Beyond: the tasks' means .15 and .35 have the error .1, times t(1) = 12.706.
    assert lead == ("good", "bad", *(pytest.approx(value, abs=1e-4) for value in (0.25, 0.1521, 1.2706)))
    (swapped,) = leads({"bad": theirs, "good": ours})
    assert swapped == lead
    assert leads({"good": {"a": [0.0]}, "bad": {"a": [0.1]}}) == (("good", "bad", 0.1, None, None),)
    # Of three, three intervals hold together: each with a chance of 1 - .95 ** (1 / 3) = .01695 of being wrong.
    three = leads({"good": ours, "bad": theirs, "worse": {"a": [0.5, 0.5], "b": [0.5, 0.5]}})
    assert len(three) == 3 and three[0].here == pytest.approx(0.03536 * 7.582, rel=1e-3)


def test_an_incomplete_truth_judges_nothing(made):
    criteria, layers = made
    lacking = [e for e in layers if (e.trial.seed, e.trial.hparams["n"]) != (1, 1)]
    found = fidelity(measure(*measured(criteria, lacking)))
    assert found.means["bad", "noise"].regret[::2] == (pytest.approx(0.4), 1)
    none = [e for e in layers if e.trial.hparams["n"] != 1]
    suite, table = measured(criteria, none)
    assert fidelity(measure(suite, table)).tasks == ()
    assert "no criterion has a complete truth" in " ".join(judging.section(measure(suite, table)).lines)


def test_a_truth_that_lacks_the_last_layer_judges_nothing(made):
    _, layers = made
    four = [scored("noise", seed, [1, 2, 3, 4]) for seed in (0, 1)]  # names the layer that nothing was tuned alone for
    assert fidelity(measure(*measured({"rgn": four}, layers))).tasks == ()


def test_a_set_of_layers_is_named_by_its_members_ranks():
    # Ranks 0 2 1 of the scores, and of the pairs 0+1, 0+2, 1+2: 1, .5, 1.5. Of equal scores the first are named.
    assert of_subsets([1.0, 9.0, 2.0], 2) == [1.0, 0.5, 1.5]
    assert of_subsets([2.0, 1.0, 1.0, 1.0], 2) == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    assert of_subsets([3.0, 1.0, 2.0], 1) == [2.0, 0.0, 1.0]


def test_pairs_are_judged_beside_layers(made):
    criteria, layers = made
    truth = {"0+1": (0.8, 0.6), "0+2": (0.9, 0.9), "1+2": (0.95, 0.7)}  # of seeds 0 and 1
    pairs = {
        f"pair_{named}": [
            ended(
                Trial("noise", "", "given_layers", {"layers": named, "lr": 0.1}, seed, 1),
                tuple(map(int, named.split("+"))),
                accuracy,
                1 - accuracy,
            )
            for seed, accuracy in enumerate(accuracies)
        ]
        for named, accuracies in truth.items()
    }
    groups = criteria | layer_rows(layers) | pairs
    each = {name: (("n", int(name[-1])),) for name in layer_rows(layers)}
    each |= {name: (("layers", name[5:]),) for name in pairs}
    made_of = suite_of(groups, each=each, truths=list(each)), rows([e for group in groups.values() for e in group])
    found = fidelity(measure(*made_of), 2)
    # good has the ranks 2 1 0 and 2 0 1, so it names 1+2 twice and loses 0 and .2; bad names 0+1: .15 and .3.
    assert found.chosen["good", "noise"] == {(1, 2): 2} and found.chosen["bad", "noise"] == {(0, 1): 2}
    assert found.means["good", "noise"].regret.mean == pytest.approx(0.1)
    assert found.means["bad", "noise"].regret.mean == pytest.approx(0.225)
    # By lot: .95 - .8833 and .9 - .7333. The best pair is .05 and .1 before the best layer (.9, .8).
    assert found.means[RANDOM, OVERALL].regret.mean == pytest.approx((0.95 - 2.65 / 3 + 0.9 - 2.2 / 3) / 2)
    assert found.best["noise"] == {(1, 2): 1, (0, 2): 1}
    assert found.gains["noise"].mean == found.gains[OVERALL].mean == pytest.approx(0.075)
    alone = fidelity(measure(*made_of))
    assert alone.means["bad", "noise"].regret.mean == pytest.approx(0.35)  # as without the pairs
    section = judging.section(measure(*made_of))
    document = section.document["sets"]["2"]
    assert document["best_layers"] == {"noise": {"0+2": 1, "1+2": 1}}
    assert document["gains"]["noise"]["mean"] == pytest.approx(0.075)
    assert section.document["best_layers"] == {"noise": {"1": 1, "2": 1}}
    text = "\n".join(section.lines)
    assert "Points of test accuracy of the best 2 layers above the best single layer: all tasks 7.5, noise 7.5" in text
    assert "[1+2: 2/2]" in text and "best 2 layers   [0+2|1+2: 1/2]" in text


def test_the_true_loss_has_its_own_lr():
    # Validation takes lr .1, whose accuracy counts; the loss is lower at .01; at .001 one seed diverged.
    layers = [
        one
        for seed in (0, 1)
        for n in range(3)
        for one in (
            tuned("noise", seed, n, 0.6 + n / 10, 0.5, lr=0.1, val=0.9),
            tuned("noise", seed, n, 0.1, 0.4, lr=0.01, val=0.2),
            tuned("noise", seed, n, 0.9, 0.1, lr=0.001, val=0.95, status="finished" if seed else "diverged"),
        )
    ]
    found = measure(*measured({"rgn": [scored("noise", seed, [1, 2, 3]) for seed in (0, 1)]}, layers))
    truth = found.truths("noise")["", 0]
    assert truth.accuracies == pytest.approx([0.6, 0.7, 0.8]) and truth.losses == [0.4, 0.4, 0.4]


def test_a_criterion_is_told_of_below_the_table_and_is_no_row_of_it(made):
    suite, table = measured(*made)
    found = report(replace(suite, figures=("fidelity",)), table)
    assert found.rows == ("layer_0", "layer_1", "layer_2")
    text = render(found, "table").decode()
    assert "bad             35.0   " in text and "good            0.0   " in text  # of two seeds no interval
    assert "best layer" in text and "[0: 2/2]" in text
    document = json.loads(render(found, "json"))["fidelity"]
    assert document["criteria"][0]["criterion"] == "good"
    assert document["criteria"][2]["tasks"]["noise"]["regret"]["mean"] == pytest.approx(0.35)
    assert document["best_layers"] == {"noise": {"1": 1, "2": 1}}


def test_what_a_criterion_costs_is_told_in_epochs_of_tuning_all_layers():
    # An epoch of all three layers is 100 FLOPs, at seed 1 200; another row's epochs of all layers are dearer, and those
    # of single layers are no measure. RGN's selections take 30 and 20: 0.3 and 0.1 epochs.
    layers = [tuned("t", seed, n, 0.5 + 0.1 * n, 0.5) for seed in (0, 1) for n in range(3)]
    criteria = [
        entry._replace(result=replace(entry.result, selection_flops=flops))
        for entry, flops in zip([scored("t", s, [1.0, 2.0, 3.0]) for s in (0, 1)], (30, 20), strict=True)
    ]

    def of_all(name, flops):
        trials = [Trial("t", "", name, {"lr": 0.1}, seed, 1) for seed in (0, 1)]
        entries = [ended(trial, (0, 1, 2), 0.9, 0.1) for trial in trials]
        return [e._replace(records=[replace(e.records[0], flops=f)]) for e, f in zip(entries, flops, strict=True)]

    suite, table = measured({"rgn": criteria}, [e._replace(records=[replace(e.records[0], flops=7)]) for e in layers])
    assert fidelity(measure(suite, table)).costs == {}
    suite, table = measured(
        {"rgn": criteria, "full": of_all("full", (100, 200)), "msa": of_all("msa", (900, 900))}, layers
    )
    found = fidelity(measure(suite, table))
    assert found.costs == {"rgn": pytest.approx(0.2)}
    section = judging.section(measure(suite, table))
    assert section.document["criteria"][0]["cost_epochs"] == pytest.approx(0.2)
    (line,) = [line for line in section.lines if line.startswith("rgn") and "points" not in line][:1]
    assert line.split()[-1] == "0.20"
