"""A split's samples on the device, as images or as the states x_m below the first tuned layer, computed once."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lmsa_bench.models import LayeredModel
from lmsa_bench.tasks.task import Split
from lmsa_bench.trial.clock import Clock
from lmsa_bench.trial.shared import Shared, States

EVALUATION_BATCH = 512
CACHE_BYTES = 4 << 30  # above this a split's states are computed anew in each epoch
SHARED_TYPES = (torch.float32, torch.float64)


class Samples:
    """The states x_start (K, …) and labels (K,) of a split's samples; start is 0 until ``advance``.

    States of the part of that name are taken from what the node's trials share, and left there.
    """

    def __init__(
        self,
        split: Split,
        transform: Callable[[Tensor], Tensor],
        device: torch.device,
        part: str = "",
        shared: Shared | None = None,
    ) -> None:
        self.split, self.transform, self.device, self.part, self.shared = split, transform, device, part, shared
        self.labels = split.labels.to(device)
        self.start = 0
        self._states: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of these indices (K,), which are on the host."""
        where = indices.to(self.device, non_blocking=True)
        if self._states is not None:
            return self._states[where], self.labels[where]
        images = self.split.images[indices]
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        return self.transform(images), self.labels[where]

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The samples in this order, ``size`` at a time, the last batch as it falls."""
        return map(self.take, order.split(size))

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples as they lie, in batches for evaluation; states without a copy."""
        if self._states is not None:
            return zip(self._states.split(EVALUATION_BATCH), self.labels.split(EVALUATION_BATCH), strict=True)
        return self.batches(torch.arange(len(self)), EVALUATION_BATCH)

    @torch.no_grad()
    def advance(self, model: LayeredModel, start: int, *, only_shared: bool = False) -> float:
        """Keeps x_start of all samples, where they fit: the layers below never run again.

        Returns the seconds that computing them takes, or took another trial. With ``only_shared`` they are kept where
        other trials can have them too, or not at all.
        """
        probe, _ = self.take(torch.arange(min(2, len(self))))
        few = model.run(probe, self.start, start).cpu()
        if start == self.start or len(self) * few[0].nbytes > CACHE_BYTES:
            return 0.0
        if self.shared is not None and self.start == 0 and few.is_contiguous() and few.dtype in SHARED_TYPES:
            found = self._from_shared(self.shared, model, start, few)
            if found is not None:
                self._states, self.start = found.x.to(self.device), start
                return found.seconds
        if only_shared:
            return 0.0
        clock = Clock(self.device)
        clock.start()
        self._states, self.start = torch.cat([model.run(x, self.start, start) for x, _ in self.in_order()]), start
        return clock.seconds()

    def _from_shared(self, shared: Shared, model: LayeredModel, start: int, few: Tensor) -> States | None:
        """The states x_start that the node's trials share, computed and left there where they are missing."""
        paths = [shared.path(self.part, model, n) for n in range(1, start + 1)]
        found = shared.read(paths[-1], len(self))
        if found is not None:
            return found
        clock, spent, below, batches = Clock(self.device), 0.0, 0, (x for x, _ in self.in_order())
        for n in range(start - 1, 0, -1):  # from the nearest layer below that is there
            if (lower := shared.read(paths[n - 1], len(self))) is not None:
                spent, below, batches = lower.seconds, n, (x.to(self.device) for x in lower.x.split(EVALUATION_BATCH))
                break

        def computed() -> Iterator[Tensor]:
            for x in batches:
                states = model.run(x, below, start)
                with clock.stopped():
                    yield states.cpu()

        clock.start()
        shared.write(paths[-1], len(self), few, computed(), lambda: spent + clock.seconds())
        return shared.read(paths[-1], len(self))
