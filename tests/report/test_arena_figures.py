"""The arena's figures: regret against cost, and which layer wins at which strength."""

from dataclasses import replace

import pytest
from layers_by_hand import ended, measured, of_all_layers, scored, tuned

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.measures import measure
from lmsa_bench.report import atlas
from lmsa_bench.report.figures import FIGURES


def criterion(name, scores, flops):
    entries = [scored("noise", seed, scores, name=name) for seed in (0, 1)]
    return [e._replace(result=replace(e.result, selection_flops=flops)) for e in entries]


def drawn(name, suite, table):
    return FIGURES[name].draw(report(replace(suite, figures=(name,)), table))


def test_regret_against_cost_joins_what_none_beats_on_both():
    layers = [tuned("noise", seed, n, 0.5 + n / 10, 1 - n / 10) for seed in (0, 1) for n in range(3)]
    criteria = {
        "cheap": criterion("rgn", [3, 2, 1], 10),  # layer 0: 20 points lost at 0.1 epochs
        "good": criterion("batch_snr", [1, 2, 3], 200),  # the best layer at 2 epochs
        "bad": criterion("auto_snr", [1, 3, 2], 300),  # 10 points lost at 3 epochs
    }
    suite, table = measured(criteria, layers)
    assert drawn("regret_cost", suite, table) is None  # without a row of all layers there is no unit
    suite, table = measured(criteria | {"full": of_all_layers()}, layers)
    (axes,) = drawn("regret_cost", suite, table).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "cheap (0.10 epochs, 20.0 points)",
        "good (2.00 epochs, 0.0 points)",
        "bad (3.00 epochs, 10.0 points)",
    ]
    (front,) = [line for line in axes.lines if line.get_zorder() == 0]
    assert list(front.get_xdata()) == pytest.approx([0.1, 2]) and list(front.get_ydata()) == pytest.approx([20, 0])


def test_the_atlas_by_hand():
    # With weak noise layer 2 is best, by 10 points a layer; with strong noise layer 0, by 5 points a layer.
    layers = [
        tuned("noise", seed, n, (0.5 + n / 10 if variant == "weak" else 0.9 - n / 20) + seed / 50, 0.5, variant)
        for variant in ("weak", "strong")
        for seed in (0, 1)
        for n in range(3)
    ]
    rivals = {"full": of_all_layers("weak", 0.6) + of_all_layers("strong", 0.7)}
    rivals["lift"] = [
        replace_method(e, "lift", accuracy) for e, accuracy in zip(rivals["full"], (0.8, 0.8, 0.2, 0.2), strict=True)
    ]
    suite, table = measured(rivals, layers)
    measures = measure(suite, table)
    found = atlas.regrets(measures, "noise")
    assert found == {"weak": pytest.approx([20, 10, 0]), "strong": pytest.approx([0, 5, 10])}
    assert atlas.best_rows(measures, "noise", ("full", "lift")) == {"weak": "lift", "strong": "full"}
    axes = drawn("atlas", suite, table).axes[0]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert sorted(columns) == ["strong\nfull", "weak\nlift"]
    starred = {
        columns[text.get_position()[0]][:4]: text.get_position()[1] for text in axes.texts if "★" in text.get_text()
    }
    assert starred == {"weak": 2, "stro": 0}


def replace_method(entry, method, accuracy):
    trial = replace(entry.trial, method=method)
    return ended(trial, (0, 1, 2), accuracy, 0.1)
