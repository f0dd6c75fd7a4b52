"""A criterion of a user's own, from a plug-in file to the fidelity section, with nothing else told of it."""

import json

import pytest

import lmsa_bench as lb
from lmsa_bench.control import CRITERIA
from lmsa_bench.methods.score_only import score_only

PLUGIN = """
from lmsa_bench.control import CRITERIA
from lmsa_bench.control.criteria import Scores, largest


@CRITERIA.register
def a_users_depth(batches=5):
    # Logs under another name, and a registered one beside it.
    def score(model, tuning):
        values = [float(n) for n in range(len(model))]
        return Scores(values, len(values) - 1, {"depth": values, "rgn": [-v for v in values]})

    return score


@CRITERIA.register
def a_users_nan():
    return lambda model, tuning: largest("a_users_nan", [float("nan"), *range(1, len(model))])


@CRITERIA.register
def a_users_demand(temperature):
    return None
"""
SUITE = """
suite: tiny
tasks: [digits_permuted]
seeds: 1
epochs: 1
figures: [fidelity, criteria]
plugins: [mine.py]
rows:
  depth: {method: score_only, ranked: false, grid: {criterion: a_users_depth}}
  nan_at_0: {method: score_only, ranked: false, grid: {criterion: a_users_nan}}
  layer: {method: single_layer, each: n, truth: true, ranked: false, grid: {n: [0, 1, 2, 3], lr: 1e-2}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("criterion")
    (folder / "mine.py").write_text(PLUGIN)
    (folder / "suite.yaml").write_text(SUITE)
    suite = lb.load_suite(str(folder / "suite.yaml"))
    yield suite, lb.run(suite, folder / "results", folder / "data")
    for name in ("a_users_depth", "a_users_nan", "a_users_demand"):
        CRITERIA._factories.pop(name)


def test_it_is_judged_beside_the_others(run):
    suite, results = run
    report = results.report(suite)
    document = json.loads(report.text("json"))["fidelity"]
    judged = {one["criterion"]: one["tasks"] for one in document["criteria"]}
    assert set(judged) == {"depth", "nan_at_0", "(random layer)"}
    best = max(range(4), key=lambda n: report.cells[f"layer_{n}", "digits_permuted"].mean)
    for name in ("depth", "nan_at_0"):
        assert judged[name]["digits_permuted"]["chosen"] == {"3": 1}
        loss = report.cells[f"layer_{best}", "digits_permuted"].mean - report.cells["layer_3", "digits_permuted"].mean
        assert judged[name]["digits_permuted"]["regret"]["mean"] == pytest.approx(loss)
    assert {"fidelity", "criteria"} <= set(report.figures())


def test_its_scores_are_in_the_journal_under_its_name_and_finite(run):
    _, results = run
    seen = set()
    for path in results.journal.trials.glob("*/result.json"):
        found = json.loads(path.read_text(), parse_constant=pytest.fail)["scores"]
        seen |= set(found)
        if "a_users_depth" in found:
            assert found["a_users_depth"] == found["depth"] == [0.0, 1.0, 2.0, 3.0]
        if "a_users_nan" in found:
            assert found["a_users_nan"][0] < -3e38 and found["a_users_nan"][1:] == [1.0, 2.0, 3.0]
    assert seen == {"a_users_depth", "depth", "rgn", "a_users_nan"}


def test_one_that_asks_for_more_than_there_is_is_a_users_error(run):
    with pytest.raises(lb.UserError, match="criterion 'a_users_demand' needs temperature: it gets state_view, c"):
        score_only("a_users_demand")
