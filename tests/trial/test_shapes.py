"""What is remembered of an operator on tensors without numbers, against the operator itself."""

import pytest
import torch
import toy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lmsa_bench.methods import METHODS
from lmsa_bench.trial import shapes


class Compared(TorchDispatchMode):
    """Runs each operator both ways."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def layout(value):
            if not isinstance(value, Tensor):
                return type(value)
            storage = value.untyped_storage()
            shared = [g is value or g.untyped_storage()._cdata == storage._cdata for g in given]
            return value.device, value.dtype, value.shape, value.stride(), storage.nbytes(), shared

        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        out, expected = shapes.run(func, args, kwargs or {}), func(*args, **(kwargs or {}))
        assert tree_map(layout, out) == tree_map(layout, expected), func
        return out


@pytest.mark.parametrize(("model", "name"), [("wrn_10_1", "full_msa"), ("small_vit", "full")])
def test_operators_return_what_they_did_at_first(model, name, monkeypatch):
    monkeypatch.setattr(shapes, "_KNOWN", {})
    with torch.device("meta"):
        made = toy.source_model(model)
    update = METHODS.get(name)(**toy.hparams(name)).update(made)
    made.tune_only((0, 3))
    x, y = torch.zeros(8, *toy.SHAPE, device="meta"), torch.zeros(8, dtype=torch.int64, device="meta")
    with Compared():
        update.step(x, y, (0, 3))
    answered = sum(answer is not None for answer in shapes._KNOWN.values())
    assert answered > 30


def test_values_that_are_equal_and_of_other_types_are_kept_apart():
    x = torch.zeros(3, dtype=torch.int64, device="meta")
    types = [shapes.run(torch.ops.aten.add.Tensor, (x, one), {}).dtype for one in (1, 1.0, True) * 2]
    assert types == [torch.int64, torch.float32, torch.int64] * 2


def test_what_has_numbers_runs_each_time():
    count = torch.zeros(())
    for _ in range(3):
        shapes.run(torch.ops.aten.add_.Tensor, (count, 1), {})
    assert count == 3
