"""The estimate of a plan, without a source model."""

import pytest
import toy

from lmsa_bench.sweep import plan
from lmsa_bench.trial.shared import BUDGET
from lmsa_bench.trial.spec import Trial


@pytest.mark.parametrize("task", ["digits_flip", "digits_masked"])  # a convolutional network, and a transformer
def test_a_step_of_every_small_network_is_counted(task, data, monkeypatch):
    monkeypatch.setenv(BUDGET, "0")
    trial = Trial(task, "", "full", toy.hparams("full"), 0, 3)
    seconds, kept = plan.estimate([trial], {}, data, gpu=False)
    assert seconds > 0 and kept > 3 * 4 * 10_000  # gradients and moments of at least 10,000 parameters
    assert plan.estimate([trial, trial.with_seed(1)], {}, data, gpu=False) == (pytest.approx(2 * seconds), kept)
