"""Every number of a table, recomputed from the results' files alone."""

import json
import math
from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import fmean, median, pvariance, variance

import numpy as np
import pytest
from recomputing import RANKED, TASKS, TRAINED, best_of, documents, half, ranks_of
from scipy import optimize, special, stats

PAIRS = list(combinations(RANKED, 2))
# Where a field that is not recomputed here has its own oracle.
ELSEWHERE = {
    "suite, part, notes, label_budget": "words: tests/analysis/test_notes.py, tests/report/test_report.py",
    "headline": "words: tests/analysis/test_verdicts.py",
    "fidelity, theory": "their figures: tests/recomputed/test_recomputed_figures.py, tests/analysis/test_fidelity.py",
    "needed, detectable": "power against repeated suites: tests/analysis/test_intervals.py",
    "signed_ranks, first_better, equal, second_better": "baycomp's: tests/analysis/test_overall.py",
    "interaction, low, high": "levels and coverage: tests/analysis/test_overall.py",
    "remarks, diverged, failed, until": "tests/analysis/test_selection.py, tests/analysis/test_sequential.py",
}


@pytest.fixture(scope="module")
def table(report):
    return json.loads(report.text("json"))


def test_cells_and_ranks(run, table, grids, chosen, means):
    for _, records, result in documents(run):
        best = best_of(records)
        assert result["best_epoch"] == best["epoch"] and result["val_accuracy"] == best["val_accuracy"]
    document = {row["method"]: row for row in table["rows"]}
    assert set(document) == {row for row, _ in means} - {"rgn"}  # which only scores layers
    for (row, task), seeds in means.items():
        if row == "rgn":
            continue
        cell, parts = document[row]["tasks"][task], chosen[row, task]
        assert list(cell["accuracies"].values()) == pytest.approx(seeds, abs=1e-12)
        assert cell["mean"] == pytest.approx(fmean(seeds), abs=1e-12) and cell["n"] == cell["seeds"] == 2
        assert cell["interval"] == pytest.approx([fmean(seeds) - half(seeds), fmean(seeds) + half(seeds)], abs=1e-12)
        variants = {variant for variant, _ in parts if variant}
        assert cell["variants"] == pytest.approx(
            {
                variant: fmean(
                    by[s][2]["test_accuracy"] for (v, _), (_, by) in parts.items() if v == variant for s in (0, 1)
                )
                for variant in variants
            }
        )
        trials = [trial for grid in grids[row, task].values() for by in grid.values() for trial in by.values()]
        assert cell["codes"] == Counter(result["provenance"]["trial_code"] for *_, result in trials)
        assert (cell["missing"], cell["diverged"], cell["failed"], cell["remarks"]) == (0, 0, {}, {})
        assert {cell["tried"]} == {len(grid) for grid in grids[row, task].values()}
        assert sum(cell["layers"].values()) == 2 * len(parts)
        tried = [dict(one) for grid in grids[row, task].values() for one in grid]
        searched = {name for name in tried[0] if len({one[name] for one in tried}) > 1}
        assert set(cell["edges"]) == searched  # a grid of two values has nothing inside
        selected = cell["selected"]  # of the task, or of each variant
        for name in searched:
            values = {selected[name]} if name in selected else {hparams[name] for hparams in selected.values()}
            assert values == {dict(configuration)[name] for configuration, _ in parts.values()}
    for row, rank in ranks_of(means).items():
        assert document[row]["average_rank"] == pytest.approx(rank)


def friedman(blocks):
    """chi2, p, F and its p (Iman and Davenport, 1980), and Nemenyi's critical difference, of (blocks, rows)."""
    n, k = blocks.shape
    chi2, p = stats.friedmanchisquare(*blocks.T)
    f = (n - 1) * chi2 / max(n * (k - 1) - chi2, 1e-12)
    f_p = stats.f.sf(f, k - 1, (k - 1) * (n - 1))
    critical = stats.studentized_range.ppf(0.95, k, np.inf) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    return chi2, p, f, f_p, critical


def test_statistics(table, means):
    by_task = np.array([[fmean(means[row, task]) for row in RANKED] for task in TASKS])
    by_seed = np.array([[means[row, task][s] for row in RANKED] for task in TASKS for s in (0, 1)])
    for found, blocks in ((table["statistics"], by_task), (table["statistics"]["blocked"], by_seed)):
        ranks = dict(zip(RANKED, stats.rankdata(-blocks, axis=1).mean(0), strict=True))
        assert found["average_ranks"] == pytest.approx(ranks) and len(found["blocks"]) == len(blocks)
        chi2, p, f, f_p, critical = friedman(blocks)
        assert [found["chi2"], found["p"]] == pytest.approx([chi2, p]) and found["left_out"] == []
        assert found["f_p"] == pytest.approx(f_p, abs=1e-12)
        assert found["f"] == (None if f > 1e9 else pytest.approx(f))  # all blocks agree
        assert found["critical_difference"] == pytest.approx(critical)
        apart = {frozenset(pair) for pair in PAIRS if abs(ranks[pair[0]] - ranks[pair[1]]) > critical and f_p < 0.05}
        assert {frozenset((one["better"], one["worse"])) for one in found["separable"]} == apart
        for one in found["separable"]:
            assert one["gap"] == pytest.approx(ranks[one["worse"]] - ranks[one["better"]]) and one["gap"] > 0
    verdict = "separable" if table["statistics"]["separable"] else "not separable"
    assert table["statistics"]["verdict"].startswith(f"{verdict}: on 2 tasks")


def test_differences(table, means):
    best = min(ranks_of(means).items(), key=lambda item: item[1])[0]
    found = {(one["row"], one["task"]): one for one in table["statistics"]["differences"]}
    assert set(found) == {(row, task) for row in RANKED if row != best for task in TASKS}
    for (row, task), one in found.items():
        gaps = [a - b for a, b in zip(means[best, task], means[row, task], strict=True)]
        assert one["mean"] == pytest.approx(fmean(gaps)) and one["n"] == 2
        assert one["interval"] == pytest.approx([fmean(gaps) - half(gaps), fmean(gaps) + half(gaps)])


def test_budgets(table, grids, chosen):
    found = {(one["row"], one["task"]): one for one in table["budgets"]}
    assert {(row, task) for row in TRAINED for task in TASKS} <= set(found)
    for row, task in found:
        if row == "rgn" or row == "no_adaptation":
            continue
        curves, best, promised, flops = [], [], [], []
        for part, grid in grids[row, task].items():
            trials = [
                (
                    fmean(b["val_accuracy"] for _, b, _ in by.values()),
                    -fmean(b["val_loss"] for _, b, _ in by.values()),
                    fmean(result["test_accuracy"] for *_, result in by.values()),
                )
                for by in grid.values()
            ]
            draws = [list(combinations(trials, k)) for k in range(1, len(trials) + 1)]
            curves.append([fmean(max(drawn)[2] for drawn in some) for some in draws])
            best.append(max(test for *_, test in trials))
            promised.append(fmean(b["val_accuracy"] for _, b, _ in chosen[row, task][part][1].values()))
            spent = [
                sum(r["flops"] for r in records) + (result["selection_flops"] or 0) + (result["state_flops"] or 0)
                for by in grid.values()
                for records, _, result in by.values()
            ]
            flops.append(sum(spent) / len(grid))
        one, count = found[row, task], len(curves[0])
        assert one["expected"] == pytest.approx(np.mean(curves, axis=0))
        assert [one["best"], one["promised"]] == pytest.approx([fmean(best), fmean(promised)])
        assert one["flops"] == pytest.approx([k * sum(flops) for k in range(1, count + 1)])


def test_what_is_kept(table, chosen, means):
    found = {(one["method"], one["task"]): one for one in table["kept"]}
    for row, task in means:
        if row == "rgn":
            continue
        results = [result for _, by in chosen[row, task].values() for *_, result in by.values()]
        assert found[row, task]["after"] == pytest.approx(fmean(result["source_accuracy"] for result in results))
        before = fmean(result["provenance"]["source_accuracy"] for result in results)
        assert found[row, task]["before"] == pytest.approx(before)


def choice_variance(grids, chosen, task, first, second):
    """What choosing anew adds to the variance of a difference's mean: both seeds, or either of them twice."""
    anew, alike = [], []
    for seeds in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells = {}
        for row in (first, second):
            again, same = [], []
            for part, grid in grids[row, task].items():

                def standing(configuration, grid=grid, seeds=seeds):
                    bests = [grid[configuration][seed][1] for seed in seeds]
                    return fmean(b["val_accuracy"] for b in bests), -fmean(b["val_loss"] for b in bests)

                for some, configuration in ((again, max(grid, key=standing)), (same, chosen[row, task][part][0])):
                    some.append(fmean(grid[configuration][seed][2]["test_accuracy"] for seed in seeds))
            cells[row] = fmean(again), fmean(same)
        anew.append(cells[first][0] - cells[second][0])
        alike.append(cells[first][1] - cells[second][1])
    return max(0.0, pvariance(anew) - pvariance(alike)) * 2  # n / (n - 1)


def images_variance(chosen, task, first, second):
    """What a difference's variance has by its test images alone, the mean over seeds."""
    found = []
    for seed in (0, 1):
        scores = {}
        for row in (first, second):
            results = [by[seed][2] for _, by in chosen[row, task].values()]
            bits = [np.unpackbits(np.frombuffer(r["outcomes"], np.uint8)) for r in results]
            scores[row] = np.mean([one[: results[0]["test_size"]] for one in bits], axis=0)
        gaps = scores[first] - scores[second]
        found.append(np.var(gaps, ddof=1) / len(gaps))
    return fmean(found)


def lent(variances):
    """Smyth (2004), section 6.2, for variances of one degree of freedom: what they say of one, at most 4 degrees."""
    logs = np.log(variances) - special.digamma(0.5) + math.log(0.5)
    extra = np.var(logs, ddof=1) - special.polygamma(1, 0.5)
    df = 4.0
    if extra > 0:
        df = min(df, 2 * optimize.brentq(lambda y: special.polygamma(1, y) - extra, 1e-6, 1e6))
    return df, math.exp(np.mean(logs) + special.digamma(df / 2) - math.log(df / 2))


def test_verdicts(run, table, grids, chosen, means):
    found = table["verdicts"]
    pairs = [(task, *pair) for task in TASKS for pair in PAIRS]
    gaps = {(task, a, b): [x - y for x, y in zip(means[a, task], means[b, task], strict=True)] for task, a, b in pairs}
    choice = {pair: 2 * choice_variance(grids, chosen, *pair) for pair in pairs}
    own = {pair: variance(gaps[pair]) + choice[pair] for pair in pairs}
    df, shared = lent([value for value in own.values() if value > 1e-12])
    assert found["level"] == {"pairs": 6, "alpha": 0.05} and found["margin"] == 0.01 and found["one_source"]
    assert [found["prior"]["df"], found["prior"]["variance"]] == pytest.approx([df, shared], rel=0.1)
    critical = stats.t.ppf(1 - (1 - 0.95 ** (1 / 6)) / 2, df + 1)
    behind = dict.fromkeys(RANKED, 1.0)
    for task, one in zip(TASKS, found["tasks"], strict=True):
        order = sorted(RANKED, key=lambda row: -fmean(means[row, task]))
        assert one["task"] == task and one["rows"] == order and one["n"] == 2 and one["diverged"] == []
        assert one["means"] == pytest.approx([fmean(means[row, task]) for row in order])
        assert one["shift"] == {"digits_c": "input", "digits_flip": "output"}[task]
        seconds = [
            sum(
                r["seconds"]
                for grid in grids[row, task].values()
                for by in grid.values()
                for t in by.values()
                for r in t[0]
            )
            for row in order
        ]
        assert one["seconds"] == pytest.approx([value / 2 for value in seconds])
        assert len(one["comparisons"]) == 3
        wide = {}
        for compared in one["comparisons"]:
            a, b = compared["first"], compared["second"]
            pair = (task, a, b) if (task, a, b) in gaps else (task, b, a)
            gap = abs(fmean(gaps[pair]))
            error = math.sqrt(max(own[pair], (df * shared + own[pair]) / (df + 1)) / 2)
            wide[pair] = critical * error
            assert order.index(a) < order.index(b) and compared["task"] == task and compared["n"] == 2
            assert compared["mean"] == pytest.approx(gap)
            assert compared["half"] == pytest.approx(wide[pair], rel=0.05)  # the package draws its resamples
            p = 1 - (1 - 2 * stats.t.sf(gap / error, df + 1)) ** 6
            assert compared["p"] == pytest.approx(p, rel=0.1, abs=1e-6)
            sure = "equal" if gap + compared["half"] <= 0.01 else "better" if gap > compared["half"] else "unknown"
            assert compared["verdict"] == sure and (compared["needed"] or 3) > 2
            behind[b] = min(behind[b], compared["p"])
        beaten = {c["second"] for c in one["comparisons"] if c["verdict"] == "better"}
        assert one["best"] == [row for row in order if row not in beaten]
        parts = one["components"]
        assert parts["replication"] == pytest.approx(
            math.sqrt(median(own[pair] for pair in pairs if pair[0] == task)), rel=0.05
        )
        assert parts["selection"] == pytest.approx(
            median(math.sqrt(choice[pair]) for pair in pairs if pair[0] == task), rel=0.1
        )
        images = [math.sqrt(images_variance(chosen, *pair)) for pair in pairs if pair[0] == task]
        assert parts["images"] == pytest.approx(median(images)) and parts["resolved"] == pytest.approx(
            median(wide.values()), rel=0.05
        )
    assert set(found["nowhere_beaten"]) == {row for row in RANKED if all(row in one["best"] for one in found["tasks"])}
    assert found["no_best"] == pytest.approx(max(behind.values()))
    assert {one["row"]: one["mean"] for one in found["ranks"]} == pytest.approx(ranks_of(means))
    for i, a in enumerate(found["rows"]):
        for j, b in enumerate(found["rows"]):
            won = [[(x > y) + (x == y) / 2 for x in means[a, t] for y in means[b, t]] for t in TASKS]
            assert found["improvement"][i][j] == pytest.approx(np.mean(won))


def names(document):
    """The names of all fields; keys that are rows, tasks, variants, … are not fields."""
    if isinstance(document, list):
        return set().union(*map(names, document))
    if not isinstance(document, dict):
        return set()
    tables = {"accuracies", "variants", "selected", "layers", "failed", "codes", "remarks", "average_ranks"}
    found = set(document)
    for name, value in document.items():
        if name not in tables:
            found |= names(list(value.values()) if name == "tasks" and isinstance(value, dict) else value)
    return found


def test_every_field_is_recomputed_here_or_has_an_oracle_elsewhere(table):
    here = Path(__file__).read_text()
    elsewhere = {name for some in ELSEWHERE for name in some.split(", ")}
    found = names({name: value for name, value in table.items() if name not in ("fidelity", "theory")})
    assert {name for name in found - elsewhere if f'"{name}"' not in here} == set()
    assert elsewhere <= found | {"fidelity", "theory"}
    for places in ELSEWHERE.values():
        for place in places.split(": ")[-1].split(", "):
            assert (Path(__file__).parents[2] / place).exists(), place
