"""What a trial's work costs, each distinct piece of it counted once on a node."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from lmsa_bench.control.updates import Update
from lmsa_bench.methods import Method
from lmsa_bench.models import LayeredModel
from lmsa_bench.tasks.task import Task
from lmsa_bench.trial import cost
from lmsa_bench.trial.samples import Samples
from lmsa_bench.trial.shared import Shared
from lmsa_bench.trial.spec import Trial, Value


class Spent(NamedTuple):
    """Of an update step: FLOPs, the bytes that it keeps, and the allocator's peak (0: of less than a full batch)."""

    flops: int
    kept_bytes: int
    peak_bytes: int


_COUNTED: dict[Hashable, Spent] = {}  # of this process


class Meter:
    """Counts the work of one trial on its model, on copies and outside any clock."""

    def __init__(
        self,
        trial: Trial,
        task: Task,
        method: Method,
        model: LayeredModel,
        update: Update | None,
        device: torch.device,
        shared: Shared | None = None,
    ) -> None:
        self.method, self.model, self.device = method, model, device
        # On a GPU each process counts, which also warms its kernels up before any clock.
        self.shared = shared if device.type == "cpu" else None
        self.full_batch = trial.batch_size
        self._alike = (
            (task.model, task.classes, task.input_shape, str(device), trial.batch_size, trial.arithmetic),
            (trial.method, type(update), method.rest),
            tuple(sorted((name, as_it_counts(value)) for name, value in trial.hparams.items())),
        )

    def step(self, samples: Samples, indices: Tensor, layers: tuple[int, ...]) -> Spent:
        """One update step of these layers on the samples of these indices (K,)."""
        assert self.method.update is not None
        build, full = self.method.update, len(indices) == min(self.full_batch, len(samples))
        x, y = samples.take(indices)

        def count() -> Spent:
            asked = (self.model, build, x, y, layers, samples.start, self.method.rest)
            found = cost.of_step(*asked)
            return Spent(found.flops, found.kept_bytes, cost.peak_of_step(*asked) if full else 0)

        return self._once(("step", x.shape, layers, samples.start, full), count)

    def one_pass(self, samples: Samples, stop: int | None = None) -> int:
        """The FLOPs of all samples through the layers up to ``stop``: those of one, since layers map one by one."""
        x, _ = samples.take(torch.arange(1))

        def run() -> None:
            with torch.no_grad():
                self.model.run(x, samples.start, stop)

        return len(samples) * self._flops(("pass", x.shape, samples.start, stop), run)

    def selection(self, samples: Samples, select: Callable[[], object], fixed: bool) -> int:
        """The FLOPs of a selection that looks at these samples; counted each time unless they are ``fixed``."""
        return self._flops(("selection", len(samples)), select) if fixed else cost.of_work(select, self.device)

    def _flops(self, what: tuple[Hashable, ...], work: Callable[[], object]) -> int:
        return self._once(what, lambda: Spent(cost.of_work(work, self.device), 0, 0)).flops

    def _once(self, what: tuple[Hashable, ...], count: Callable[[], Spent]) -> Spent:
        key = (*self._alike, what)
        if key not in _COUNTED:
            _COUNTED[key] = count() if self.shared is None else self._shared(self.shared, ["counted", repr(key)], count)
        return _COUNTED[key]

    @staticmethod
    def _shared(shared: Shared, key: list[str], count: Callable[[], Spent]) -> Spent:
        key = [*key, shared.code]
        if (found := shared.recall(key)) is not None:
            return Spent(**found)
        shared.remember(key, (counted := count())._asdict())
        return counted


def as_it_counts(value: Value) -> Value:
    """A hyper-parameter as far as it decides what is computed: a float only by whether it is zero."""
    return bool(value) if isinstance(value, float) else value
