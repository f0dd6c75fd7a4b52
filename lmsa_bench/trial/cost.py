"""What training costs, counted and not timed: floating-point operations, and bytes of one step."""

import copy
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lmsa_bench.control.updates import Update
from lmsa_bench.models import LayeredModel
from lmsa_bench.trial import shapes


class Cost(NamedTuple):
    """One update step: FLOPs, operators, and the bytes that it keeps beside the model and its input.

    Kept are activations for backward, gradients and the update's state (Adam's moments): without the temporaries, so a
    lower bound of what the step needs.
    """

    flops: int
    kept_bytes: int
    operators: int


@cache
def _known() -> dict[Any, Any]:
    """Torch's own counts, by operator: without Triton, which it would import to count Triton's kernels: 75 MiB."""
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # it would warn that there is none
    before = sys.modules.get("triton")
    try:
        sys.modules["triton"] = before  # type: ignore[assignment]  # None: there is no such module
        from torch.utils.flop_counter import flop_registry
    finally:
        if before is None:
            del sys.modules["triton"]
    return flop_registry


class _Flops(TorchDispatchMode):
    """Adds up torch's own counts, operator by operator; FlopCounterMode refuses gradients with respect to states."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.operators = 0
        self.known, self.meta = _known(), device.type == "meta"

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's own switch: a mode that keeps the compiler out imports it first

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = shapes.run(func, args, kwargs or {}) if self.meta else func(*args, **(kwargs or {}))
        self.operators += 1
        if count := self.known.get(func._overloadpacket):
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


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Around what is only counted: the random numbers of torch are after it what they were before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def of_work(work: Callable[[], object], device: torch.device) -> int:
    """The FLOPs of this work, which changes nothing that lasts."""
    flops = _Flops(device)
    with _aside(device), flops:
        work()
    return flops.total


def of_step(
    model: LayeredModel,
    update: Callable[[LayeredModel], Update],
    x: Tensor,
    target: Tensor,
    layers: Sequence[int],
    start: int,
    rest: bool = False,
) -> Cost:
    """Counts one step on a copy of the model, which is thrown away; it also warms the kernels up before any clock."""
    model = copy.deepcopy(model)
    model.tune_only(layers, rest)
    stepper = update(model)
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept = _Kept(own | {x.untyped_storage()._cdata})
    flops = _Flops(x.device)
    with _aside(x.device), flops, torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
        stepper.step(x, target, layers, start)
    gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return Cost(flops.total, kept.peak + gradients + _nbytes(_state_of(stepper)), flops.operators)


def _state_of(stepper: Update) -> dict[str, Any]:
    """The update's state, as far as its class tells it."""
    return stepper.state_dict() if hasattr(stepper, "state_dict") else {}


def _nbytes(value: Any) -> int:
    """The bytes of all tensors in nested plain values."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0


def peak_of_step(
    model: LayeredModel,
    update: Callable[[LayeredModel], Update],
    x: Tensor,
    target: Tensor,
    layers: Sequence[int],
    start: int,
    rest: bool = False,
) -> int:
    """The bytes that the allocator hands out at the highest in a step, beside the model and its input.

    It is the second step of a copy, so that the first one has made moments and gradients, which count.
    """

    def steps() -> Iterator[None]:
        own = copy.deepcopy(model)
        own.tune_only(layers, rest)
        yield
        stepper = update(own)
        stepper.step(x, target, layers, start)
        yield
        stepper.step(x, target, layers, start)

    with _aside(x.device):
        return _peak_on_gpu(steps(), x.device) if x.device.type == "cuda" else _peak_on_cpu(steps())


def _peak_on_gpu(steps: Iterator[None], device: torch.device) -> int:
    next(steps)
    before = torch.cuda.memory_allocated(device)
    next(steps)
    torch.cuda.reset_peak_memory_stats(device)
    next(steps, None)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(steps: Iterator[None]) -> int:
    # The copy is made and dropped inside: the profiler warns of memory that it did not see allocated.
    _, first, second = (_allocated(steps) for _ in ("copy", "first", "second"))
    return sum(first) + max(itertools.accumulate(second), default=0)


def _allocated(steps: Iterator[None]) -> list[int]:
    """The bytes that each call of the allocator hands out, or takes back, until the next yield."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its library would write each start and stop to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        next(steps, None)
    assert profiler.kineto_results is not None
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
