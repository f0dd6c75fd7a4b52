"""One trial from its first epoch, or its last checkpoint, to its result."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.methods import Method
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Splits, Task
from lmsa_bench.trial import checkpoint, cost
from lmsa_bench.trial.samples import EVALUATION_BATCH, Samples
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value


@torch.no_grad()
def evaluate(model: LayeredModel, samples: Samples) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy as a fraction."""
    totals = torch.zeros(2, dtype=torch.float64, device=samples.device)
    for x, y in samples.batches(torch.arange(len(samples)), EVALUATION_BATCH):
        output = model.run(x, samples.start)
        totals += torch.stack([cross_entropy(output, y).double().sum(), (output.argmax(1) == y).double().sum()])
    loss, correct = (totals / len(samples)).tolist()
    return loss, correct


@dataclass
class Best:
    """The best epoch so far by validation; its test figures are there where the trial asks for curves."""

    best_epoch: int
    val_accuracy: float
    val_loss: float
    test_accuracy: float | None
    test_loss: float | None

    @classmethod
    def of(cls, record: EpochRecord) -> "Best":
        """What is kept of an epoch's record."""
        return cls(record.epoch, record.val_accuracy, record.val_loss, record.test_accuracy, record.test_loss)


@dataclass
class State:
    """How far a run is, in plain values: with parameters and optimiser it is the checkpoint."""

    epoch: int = 0
    layers: tuple[int, ...] = ()  # that are tuned now
    scores: dict[str, list[float]] = field(default_factory=dict)
    best: Best | None = None
    seconds: float = 0.0  # of training
    flops: int = 0
    bytes: int = 0
    diverged: bool = False


_STATE = TypeAdapter(State)


class Run:
    """Trains one trial; selection and stopping see tuning and validation samples, the test split waits for the end.

    ``folder`` holds the checkpoints. ``model`` is the source model, whose parameters the run changes in place.
    """

    def __init__(
        self,
        trial: Trial,
        task: Task,
        model: LayeredModel,
        method: Method,
        splits: Splits,
        folder: Path,
        device: torch.device,
        provenance: Mapping[str, Value] | None = None,
    ) -> None:
        self.trial, self.method, self.folder, self.device = trial, method, folder, device
        self.provenance = dict(provenance or {})
        self.origin = {name: self.provenance.get(name) for name in ("data", "source")}  # a checkpoint of others is none
        self.model = model.to(device).eval()
        self.model.requires_grad_(False)
        self.train, self.val, self.test = (Samples(split, task.transform, device) for split in splits)
        self.steps = math.ceil(len(self.train) / trial.batch_size)
        self.update = method.update(self.model) if method.update else None
        self.state = State()
        # The best epoch's parameters of every layer that was ever tuned; a layer's own source values until then.
        self.best_parameters: dict[int, list[Tensor]] = {}
        self._resume()

    def epochs(self) -> Iterator[EpochRecord]:
        """The records of the epochs that are left; the checkpoint after one is written when the next is requested."""
        if self.update is None:
            self._select(0)
            loss, accuracy = evaluate(self.model, self.val)
            yield self._keep_best(self._record(0, None, 0.0, self.state.layers, loss, accuracy))
            return
        saved = time.monotonic()
        while self.state.epoch < self.trial.epochs and not self.state.diverged:
            yield self._epoch(self.state.epoch + 1)
            if time.monotonic() - saved >= checkpoint.SECONDS:
                self._save()
                saved = time.monotonic()

    def result(self) -> TrialResult:
        """The end of the trial: the test figures of the best epoch by validation, or that it diverged."""
        state, best = self.state, self.state.best
        ended = TrialResult(
            self.trial.id,
            "diverged",
            f"loss not finite in epoch {state.epoch}",
            test_size=len(self.test),
            seconds=state.seconds,
            flops=state.flops,
            bytes=state.bytes,
            scores=state.scores,
            provenance=self.provenance,
        )
        if state.diverged:
            return ended
        assert best is not None
        if best.test_accuracy is None:
            self._restore(self.best_parameters)
            best.test_loss, best.test_accuracy = evaluate(self.model, self.test)
        return replace(ended, status="finished", reason="", **asdict(best))

    def _epoch(self, epoch: int) -> EpochRecord:
        assert self.update is not None
        state, tuned, total = self.state, set[int](), torch.zeros((), dtype=torch.float64, device=self.device)
        order = torch.randperm(len(self.train), generator=generator(self.trial.seed, "order", epoch))
        losses = []
        started = self._clock()
        for i, indices in enumerate(order.split(self.trial.batch_size)):
            step = (epoch - 1) * self.steps + i
            if self.method.every.due(step, self.steps):
                self._select(step)
            if step == 0:
                started += self._count_cost(indices)
            x, y = self.train.take(indices)
            losses.append(self.update.step(x, y, state.layers, self.train.start))
            total += losses[-1].double() * len(y)
            tuned |= set(state.layers)
        train_loss = (total / len(self.train)).item()
        seconds = self._clock() - started
        val_loss, val_accuracy = evaluate(self.model, self.val)
        state.epoch, state.seconds = epoch, state.seconds + seconds
        state.diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
        record = self._record(epoch, train_loss, seconds, tuple(sorted(tuned)), val_loss, val_accuracy)
        if self.trial.curves:
            record = replace(record, step_losses=tuple(torch.stack(losses).tolist()))
        return record if state.diverged else self._keep_best(record)

    def _select(self, step: int) -> None:
        # From the source images, whatever is cached: a criterion scores every layer.
        seed = self.trial.seed
        order = torch.randperm(len(self.train), generator=generator(seed, "tuning batches", step))
        batches = self.train.batches(order, self.trial.batch_size)
        layers, scores = self.method.select(self.model, batches, step, generator(seed, "select", step))
        self.state.layers = layers
        if scores:
            self.state.scores = scores
        if self.update is not None:
            for n in layers:
                self.best_parameters.setdefault(n, self._copy(n))
            self._tune()

    def _tune(self) -> None:
        self.model.tune_only(self.state.layers)
        if self.method.every.count is None and min(self.state.layers) > 0:
            for samples in (self.train, self.val, self.test) if self.trial.curves else (self.train, self.val):
                samples.advance(self.model, min(self.state.layers))

    def _count_cost(self, indices: Tensor) -> float:
        """Counts the first step, and returns the seconds that this took, which are not the method's."""
        assert self.method.update is not None
        started = self._clock()
        x, y = self.train.take(indices)
        counted = cost.of_step(self.model, self.method.update, x, y, self.state.layers, self.train.start)
        self.state.flops, self.state.bytes = counted.flops, counted.bytes
        return self._clock() - started

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _record(
        self,
        epoch: int,
        train_loss: float | None,
        seconds: float,
        layers: tuple[int, ...],
        val_loss: float,
        val_accuracy: float,
    ) -> EpochRecord:
        test = evaluate(self.model, self.test) if self.trial.curves else (None, None)
        return EpochRecord(
            self.trial.id,
            epoch,
            train_loss,
            val_loss,
            val_accuracy,
            seconds,
            self.state.bytes,
            layers,
            time.time(),
            *test,
        )

    def _keep_best(self, record: EpochRecord) -> EpochRecord:
        best = self.state.best
        if best is None or record.stopping_key < (-best.val_accuracy, best.val_loss, best.best_epoch):
            self.state.best = Best.of(record)
            self.best_parameters = {n: self._copy(n) for n in self.best_parameters}
        return record

    def _copy(self, n: int) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters_of(n)]

    @torch.no_grad()
    def _restore(self, values: Mapping[int, list[Tensor]]) -> None:
        for n, tensors in values.items():
            for parameter, value in zip(self.model.parameters_of(n), tensors, strict=True):
                parameter.copy_(value)

    def _save(self) -> None:
        assert self.update is not None
        tensors = {
            "parameters": {n: [p.detach() for p in self.model.parameters_of(n)] for n in self.best_parameters},
            "best_parameters": self.best_parameters,
            "optimizer": self.update.optimizer.state_dict(),
            "origin": self.origin,
        }
        checkpoint.save(self.folder, asdict(self.state) | tensors)

    def _resume(self) -> None:
        saved = checkpoint.load(self.folder, self.device)
        if saved is None or self.update is None:
            return
        with checkpoint.fitting(self.folder):
            if saved.pop("origin") != self.origin:
                return
            self.update.optimizer.load_state_dict(saved.pop("optimizer"))
            parameters, self.best_parameters = saved.pop("parameters"), saved.pop("best_parameters")
            self.state = _STATE.validate_python({field.name: saved.pop(field.name) for field in fields(State)})
            self._tune()
            self._restore(parameters)
