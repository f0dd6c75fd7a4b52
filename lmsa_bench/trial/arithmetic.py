"""How a device computes where a suite asks for more speed than float32 as it is gives; part of a trial's identity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar, cast

import torch

from lmsa_bench.models import LayeredModel

# Not torch.compile, which has no second derivatives: MSA's penalty of the co-state could not be computed.
Choice = Literal["bf16", "channels_last", "tf32"]


Work = TypeVar("Work", bound=Callable[..., Any])


def lay_out(model: LayeredModel, arithmetic: str) -> None:
    """Lays out a model's parameters, and with them its states, as asked."""
    if "channels_last" in arithmetic.split("+"):
        model.to(memory_format=torch.channels_last)


@contextmanager
def computing(arithmetic: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, and TF32 in matrix products, as asked; torch is after it as it was before."""
    chosen, before = arithmetic.split("+"), torch.backends.cuda.matmul.allow_tf32
    # Casts are not kept: a parameter's would be that of before the last step.
    autocast = torch.autocast(device.type, torch.bfloat16, "bf16" in chosen, cache_enabled=False)
    try:
        torch.backends.cuda.matmul.allow_tf32 = "tf32" in chosen
        with autocast:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def as_asked(work: Work) -> Work:
    """The same method, of whoever has a ``trial`` and a ``device``, computing as the trial asks."""

    @wraps(work)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        with computing(self.trial.arithmetic, self.device):
            return work(self, *args, **kwargs)

    return cast(Work, wrapped)
