import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from lmsa_bench.analysis.build import PAPER, PAPER_TASKS, paper
from lmsa_bench.analysis.ranks import average_ranks, normal_range, paired_differences, statistics, t_interval


def scores(rows, tasks):
    return {name: dict(zip(tasks, values, strict=True)) for name, values in rows.items()}


def test_the_papers_table_is_ranked_as_method_md_says():
    ranked = {name: values for name, values in PAPER.items() if name != "No Adaptation"}
    found = statistics(scores(ranked, PAPER_TASKS), PAPER_TASKS)
    assert found.average_ranks == {"L-MSA": 2.0, "Auto-RGN": 2.25, "Full Fine-tuning": 2.5, "LISA": 4.0, "LIFT": 4.25}
    assert found.chi2 == pytest.approx(7.0)
    assert found.p == pytest.approx(0.136, abs=5e-4)
    assert found.f == pytest.approx(2.33, abs=5e-3)
    assert found.f_p == pytest.approx(0.115, abs=5e-4)
    assert found.critical_difference == pytest.approx(3.05, abs=5e-3)
    assert found.verdict().startswith(
        "not separable: on 4 tasks the largest gap of average ranks is 2.25, L-MSA to LIFT"
    )
    assert paper().statistics == found


def test_ties_share_their_average_rank_and_none_leaves_its_task_out():
    # Task a: 0.9 0.9 0.1 -> ranks 1.5 1.5 3. Task b: 0.2 0.3 diverged -> 2 1 3. Task c has no cell for z.
    # R = (3.5, 2.5, 6), n = 2, k = 3: sum (R - 4)^2 = .25 + 2.25 + 4 = 6.5; sum r^2 = 2 * 2.25 + 9 + 4 + 1 + 9 = 27.5,
    # less n k (k+1)^2 / 4 = 24 gives 3.5; chi2 = 2 * 6.5 / 3.5 = 26/7; F = (1 * 26/7) / (2 * 2 - 26/7) = 13.
    found = statistics(scores({"x": (0.9, 0.2, 0.5), "y": (0.9, 0.3, 0.6), "z": (0.1, -math.inf, None)}, "abc"), "abc")
    assert found.average_ranks == {"y": 1.25, "x": 1.75, "z": 3.0}
    assert (found.blocks, found.left_out) == (("a", "b"), ("c",))
    assert found.chi2 == pytest.approx(26 / 7)
    assert found.f == pytest.approx(13)
    # scipy ranks upwards and does not take -inf; the statistic is the same.
    assert found.chi2 == pytest.approx(stats.friedmanchisquare([0.9, 0.2], [0.9, 0.3], [0.1, -9]).statistic)


@given(hnp.arrays(float, (3, 7), elements=st.sampled_from([-math.inf, 0.25, 0.5, 1.0])))
def test_ranks_are_scipys(values):
    assert (average_ranks(values) == stats.rankdata(-values, axis=1)).all()


@pytest.mark.parametrize("k", [2, 3, 9, 40])
def test_the_range_of_normal_variables_is_scipys(k):
    assert normal_range(k) == pytest.approx(stats.studentized_range.ppf(0.95, k, math.inf), rel=1e-12)


def test_sums_in_another_order_are_still_a_tie():
    found = statistics(scores({"x": (0.1 + 0.2 + 0.3,), "y": (0.3 + 0.2 + 0.1,)}, "a"), "a")
    assert found.average_ranks == {"x": 1.5, "y": 1.5}


def test_clear_differences_are_separable_and_the_best_group_is_named():
    # 10 tasks, always a > b > c: ranks 1, 2, 3; CD = 3.314/sqrt(2) * sqrt(3*4/60) = 1.05: only a and c are apart.
    tasks = [str(i) for i in range(10)]
    found = statistics(scores({name: [value] * 10 for name, value in zip("cab", (1, 3, 2), strict=True)}, tasks), tasks)
    assert found.critical_difference == pytest.approx(1.048, abs=1e-3)
    assert found.f == math.inf
    assert [(pair.better, pair.worse) for pair in found.separable] == [("a", "c")]
    assert found.verdict().startswith("separable: on 10 tasks a before c")
    assert found.verdict().endswith("the best group is a, b")


@pytest.mark.parametrize(
    ("rows", "tasks"), [({}, "a"), ({"x": (1,)}, "a"), ({"x": (1,), "y": (2,)}, "a"), ({"x": (None,)}, "a")]
)
def test_too_little_to_test_says_so(rows, tasks):
    found = statistics(scores(rows, tasks), tasks)
    assert found.critical_difference is None
    assert "too few to test" in found.verdict()


def test_equal_rows_differ_in_nothing():
    found = statistics(scores({"x": (1, 2), "y": (1, 2)}, "ab"), "ab")
    assert (found.chi2, found.p) == (0, 1)
    assert found.verdict().startswith("not separable")


def test_t_interval_of_three_numbers():
    # Mean 2, standard deviation 1, t(.975, 2) = 4.303: 2 +- 4.303 / sqrt(3) = 2 +- 2.484.
    assert t_interval([1, 2, 3]) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert t_interval([1]) is None
    assert t_interval([]) is None


def test_paired_differences_use_the_seeds_that_both_have():
    # Seeds 0 and 2: .9 - .8 = .1, .7 - .4 = .3: mean .2, sd .1414, t(.975, 1) = 12.706: half width 1.271.
    found = paired_differences({("x", "a"): {0: 0.9, 1: 0.5, 2: 0.7}, ("y", "a"): {0: 0.8, 2: 0.4}}, "x")
    assert [(d.row, d.task, d.n) for d in found] == [("y", "a", 2)]
    assert found[0].mean == pytest.approx(0.2)
    assert found[0].interval == pytest.approx((0.2 - 1.2706, 0.2 + 1.2706), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(float, st.tuples(st.integers(2, 6), st.integers(2, 5)), elements=st.integers(0, 4).map(float)),
    st.randoms(),
)
def test_permuting_rows_or_tasks_changes_nothing(values, random):
    tasks = [f"t{i}" for i in range(values.shape[1])]
    rows = scores({f"r{i}": row for i, row in enumerate(values.tolist())}, tasks)
    mixed_rows, mixed_tasks = list(rows), list(tasks)
    random.shuffle(mixed_rows)
    random.shuffle(mixed_tasks)
    one, other = statistics(rows, tasks), statistics({name: rows[name] for name in mixed_rows}, mixed_tasks)
    assert one.average_ranks == pytest.approx(other.average_ranks)
    assert (one.chi2, one.p) == pytest.approx((other.chi2, other.p))
    assert sum(one.average_ranks.values()) == pytest.approx(len(rows) * (len(rows) + 1) / 2)
