"""A trial's selections: from the source model made once for all trials of a node that make the same one."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch

from lmsa_bench.control.criteria import Batch
from lmsa_bench.control.selectors import Selection
from lmsa_bench.methods import Method
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.trial.clock import Clock
from lmsa_bench.trial.code import code_of_functions
from lmsa_bench.trial.made_of import made_of
from lmsa_bench.trial.meter import Meter
from lmsa_bench.trial.samples import Samples
from lmsa_bench.trial.spec import Trial


class Selected(NamedTuple):
    """A selection, and what it costs whoever makes it; no FLOPs where it looks at no tuning batch."""

    layers: tuple[int, ...]
    scores: dict[str, list[float]]
    seconds: float
    flops: int


class Selecting:
    """Selects layers for one trial by tuning batches alone."""

    def __init__(self, trial: Trial, method: Method, model: LayeredModel, train: Samples, meter: Meter) -> None:
        self.trial, self.method, self.model, self.train, self.meter = trial, method, model, train, meter

    def at(self, step: int) -> Selected:
        """The selection before this step; at step 0, of the source model, another trial's if it is the same."""
        shared = self.train.shared
        made = made_of(self.method.select) if shared is not None and step == 0 else None
        if shared is None or made is None:
            return self._made(step)
        code = code_of_functions(made.functions)
        key: list[str | int] = [
            "selection",
            made.text,
            code,
            self.trial.batch_size,
            shared.split,
            shared.weights(self.model),
        ]
        if (found := shared.recall(key)) is not None:
            return Selected(tuple(found["layers"]), found["scores"], found["seconds"], found["flops"])
        selected = self._made(step)
        if selected.flops:
            shared.remember(key, selected._asdict())
        return selected

    def _made(self, step: int) -> Selected:
        # From the source images, whatever is cached: a criterion scores every layer.
        seed, looked = self.trial.seed, list[bool]()
        order = torch.randperm(len(self.train), generator=generator(seed, "tuning batches", step))

        def batches() -> Iterator[Batch]:
            looked.append(True)
            yield from self.train.batches(order, self.trial.batch_size)

        def select(model: LayeredModel) -> Selection:
            return self.method.select(model, batches(), step, generator(seed, "select", step))

        clock = Clock(self.train.device)
        clock.start()
        layers, scores = select(self.model)
        seconds = clock.seconds()
        flops = self.meter.selection(self.train, lambda: select(copy.deepcopy(self.model))) if looked else 0
        return Selected(layers, scores, seconds, flops)
