"""What an update costs, counted and not timed: floating-point operations and bytes of one step."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lmsa_bench.control.updates import Update
from lmsa_bench.models import LayeredModel


class Cost(NamedTuple):
    """FLOPs and operators of one update step, and its bytes beside the model: activations kept, gradients, moments."""

    flops: int
    bytes: int
    operators: int


class _Flops(TorchDispatchMode):
    """Adds up torch's own counts, operator by operator; FlopCounterMode refuses gradients with respect to states."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators += 1
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


class _Held:
    """A tensor that a graph keeps, until the graph lets go of it."""

    def __init__(self, kept: "_Kept", tensor: Tensor) -> None:
        self.kept, self.tensor = kept, tensor
        self.key = tensor.untyped_storage()._cdata
        kept.change(self.key, 1, tensor.untyped_storage().nbytes())

    def __del__(self) -> None:
        self.kept.change(self.key, -1, self.tensor.untyped_storage().nbytes())


class _Kept:
    """The bytes that graphs keep for their backward, each storage once, at the highest."""

    def __init__(self, ignored: set[int]) -> None:
        self.ignored, self.holders = ignored, dict[int, int]()
        self.bytes = self.peak = 0

    def pack(self, tensor: Tensor) -> _Held:
        return _Held(self, tensor)

    def change(self, key: int, by: int, size: int) -> None:
        before = self.holders.get(key, 0)
        self.holders[key] = before + by
        if key not in self.ignored and 0 in (before, before + by):
            self.bytes += by * size
            self.peak = max(self.peak, self.bytes)


def of_step(
    model: LayeredModel,
    update: Callable[[LayeredModel], Update],
    x: Tensor,
    target: Tensor,
    layers: Sequence[int],
    start: int,
) -> Cost:
    """Counts one step on a copy of the model, which is thrown away; it also warms the kernels up before any clock."""
    model = copy.deepcopy(model)
    model.tune_only(layers)
    stepper = update(model)
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept = _Kept(own | {x.untyped_storage()._cdata})
    flops = _Flops()
    with flops, torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
        stepper.step(x, target, layers, start)
    gradients = sum(p.nbytes for n in layers for p in model.parameters_of(n))
    moments = sum(v.nbytes for state in stepper.optimizer.state.values() for v in state.values())
    return Cost(flops.total, kept.peak + gradients + moments, flops.operators)
