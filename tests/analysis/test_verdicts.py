"""From trials to an answer: choices made anew, best groups, plans, and the sentences made of them."""

import random
from dataclasses import replace
from statistics import fmean, pvariance

import numpy as np
import pytest
from hand_made import entry, suite_of
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.contingency_tables import mcnemar

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.replications import replications
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows

TASKS = ("noise", "flip")
SEEDS = range(6)


def made(level=lambda method, task: 0.5, spread=0.02, seeds=SEEDS, lrs=(0.1, 0.01), methods="abc"):
    draw = np.random.default_rng(7)
    return {
        method: [
            entry(
                task,
                method,
                {"lr": lr},
                seed,
                [float(np.clip(0.5 + draw.normal(0, 0.03), 0, 1))],
                float(np.clip(level(method, task) + draw.normal(0, spread) + 0.03 * (lr == 0.1), 0, 1)),
            )
            for task in TASKS
            for seed in seeds
            for lr in lrs
        ]
        for method in methods
    }


def reported(entries, **changes):
    suite = replace(suite_of(entries), **changes)
    return report(suite, rows([one for group in entries.values() for one in group]))


def test_the_choice_made_anew_is_a_bootstrap_written_anew():
    """Three methods on two tasks: each resample chooses its learning rates by mean validation accuracy."""
    entries = made()
    suite = suite_of(entries)
    found = replications(suite, rows([one for group in entries.values() for one in group]), suite.rows)
    draw = random.Random(0)
    for one in found:
        by = {
            (e.trial.method, e.trial.hparams["lr"], e.trial.seed): (e.result.val_accuracy, e.result.test_accuracy)
            for group in entries.values()
            for e in group
            if e.trial.task == one.task
        }

        def cell(method, seeds, lr=None, by=by):
            lr = lr or max((0.1, 0.01), key=lambda lr: fmean(by[method, lr, s][0] for s in seeds))
            return lr, fmean(by[method, lr, s][1] for s in seeds)

        chosen = {method: cell(method, SEEDS) for method in "abc"}
        assert one.means == pytest.approx([chosen[method][1] for method in "abc"])
        anew, alike = [], []
        for _ in range(4000):
            seeds = draw.choices(SEEDS, k=6)
            anew.append([cell(method, seeds)[1] for method in "abc"])
            alike.append([cell(method, seeds, chosen[method][0])[1] for method in "abc"])
        for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            spreads = [pvariance([values[i] - values[j] for values in some]) for some in (anew, alike)]
            expected = max(0.0, spreads[0] - spreads[1]) * 6 / 5
            assert one.choice[k] == pytest.approx(expected, rel=0.2, abs=4e-6)
            own = np.var(one.values[:, i] - one.values[:, j], ddof=1)  # of a difference; its mean's is a sixth
            assert one.differences.variance[k] == pytest.approx(own + 6 * one.choice[k])
    assert max(one.choice.max() for one in found) > 2e-5  # some choice is unsure


def test_a_single_configuration_leaves_nothing_to_choose():
    entries = made(lrs=(0.1,))
    suite = suite_of(entries)
    found = replications(suite, rows([one for group in entries.values() for one in group]), suite.rows)
    assert all((one.choice == 0).all() for one in found)


def test_the_answer_names_the_best_under_each_shift():
    found = reported(
        made(
            lambda method, task: (
                {"a": 0.9, "b": 0.5, "c": 0.88}[method] if task == "noise" else {"a": 0.4, "b": 0.9, "c": 0.4}[method]
            ),
            spread=0.01,
            lrs=(0.1,),
        )
    )
    noise, flip = found.verdicts.tasks
    assert noise.best == ("a", "c") and flip.best == ("b",)
    assert found.headline[:2] == (
        "On noise, a leads (93 %); c (91 %) may be as good; b is 40 points behind.",
        "On flip, b is best (93 %); a and c are 50 points behind.",
    )
    assert found.headline[2].startswith("No method is best under every shift (p < 0.001")
    assert found.verdicts.interaction.p < 0.001 and found.verdicts.nowhere_beaten == ()
    text = " ".join(render(found, "table").decode().split())  # without its line breaks
    assert "of 6 comparisons decided" in text and "from this one source model" in text
    assert render(found, "json")


def test_of_a_large_group_the_answer_names_who_is_not_in_it():
    def level(method, task):
        return 0.3 if method == "a" and task == "noise" else 0.6

    found = reported(made(level, spread=0.02, lrs=(0.1,), methods="abcdefgh"))
    noise, flip = found.verdicts.tasks
    assert noise.beaten_rows == ("a",) and len(noise.best) == 7 and not flip.beaten_rows
    ahead, gap = noise.behind("a").first, noise.behind("a").mean
    mean = dict(zip(noise.rows, noise.means, strict=True))[ahead]
    assert found.headline == (
        f"On noise, a is {100 * gap:.0f} points behind {ahead} ({100 * mean:.0f} %); the other seven methods do not "
        "differ significantly.",
        "On flip, no two methods differ significantly.",
        "Seven methods are never significantly behind another.",
    )


def test_nothing_known_is_said_to_be_unknown_and_what_it_would_take():
    found = reported(made(lambda method, task: {"a": 0.52}.get(method, 0.5), spread=0.05))
    assert found.headline == ("No two methods differ significantly under any of the two shifts.",)
    opened = [one for one in found.verdicts.comparisons if one.verdict == "unknown"]
    assert opened and all(one.needed is None or one.needed > 6 for one in opened)
    count, hours = found.verdicts.tasks[0].cost(1.0)
    assert count > 6 and hours > 0
    # Each trial took 2 s, and a row has two configurations.
    assert found.verdicts.tasks[0].seconds == (4.0, 4.0, 4.0)


def test_a_single_task_is_named_also_where_nothing_is_known():
    entries = made(spread=0.05)
    found = reported({name: [one for one in group if one.trial.task == "flip"] for name, group in entries.items()})
    assert found.headline == ("On flip, no two methods differ significantly.",)


def test_equal_rows_are_told_from_unknown_ones():
    found = reported(made(spread=1e-4, lrs=(0.01,)), margin=0.01)
    assert {one.verdict for one in found.verdicts.comparisons} == {"equal"}
    assert found.verdicts.tasks[0].best == found.verdicts.tasks[0].rows
    wide = reported(made(spread=1e-4, lrs=(0.01,)), margin=0.0)
    assert {one.verdict for one in wide.verdicts.comparisons} == {"unknown"}


def test_one_replication_says_that_it_tells_nothing():
    found = reported(made(seeds=range(1)))
    assert found.headline == ("One replication cannot show whether a difference is more than chance: run more seeds.",)
    assert {one.verdict for one in found.verdicts.comparisons} == {"unknown"}
    assert render(found, "table") and render(found, "json")


def test_a_diverged_row_is_behind_all_others():
    entries = made(lrs=(0.1,))
    entries["a"] = [
        entry(e.trial.task, "a", e.trial.hparams, e.trial.seed, [0.5], status="diverged") for e in entries["a"]
    ]
    found = reported(entries)
    assert all(task.diverged == ("a",) and task.beaten("a") for task in found.verdicts.tasks)
    assert found.headline[0] == "On noise, c leads (54 %); b (52 %) may be as good; a diverged."
    assert "a (diverged)" in render(found, "table").decode()


def test_what_images_add_is_a_mixed_models_residual():
    """Differences image by image, at random effects of the seed: balanced, so REML is the table of variances."""
    draw = np.random.default_rng(5)
    chances = np.clip(0.5 + draw.normal(0, 0.15, (2, 6, 1)), 0, 1)
    bits = (draw.random((2, 6, 80)) < chances).astype(int)
    entries = {
        name: [
            one._replace(outcomes=np.packbits(of).tobytes(), result=replace(one.result, test_size=80))
            for one, of in (
                (entry("noise", name, {}, seed, [0.5], float(of.mean())), of) for seed, of in enumerate(own)
            )
        ]
        for name, own in zip("ab", bits, strict=True)
    }
    suite = suite_of(entries)
    (found,) = replications(suite, rows([one for group in entries.values() for one in group]), suite.rows)
    gaps = (bits[0] - bits[1]).ravel()
    fitted = MixedLM(gaps, np.ones_like(gaps), np.repeat(range(6), 80)).fit(reml=True)
    assert found.differences.mean[0] == pytest.approx(fitted.fe_params[0])
    assert found.images[0, 1] == pytest.approx(fitted.scale / 80, rel=1e-3)
    assert found.differences.variance[0] == pytest.approx(fitted.cov_re[0, 0] + fitted.scale / 80, rel=1e-3)
    assert np.sqrt(found.differences.variance[0] / 6) == pytest.approx(fitted.bse_fe[0], rel=1e-3)


def test_images_alone_are_mcnemars():
    """Of 40 images a alone is right on 9 and b alone on 3: McNemar's statistic is (9 - 3)^2 / (9 + 3)."""
    right = {"a": [1] * 20 + [1] * 9 + [0] * 3 + [0] * 8, "b": [1] * 20 + [0] * 9 + [1] * 3 + [0] * 8}
    entries = {
        name: [
            entry("noise", name, {}, seed, [0.5], sum(bits) / 40)._replace(outcomes=np.packbits(bits).tobytes())
            for seed in range(2)
        ]
        for name, bits in right.items()
    }
    entries = {
        name: [one._replace(result=replace(one.result, test_size=40)) for one in group]
        for name, group in entries.items()
    }
    suite = suite_of(entries)
    table = rows([one for group in entries.values() for one in group])
    (found,) = replications(suite, table, suite.rows)
    gap = 6 / 40
    # The variance about the mean, times n - 1 and plus n mean^2, is the one about 0 that McNemar's test divides by.
    about_zero = found.images[0, 1] * 39 / 40 + gap**2 / 40
    expected = mcnemar([[20, 9], [3, 8]], exact=False, correction=False).statistic
    assert gap**2 / about_zero == pytest.approx(expected)
    assert "unknown" not in render(report(suite, table), "table").decode().split("What it would take")[1]
    without = rows([one._replace(outcomes=None) for group in entries.values() for one in group])
    assert replications(suite, without, suite.rows)[0].images is None
    assert "unknown" in render(report(suite, without), "table").decode().split("What it would take")[1]
