"""What tasks say together, against the libraries and papers that define it."""

import baycomp
import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from lmsa_bench.analysis import overall
from lmsa_bench.analysis.build import PAPER, paper
from lmsa_bench.analysis.ranks import statistics


def test_signed_ranks_are_baycomps():
    draw = np.random.default_rng(0)
    for count, margin in ((4, 0.01), (12, 0.02)):
        a = draw.normal(0.7, 0.05, count)
        b = a - draw.normal(0.015, 0.02, count)
        (found,) = overall.signed_rank({"a": list(a), "b": list(b)}, margin)
        worse, equal, better = baycomp.SignedRankTest.probs(
            b, a, rope=margin, prior=0.5, nsamples=20_000, random_state=1
        )
        assert found[2:] == pytest.approx((better, equal, worse), abs=0.015)


def test_probability_of_improvement_is_mann_whitneys():
    draw = np.random.default_rng(1)
    tasks = [np.round(draw.normal(0.5, 0.1, (5, 3)), 1) for _ in range(2)]
    found = overall.improvement(tasks)
    for i in range(3):
        for j in range(3):
            # rliable's: the mean over tasks of U / (n m), ties half
            expected = np.mean([stats.mannwhitneyu(one[:, i], one[:, j]).statistic / 25 for one in tasks])
            assert found[i, j] == pytest.approx(expected)


def test_the_interaction_holds_its_level_and_sees_a_crossing():
    draw, small = np.random.default_rng(2), []
    for _ in range(400):
        spread = np.array([[1.0, 2, 4, 1], [3, 3, 1, 1], [1, 1, 1, 8]])[:, None]
        values = draw.normal(0, 3, (3, 5, 1)) + spread * draw.standard_normal((3, 5, 4)) + [0, 5, 10, -5]
        small.append(overall.interaction(list(values)).p < 0.05)
    assert np.mean(small) <= 0.083  # 5 %, and three standard deviations of 400
    crossed = [np.array([[1.0, 0.0]] * 3) + 0.1 * draw.standard_normal((3, 2)) for _ in range(2)]
    assert overall.interaction(crossed).p > 0.05
    crossed[1] = crossed[1][:, ::-1]
    assert overall.interaction(crossed).p < 0.001
    assert overall.interaction(crossed[:1]) is None


def test_a_rank_interval_is_where_a_repetition_ranks_the_row():
    draw, inside = np.random.default_rng(3), []
    truth = np.array([0.0, 1.0, 2.0, 6.0])
    for _ in range(60):
        runs = [[truth[:, None].T + draw.standard_normal((4, 4)) for _ in range(3)] for _ in range(2)]
        found = overall.rank_intervals("abcd", runs[0])
        again = {one.row: one.mean for one in overall.rank_intervals("abcd", runs[1])}
        inside += [one.low <= again[one.row] <= one.high for one in found]
    assert np.mean(inside) >= 0.9


def test_ranks_and_their_tests_are_scikit_posthocs():
    names = [name for name in PAPER if name != "No Adaptation"]
    blocks = np.array([PAPER[name] for name in names]).T
    found = paper().statistics
    p = scikit_posthocs.posthoc_nemenyi_friedman(blocks).to_numpy()
    for a in names:
        for b in names:
            gap = abs(found.average_ranks[a] - found.average_ranks[b])
            assert (gap > found.critical_difference) == (p[names.index(a), names.index(b)] < 0.05)
    many = {
        name: {str(i): v for i, v in enumerate(row)}
        for name, row in zip("abc", np.arange(30).reshape(3, 10), strict=True)
    }
    assert statistics(many, [str(i) for i in range(10)]).chi2 == pytest.approx(
        stats.friedmanchisquare(*np.arange(30).reshape(3, 10)).statistic
    )


def test_the_papers_table_gives_signed_ranks_and_says_what_it_cannot():
    found = paper()
    assert "no difference on one task can be judged" in found.headline[0].replace("\n", " ")
    assert found.verdicts.comparisons == () and len(found.verdicts.signed_ranks) == 10
