"""The training clock, which stands still while something is evaluated or counted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds since ``start`` without those while it was stopped; waits for a GPU whenever it is read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._started = 0.0

    def start(self) -> None:
        """Starts from zero."""
        self._started = self._now()

    def seconds(self) -> float:
        """The time so far."""
        return self._now() - self._started

    def add(self, seconds: float) -> None:
        """Counts what was done at another time."""
        self._started -= seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What the block takes does not count; not to be nested."""
        stopped = self._now()
        try:
            yield
        finally:
            self._started += self._now() - stopped

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
