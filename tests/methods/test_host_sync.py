"""No update waits for its device in a step, or leaves it: of tensors without numbers on a device of their own, any look
at one from the host raises, and so does any operation with a tensor of the host's.
"""

import pytest
import torch
import toy
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError

from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS
from lmsa_bench.methods.method import as_it_is
from lmsa_bench.seeding import generator

OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("lmsa_bench.")]  # no plug-in's
TRAINING = [name for name in OURS if toy.trial(name).epochs]


DEVICE = "meta"  # CUDA's autograd wants a real one


def step(build, layers, rest=False, prepare=as_it_is, model="wrn_10_1"):
    """A step of the update that this makes, on tensors without numbers."""
    with torch.device(DEVICE):  # made there: moved there later, a parameter is another one than a layer refers to
        made = toy.source_model(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        prepare(made, generator(0, "prepare"))
        x, y = torch.zeros(8, *toy.SHAPE, device=DEVICE), torch.zeros(8, dtype=torch.int64, device=DEVICE)
        update = build(made)
        made.tune_only(layers, rest)
        return update.step(x, y, layers)


@pytest.mark.parametrize(
    ("name", "model"), [*((name, "wrn_10_1") for name in TRAINING), ("full", "small_vit"), ("full_msa", "small_vit")]
)
def test_a_step_looks_at_no_number_and_stays_on_its_device(name, model):
    method = METHODS.get(name)(**toy.hparams(name))
    found = step(method.update, (1, 2, 3), method.rest, method.prepare, model)
    assert found.shape == () and found.device.type == DEVICE


def test_a_step_that_does_is_found():
    class Clipped(Adam):
        def step(self, x, target, layers, start=0):
            loss = super().step(x, target, layers, start)
            return loss if loss.item() < 1 else loss / 2

    with pytest.raises(DataDependentOutputException):
        step(lambda model: Clipped(model, lr=1e-2), (1,))


def test_a_step_that_leaves_its_device_is_found():
    class Noisy(Adam):
        def step(self, x, target, layers, start=0):
            return super().step(x + torch.rand(x.shape), target, layers, start)

    with pytest.raises(FakeTensorDeviceMismatchError):
        step(lambda model: Noisy(model, lr=1e-2), (1,))
