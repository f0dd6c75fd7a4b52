"""Looks fixed beforehand, verdicts that stay, and no false one in more than 5 % of sweeps."""

import numpy as np
import pytest

from lmsa_bench.analysis.intervals import Level, differences, judge, prior
from lmsa_bench.analysis.replications import Replications
from lmsa_bench.analysis.sequential import looks, step


def test_looks_spend_alpha_in_proportion_to_what_they_add():
    found = looks(3, 20)
    # 3, ceil 4.5 = 5, ceil 7.5 = 8, 12, 18, and the most: 20
    assert [look.n for look in found] == [3, 5, 8, 12, 18, 20]
    assert [look.alpha for look in found] == pytest.approx([0.05 * n / 20 for n in (3, 2, 3, 4, 6, 2)])
    assert sum(look.alpha for look in found) == pytest.approx(0.05)
    assert looks(5, 5) == [(5, 0.05)]


def test_looking_often_errs_in_at_most_one_suite_of_twenty():
    """Two tasks of four equal rows, 300 sweeps of up to 12 replications: 5 % is 15, three deviations more 26."""
    draw, planned, names, wrong = np.random.default_rng(0), looks(3, 12), tuple("abcd"), 0
    for _ in range(300):
        whole = draw.standard_normal((2, 12, 4)) * np.sqrt(3.5 / draw.chisquare(3.5, (2, 1, 4)))
        decided = {}
        for look in planned:
            gaps = [differences(one[: look.n]) for one in whole]
            for task, gap in zip("xy", gaps, strict=True):
                found = Replications(task, names, (), *[gap.mean] * 3, None, gap.mean, ())
                step(found, judge(gap, prior(gaps), Level(12, look.alpha), 0.0), [True] * 4, decided)
        wrong += bool(decided)
    assert wrong <= 26


def test_a_verdict_stays_and_rows_that_stopped_are_not_judged_again():
    values = np.array([[0.9, 0.5, 0.52], [0.91, 0.5, 0.48], [0.9, 0.51, 0.5], [0.9, 0.5, 0.51]])
    gap, decided = differences(values), {}
    found = Replications("t", ("a", "b", "c"), (), *[gap.mean] * 3, None, gap.mean, ())
    judged = judge(gap, prior([gap]), Level(3), 0.01)
    assert judged.verdicts == ["better", "better", "unknown"]
    assert step(found, judged, [False, True, True], decided) == {2: ("b", "c")} and not decided
    assert step(found, judged, [True] * 3, decided) == {2: ("b", "c")}
    assert set(decided) == {("t", "a", "b"), ("t", "a", "c")}
    kept = decided["t", "a", "b"]
    step(found, judge(differences(values + 0.1), prior([gap]), Level(3), 0.5), [True] * 3, decided)
    assert decided["t", "a", "b"] is kept and decided["t", "b", "c"].verdicts == ["equal"]
