"""A trial's selections: from the source model made once for all trials of a node that make the same one."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch

from lmsa_bench.control.evidence import TUNING, Evidence
from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.updates import Update
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
    """A selection, what it looked at, and what it costs whoever makes it; no FLOPs where it looks at nothing."""

    selection: Selection
    seconds: float
    flops: int
    saw: tuple[str, ...] = ()  # names of Evidence


class Selecting:
    """Selects layers for one trial by tuning batches, and by what else of Evidence a selector asks for."""

    def __init__(
        self,
        trial: Trial,
        method: Method,
        model: LayeredModel,
        train: Samples,
        val: Samples,
        source_accuracy: float | None,
        meter: Meter,
    ) -> None:
        self.trial, self.method, self.model, self.meter = trial, method, model, meter
        self.train, self.val, self.source_accuracy = train, val, source_accuracy

    def at(self, step: int, update: Update | None, before: Mapping[str, list[float]]) -> Selected:
        """The selection before this step; at step 0, of the source model, another trial's if it is the same."""
        shared = self.train.shared
        made = made_of((self.method.select, self.method.prepare)) if shared is not None and step == 0 else None
        if shared is None or made is None:
            return self._made(step, update, before)
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
            selection = Selection(tuple(found["layers"]), found["scores"], tuple(found["rates"]))
            return Selected(selection, found["seconds"], found["flops"], (TUNING,))
        selected = self._made(step, update, before)
        if selected.saw == (TUNING,):
            cost = {"seconds": selected.seconds, "flops": selected.flops}
            shared.remember(key, selected.selection._asdict() | cost)
        return selected

    def _made(self, step: int, update: Update | None, before: Mapping[str, list[float]]) -> Selected:
        # From the source images, whatever is cached: a criterion scores every layer.
        seed = self.trial.seed
        order = torch.randperm(len(self.train), generator=generator(seed, "tuning batches", step))
        tuning = partial(self.train.batches, order, self.trial.batch_size)
        evidence = Evidence(tuning, self.val.in_order, self.source_accuracy, update, before)

        def select(model: LayeredModel) -> Selection:
            return self.method.select(model, evidence, step, generator(seed, "select", step))

        clock = Clock(self.train.device)
        clock.start()
        selection = select(self.model)
        seconds, flops = clock.seconds(), 0
        if evidence.saw:
            fixed = evidence.saw == {TUNING}  # else what it sees may decide how much it does
            flops = self.meter.selection(self.train, lambda: select(copy.deepcopy(self.model)), fixed)
        return Selected(selection, seconds, flops, tuple(sorted(evidence.saw)))
