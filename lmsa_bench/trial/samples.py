"""A split's samples on the device, as images or as the states x_m below the first tuned layer, computed once."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lmsa_bench.models import LayeredModel
from lmsa_bench.tasks.task import Split

EVALUATION_BATCH = 512
CACHE_BYTES = 4 << 30  # above this a split's states are computed anew in each epoch


class Samples:
    """The states x_start (K, …) and labels (K,) of a split's samples; start is 0 until ``advance``."""

    def __init__(self, split: Split, transform: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.split, self.transform, self.device = split, transform, device
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

    def whole(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in their own order, in batches to evaluate."""
        return self.batches(torch.arange(len(self)), EVALUATION_BATCH)

    @torch.no_grad()
    def advance(self, model: LayeredModel, start: int) -> None:
        """Keeps x_start of all samples, where they fit: the layers below never run again."""
        probe, _ = self.take(torch.arange(1))
        if len(self) * model.run(probe, self.start, start).nbytes > CACHE_BYTES:
            return
        self._states = torch.cat([model.run(x, self.start, start) for x, _ in self.whole()])
        self.start = start
