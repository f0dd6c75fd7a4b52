"""The training of a source model, an epoch at a time on disk."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.models import LayeredModel
from lmsa_bench.models.layered import head_of
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Stage
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.samples import EVALUATION_BATCH, Samples

BATCH = 64
Take = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices (K,) to inputs and labels


class Training:
    """Adam at a cosine-annealed rate, no augmentation; the last epoch's model.

    The folder has a checkpoint after each epoch, so that a kill costs no more, and ``alive`` is called. The order of
    batches is drawn from the seed and the name of the data.
    """

    def __init__(
        self,
        folder: Path,
        alive: Callable[[], None],
        model: LayeredModel,
        samples: Samples,
        seed: int = 0,
        name: str = "",
    ) -> None:
        self.folder, self.alive, self.model, self.samples = folder, alive, model, samples
        self.seed, self.name = seed, name
        self.saved = time.monotonic()

    def run(self, stages: Sequence[Stage]) -> None:
        """Trains a model that has its first weights, or resumes from the folder's checkpoint; raises UserError."""
        left = checkpoint.load(self.folder, self.samples.device)
        first = 0
        with checkpoint.fitting(self.folder):
            if left is not None:
                first = int(left["stage"])
                self.model.source.load_state_dict(left["model"])
        for number in range(first, len(stages)):
            resumed = left if number == first else None
            if stages[number].tune == "all":
                self._adam(self.model.train(), self.samples.take, number, stages[number], resumed)  # batch statistics
                self.model.eval()
            else:
                self._probe(number, stages[number], resumed)

    def _probe(self, number: int, stage: Stage, left: dict[str, Any] | None) -> None:
        """The same on the classifier alone, whose inputs are computed once."""
        head = self.model.source.get_submodule(head_of(self.model.source))
        features = self._features(head)

        def take(indices: Tensor) -> tuple[Tensor, Tensor]:
            where = indices.to(features.device)
            return features[where], self.samples.labels[where]

        self._adam(head, take, number, stage, left)

    @torch.no_grad()
    def _features(self, head: nn.Module) -> Tensor:
        """What the classifier takes, for each sample (n, D)."""
        found: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        try:
            for x, _ in self.samples.batches(torch.arange(len(self.samples)), EVALUATION_BATCH):
                self.model(x)
        finally:
            hook.remove()
        return torch.cat(found)

    def _adam(self, net: nn.Module, take: Take, number: int, stage: Stage, left: dict[str, Any] | None) -> None:
        count = len(self.samples)
        optimizer = torch.optim.Adam(net.parameters(), lr=stage.lr)
        schedule = OneCycleLR(optimizer, max_lr=stage.lr, total_steps=-(-count // BATCH) * stage.epochs)
        done = 0
        if left is not None:
            with checkpoint.fitting(self.folder):
                optimizer.load_state_dict(left["optimizer"])
                schedule.load_state_dict(left["schedule"])
                done = int(left["epoch"])
        for epoch in range(done, stage.epochs):
            order = torch.randperm(count, generator=generator(self.seed, "source", self.name, epoch))
            for indices in order[: count - (count % BATCH == 1)].split(BATCH):  # batch statistics of one do not exist
                x, y = take(indices)
                optimizer.zero_grad()
                cross_entropy(net(x), y).mean().backward()
                optimizer.step()
                schedule.step()
            if time.monotonic() - self.saved >= checkpoint.SECONDS:
                self._save(number, epoch + 1, optimizer, schedule)
            self.alive()

    def _save(self, number: int, epoch: int, optimizer: torch.optim.Adam, schedule: OneCycleLR) -> None:
        self.folder.mkdir(exist_ok=True)
        state = {"stage": number, "epoch": epoch, "model": self.model.source.state_dict()}
        state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        checkpoint.save(self.folder, state)
        self.saved = time.monotonic()
