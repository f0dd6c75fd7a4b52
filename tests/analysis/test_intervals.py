"""Simultaneous intervals, their moderated variances, and the probability that they decide."""

import math

import numpy as np
import pytest
from scipy import stats

from lmsa_bench.analysis.intervals import Differences, Level, Prior, differences, judge, moderated, power, prior

ALONE = Prior(0.0, 0.0)


def test_pairs_by_hand():
    # Rows a, b, c at three seeds; c lacks the last. a - b: .1 .2 .3, mean .2, variance .01; a - c: 0 .2, mean .1,
    # variance .02; b - c: -.1 0, mean -.05, variance .005.
    found = differences(np.array([[0.5, 0.4, 0.5], [0.7, 0.5, 0.5], [0.9, 0.6, np.nan]]))
    assert found.mean == pytest.approx([0.2, 0.1, -0.05]) and found.variance == pytest.approx([0.01, 0.02, 0.005])
    assert found.n.tolist() == [3, 2, 2]
    # Sidak: each of 3 at 1 - .95^(1/3) = .016952, two-sided t at 2 and 1 degrees of freedom.
    each = 1 - 0.95 ** (1 / 3)
    judged = judge(found, ALONE, Level(3), 0.01)
    assert judged.half[0] == pytest.approx(stats.t.ppf(1 - each / 2, 2) * 0.1 / math.sqrt(3))
    assert judged.half[1] == pytest.approx(stats.t.ppf(1 - each / 2, 1) * math.sqrt(0.02 / 2))
    # a - b: t = .2 / (.1 / sqrt 3) = 3.4641, p = .0742 at 2 degrees; of three 1 - (1 - .0742)^3 = .2065
    assert judged.p[0] == pytest.approx(1 - (1 - 2 * stats.t.sf(0.2 / (0.1 / math.sqrt(3)), 2)) ** 3)
    assert judged.verdicts == ["unknown"] * 3


def test_a_difference_within_the_margin_is_equal_even_where_it_is_sure():
    found = Differences(np.array([0.005, 0.005, 0.05, 0.0]), np.array([1e-8, 1e-4, 1e-4, 0.0]), np.array([10] * 4))
    assert judge(found, ALONE, Level(4), 0.01).verdicts == ["equal", "unknown", "better", "equal"]
    assert judge(found, ALONE, Level(4), 0.0).verdicts == ["better", "unknown", "better", "equal"]


def test_a_suites_variances_tell_of_one_and_never_make_a_noisy_row_calm():
    draw = np.random.default_rng(0)
    true = 4.0 * 3 / draw.chisquare(3, 20_000)  # scaled inverse chi squared: 3 degrees of freedom, variance 4
    seen = true * draw.chisquare(4, 20_000) / 4
    lent = prior([Differences(np.zeros(20_000), seen, np.full(20_000, 5))], most=100)
    assert lent == pytest.approx((3, 4), rel=0.05)
    assert prior([Differences(np.zeros(20_000), seen, np.full(20_000, 5))], most=2).df == 2
    # (3 * 4 + 4 * 1) / 7 = 16/7; a variance of 50 stays, (3 * 4 + 4 * 50) / 7 = 30.3 is smaller
    assert moderated(np.array([1.0, 50.0]), 5, Prior(3, 4)) == pytest.approx([16 / 7, 50])
    assert prior([]) == ALONE


@pytest.mark.parametrize(
    ("gap", "deviation", "n"), [(0.05, 0.03, 5), (0.0, 0.004, 8), (0.012, 0.005, 12), (0.2, 0.3, 3)]
)
def test_power_is_what_repeated_suites_decide(gap, deviation, n):
    draw, lent, level = np.random.default_rng(1), Prior(4, 0.03**2), Level(28)
    values = draw.normal(gap, deviation, (20_000, n))
    found = Differences(values.mean(1), values.var(1, ddof=1), np.full(20_000, n))
    decided = np.mean([verdict != "unknown" for verdict in judge(found, lent, level, 0.01).verdicts])
    assert power(gap, deviation, n, lent, level, 0.01) == pytest.approx(decided, abs=0.012)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_all_verdicts_of_a_suite_hold_together(n):
    """Four tasks of six equal rows whose noise differs by an order of magnitude: at most 5 % of suites err.

    400 suites: 5 % is 20, three standard deviations more 33.
    """
    draw, wrong = np.random.default_rng(n), 0
    for _ in range(400):
        spread = 2 * np.sqrt(3.5 / draw.chisquare(3.5, (4, 1, 6)))
        spread[0, 0, 0] = 17
        values = draw.normal(0, 1.5, (4, n, 1)) + spread * draw.standard_normal((4, n, 6))
        gaps = [differences(one) for one in values]
        lent, level = prior(gaps), Level(60)
        wrong += any("better" in judge(one, lent, level, 0.0).verdicts for one in gaps)
    assert wrong <= 33
