"""What the number of configurations that were tried is worth, against every draw of them."""

from itertools import combinations
from statistics import fmean

import pytest
from hand_made import entry, suite_of

from lmsa_bench.analysis.budgets import Tried, budgets, expected
from lmsa_bench.analysis.build import report
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows


def test_the_closed_form_is_the_mean_over_all_draws():
    tried = [Tried(0.7, 1, 0.6, 0), Tried(0.8, 1, 0.5, 0), Tried(0.8, 0.5, 0.9, 0), Tried(0.3, 1, 0.95, 0)]
    found = expected(tried)
    for k in range(1, 5):
        picked = [max(some, key=lambda one: (one.val_accuracy, -one.val_loss)) for some in combinations(tried, k)]
        assert found[k - 1] == pytest.approx(fmean(one.test_accuracy for one in picked))
    assert found[-1] == 0.9  # the loss decides the tie


def test_of_a_suite():
    # Rates .1 and .01: validation .8 and .6, test .5 and .7: validation misleads.
    entries = [
        entry("t", "m", {"lr": lr}, seed, [val], test)
        for lr, val, test in ((0.1, 0.8, 0.5), (0.01, 0.6, 0.7))
        for seed in (0, 1)
    ]
    suite = suite_of({"m": entries})
    (found,) = budgets(suite, rows(entries))
    assert found.expected == pytest.approx((0.6, 0.5)) and (found.best, found.promised) == (0.7, pytest.approx(0.8))
    text = render(report(suite, rows(entries)), "table").decode()
    assert "60.0           50.0  50.0  70.0                 80.0" in text
    assert budgets(suite, rows(entries[1:])) == []  # one is not there
