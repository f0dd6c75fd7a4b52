"""What tuning loses on the source's own images."""

from dataclasses import replace

import pytest
import toy
from hand_made import entry, suite_of

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.forgetting import kept
from lmsa_bench.methods import METHODS
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows
from lmsa_bench.trial.judging import evaluate
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.samples import Samples


@pytest.mark.parametrize("curves", [False, True])
def test_a_trial_is_judged_with_its_best_epochs_parameters(curves, tmp_path):
    asked, parts, task = toy.trial("full", epochs=3, curves=curves, lr=0.05), toy.splits(tmp_path, "", 0), toy.task()
    method = METHODS.get("full")(**asked.hparams)
    run = Run(asked, task, toy.source_model(), method, parts, tmp_path, toy.CPU, held_out=parts.val)
    list(run.epochs())
    result = run.result()
    # The held-out images here are the validation images, on which the best epoch's accuracy is known.
    assert result.source_accuracy == result.val_accuracy
    assert result.source_accuracy == evaluate(run.model, Samples(parts.val, task.source.transform, toy.CPU)).accuracy
    (tmp_path / "plain").mkdir()
    without = toy.run(asked, tmp_path / "plain", parts=parts)
    list(without.epochs())
    assert without.result().source_accuracy is None
    bare = {"source_accuracy": None, "seconds": 0, "provenance": {}}
    assert replace(result, **bare) == replace(without.result(), **bare)  # nothing else


def test_the_chosen_trials_tell_what_is_left():
    made = [
        entry("t", "m", {"lr": lr}, seed, [val], 0.5, facts={"source_accuracy": 0.9})
        for lr, val in ((0.1, 0.8), (0.01, 0.6))
        for seed in (0, 1)
    ]
    values = [0.4, 0.2, 0.7, 0.7]  # of the chosen rate .4 and .2
    told = [one._replace(result=replace(one.result, source_accuracy=v)) for one, v in zip(made, values, strict=True)]
    suite = suite_of({"m": made})
    (found,) = kept(suite, rows(told)).values()
    assert found == (pytest.approx(0.9), pytest.approx(0.3))
    text = render(report(suite, rows(told)), "table").decode()
    assert "before tuning  90.0" in text and "m              30.0" in text
    assert kept(suite, rows(made)) == {} and "held-out" not in render(report(suite, rows(made)), "table").decode()
