"""No update waits for its device in a step: of tensors without numbers, any look at one from the host raises."""

import pytest
import torch
import toy
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException

from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS

OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("lmsa_bench.")]  # no plug-in's
TRAINING = [name for name in OURS if toy.trial(name).epochs]


def step(build, layers, rest=False):
    """A step of the update that this makes, on tensors without numbers."""
    with FakeTensorMode():
        model = toy.source_model()
        x, y = torch.zeros(8, *toy.SHAPE), torch.zeros(8, dtype=torch.int64)
        update = build(model)
        model.tune_only(layers, rest)
        return update.step(x, y, layers)


@pytest.mark.parametrize("name", TRAINING)
def test_a_step_looks_at_no_number(name):
    method = METHODS.get(name)(**toy.hparams(name))
    assert step(method.update, (1, 2), method.rest).shape == ()


def test_a_step_that_does_is_found():
    class Clipped(Adam):
        def step(self, x, target, layers, start=0):
            loss = super().step(x, target, layers, start)
            return loss if loss.item() < 1 else loss / 2

    with pytest.raises(DataDependentOutputException):
        step(lambda model: Clipped(model, lr=1e-2), (1,))
