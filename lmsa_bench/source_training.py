"""The training of a source model, an epoch at a time on disk."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.models import LayeredModel, weights
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Stage
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.state_cache import EVALUATION_BATCH, Samples

BATCH = 64
Take = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices (K,) to inputs and labels


class Training:
    """Adam at a cosine-annealed rate, no augmentation; the last epoch's model.

    The folder has a checkpoint after each epoch, so that a kill costs no more, and ``alive`` is called.
    """

    def __init__(self, folder: Path, alive: Callable[[], None]) -> None:
        self.folder, self.alive = folder, alive

    def run(self, model: LayeredModel, samples: Samples, stages: Sequence[Stage], seed: int, name: str) -> None:
        """Trains a model that has its first weights, from where a killed process left it; raises UserError."""
        self.model, self.seed, self.name = model, seed, name
        self.saved, first = time.monotonic(), 0
        self.left: dict[str, Any] | None = checkpoint.load(self.folder, samples.device)
        with checkpoint.fitting(self.folder):
            if self.left is not None:
                first = int(self.left["stage"])
                model.source.load_state_dict(self.left["model"])
        for number in range(first, len(stages)):
            self.number, self.stage = number, stages[number]
            if self.stage.tune == "all":
                self._adam(model.train(), samples.take, len(samples))  # batch statistics in the norms
                model.eval()
            else:
                self._probe(samples)

    def _probe(self, samples: Samples) -> None:
        """The same on the classifier alone, whose inputs are computed once."""
        head = self.model.source.get_submodule(weights.head_of(self.model.source))
        features = self._features(head, samples)

        def take(indices: Tensor) -> tuple[Tensor, Tensor]:
            where = indices.to(features.device)
            return features[where], samples.labels[where]

        self._adam(head, take, len(samples))

    @torch.no_grad()
    def _features(self, head: nn.Module, samples: Samples) -> Tensor:
        """What the classifier takes, for each sample (n, D)."""
        found: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        try:
            for x, _ in samples.batches(torch.arange(len(samples)), EVALUATION_BATCH):
                self.model(x)
        finally:
            hook.remove()
        return torch.cat(found)

    def _adam(self, net: nn.Module, take: Take, count: int) -> None:
        self.optimizer = torch.optim.Adam(net.parameters(), lr=self.stage.lr)
        steps = -(-count // BATCH) * self.stage.epochs
        self.schedule = OneCycleLR(self.optimizer, max_lr=self.stage.lr, total_steps=steps)
        for epoch in range(self._epochs_done(), self.stage.epochs):
            order = torch.randperm(count, generator=generator(self.seed, "source", self.name, epoch))
            for indices in order[: count - (count % BATCH == 1)].split(BATCH):  # batch statistics of one do not exist
                x, y = take(indices)
                self.optimizer.zero_grad()
                cross_entropy(net(x), y).mean().backward()
                self.optimizer.step()
                self.schedule.step()
            if time.monotonic() - self.saved >= checkpoint.SECONDS:
                self._save(epoch + 1)
            self.alive()

    def _epochs_done(self) -> int:
        left, self.left = self.left, None
        with checkpoint.fitting(self.folder):
            if left is None:
                return 0
            self.optimizer.load_state_dict(left["optimizer"])
            self.schedule.load_state_dict(left["schedule"])
            return int(left["epoch"])

    def _save(self, epoch: int) -> None:
        self.folder.mkdir(exist_ok=True)
        states = {name: getattr(self, name).state_dict() for name in ("optimizer", "schedule")}
        model = self.model.source.state_dict()
        checkpoint.save(self.folder, {"stage": self.number, "epoch": epoch, "model": model, **states})
        self.saved = time.monotonic()
