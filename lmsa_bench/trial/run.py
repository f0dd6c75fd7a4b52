"""One trial from its first epoch, or its last checkpoint, to its result."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from lmsa_bench.control.updates import Informed, unsaved
from lmsa_bench.methods import Method
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Split, Splits, Task
from lmsa_bench.trial import checkpoint, outcomes
from lmsa_bench.trial.arithmetic import as_asked, lay_out
from lmsa_bench.trial.clock import Clock
from lmsa_bench.trial.judging import evaluate
from lmsa_bench.trial.meter import Meter, Spent
from lmsa_bench.trial.outcomes import Outcomes
from lmsa_bench.trial.samples import Samples
from lmsa_bench.trial.selecting import Selecting
from lmsa_bench.trial.shared import Shared
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value
from lmsa_bench.trial.state import Best, State, origin, other_origin

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
        shared: Shared | None = None,
        held_out: Split | None = None,
    ) -> None:
        self.trial, self.method, self.folder, self.device = trial, method, folder, device
        self.provenance = dict(provenance or {})
        self.origin = origin(trial, device, self.provenance)
        self.model = model.to(device).eval()
        method.prepare(self.model, generator(trial.seed, "prepare"))
        lay_out(self.model, trial.arithmetic)
        self.model.requires_grad_(False)
        self.train, self.val, self.test = (
            Samples(split, task.transform, device, part, shared)
            for part, split in zip(splits._fields, splits, strict=True)
        )
        self.steps = math.ceil(len(self.train) / trial.batch_size)
        self.update = method.update(self.model) if method.update else None
        self.cannot_resume = unsaved(type(self.update)) if self.update is not None else None
        self.parameters = dict(self.model.named_parameters())
        self.source = {name: p.detach().clone() for name, p in self.parameters.items()} if method.finish else {}
        self.clock, self.state = Clock(device), State()
        self.meter = Meter(trial, task, method, self.model, self.update, device, shared)
        known = self.provenance.get("source_accuracy")
        accuracy = known if isinstance(known, float) else None
        self.selecting = Selecting(trial, method, self.model, self.train, self.val, accuracy, self.meter)
        self.costs: dict[tuple[tuple[int, ...], int], Spent] = {}  # of a step, by its layers and batch size
        # The best epoch's values of all parameters that were ever tuned; a parameter's source values until then.
        self.best_parameters: dict[str, Tensor] = {}
        self.held_out = None if held_out is None else Samples(held_out, task.source.transform, device)
        self._tested: Outcomes | None = None  # when the test was looked at last
        self._ended: TrialResult | None = None
        self._resume()

    def epochs(self) -> Iterator[EpochRecord]:
        """The records of the epochs that are left; the checkpoint after one is written when the next is requested."""
        if self.update is None:
            self._select(0)
            self._advance(self.val, len(self.model), only_shared=True)
            loss, accuracy = self._evaluate(self.val)
            yield self._keep_best(self._record(0, None, 0.0, self.state.layers, loss, accuracy))
            return
        saved = time.monotonic()
        while self.state.epoch < self.trial.epochs and not self.state.diverged:
            yield self._epoch(self.state.epoch + 1)
            if time.monotonic() - saved >= checkpoint.SECONDS:
                self.save()
                saved = time.monotonic()
        if self.method.finish is not None and self.state.epoch == self.trial.epochs and not self.state.diverged:
            yield self._finish(self.method.finish(self.source, dict(self.best_parameters)))

    def result(self) -> TrialResult:
        """The end of the trial: the test figures of the best epoch by validation, or that it diverged."""
        if self._ended is None:
            self._ended = self._end()
        return self._ended

    @property
    def outcomes(self) -> Outcomes | None:
        """Which test images a trial that has finished got right; None where it has not."""
        return None if self.state.diverged or self.state.best is None else self.state.best.outcomes

    def was_interrupted(self) -> None:
        """Remarks that this trial, of which there are records, starts anew where its update cannot be resumed."""
        if self.cannot_resume:
            self._remark(f"cannot resume: {self.cannot_resume}")

    def save(self) -> None:
        """Writes a checkpoint, unless the update cannot be resumed."""
        assert self.update is not None
        if self.cannot_resume:
            return
        tensors = {
            "parameters": {name: self.parameters[name].detach() for name in self.best_parameters},
            "best_parameters": self.best_parameters,
            "update": self.update.state_dict(),
            "origin": self.origin,
        }
        checkpoint.save(self.folder, asdict(self.state) | tensors)

    @as_asked
    def _end(self) -> TrialResult:
        state, best, loss = self.state, self.state.best, None
        if state.diverged:
            return state.ended(self.trial.id, len(self.test), self.provenance)
        assert best is not None
        if self.update is not None:
            if missed := self.method.every.missed(state.epoch, self.steps):
                self._remark(missed)
            loss = self._evaluate(self.train)[0]
        if best.test_accuracy is None:
            self._restore(self.best_parameters)
            if self.val.start > self.test.start:
                self._advance(self.test, self.val.start, only_shared=True)
            best.test_loss, best.test_accuracy = self._evaluate(self.test)
            best.outcomes = self._tested
        ended = state.ended(self.trial.id, len(self.test), self.provenance)
        if self.held_out is not None:  # outside all that is counted
            self._restore(self.best_parameters)
            ended = replace(ended, source_accuracy=evaluate(self.model, self.held_out).accuracy)
        known = loss if loss is not None and math.isfinite(loss) else None
        return replace(ended, status="finished", reason="", final_train_loss=known, **best.figures())

    @as_asked
    def _epoch(self, epoch: int) -> EpochRecord:
        assert self.update is not None
        state, tuned, total = self.state, set[int](), torch.zeros((), dtype=torch.float64, device=self.train.device)
        order = torch.randperm(len(self.train), generator=generator(self.trial.seed, "order", epoch))
        losses, costs, accuracies = [], list[Spent](), dict[int, float]()
        self.clock.start()
        for step, indices in enumerate(order.split(self.trial.batch_size), (epoch - 1) * self.steps):
            if self.method.every.due(step, self.steps):
                self._select(step)
            costs.append(self._cost(indices))
            x, y = self.train.take(indices)
            losses.append(self.update.step(x, y, state.layers, self.train.start))
            total += losses[-1].double() * len(y)
            tuned |= set(state.layers)
            done = step + 1
            if self.trial.curves and done & step == 0 and done < epoch * self.steps:  # a power of two
                with self.clock.stopped():
                    accuracies[done] = self._evaluate(self.test)[1]
        train_loss = (total / len(self.train)).item()
        seconds = self.clock.seconds()
        val_loss, val_accuracy = self._evaluate(self.val)
        state.epoch, state.seconds = epoch, state.seconds + seconds
        state.diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
        record = self._record(epoch, train_loss, seconds, tuple(sorted(tuned)), val_loss, val_accuracy, costs)
        if self.trial.curves:
            assert record.test_accuracy is not None
            accuracies[epoch * self.steps] = record.test_accuracy
            steps, values = zip(*accuracies.items(), strict=True)
            lost = tuple(torch.stack(losses).tolist())
            record = replace(record, step_losses=lost, accuracy_steps=steps, step_accuracies=values)
        return record if state.diverged else self._keep_best(record)

    def _finish(self, candidates: Iterator[Mapping[str, Tensor]]) -> EpochRecord:
        """One more record: the values that validation prefers among those that the method makes after training."""
        found = []
        for values in candidates:
            self._restore(values)
            loss, accuracy = self._evaluate(self.val)
            found.append((-accuracy, loss, values))
        accuracy, loss, values = min(found, key=lambda one: one[:2])
        self._restore(values)
        self.state.epoch += 1
        return self._keep_best(self._record(self.state.epoch, None, 0.0, self.state.layers, loss, -accuracy))

    @as_asked
    def _select(self, step: int) -> None:
        with self.clock.stopped():
            selected = self.selecting.at(step, self.update, self.state.scores)
        self.clock.add(selected.seconds)
        self.state.layers = selected.selection.layers
        if selected.selection.scores:
            self.state.scores = selected.selection.scores
        self.state.saw = tuple(sorted({*selected.saw, *self.state.saw}))
        self.state.selection_flops += selected.flops
        if self.update is not None:
            self._tune()
            if isinstance(self.update, Informed):
                self.update.selected(selected.selection)

    @as_asked
    def _tune(self) -> None:
        state, method = self.state, self.method
        self.model.tune_only(state.layers, method.rest)
        for name, parameter in self.parameters.items():
            if parameter.requires_grad and name not in self.best_parameters:
                self.best_parameters[name] = parameter.detach().clone()
        lowest = min(state.layers)
        if method.every.count is not None or method.rest or lowest == 0:
            return  # nothing may be cached below a parameter that can change
        with self.clock.stopped():
            for samples in (self.val, self.test) if self.trial.curves else (self.val,):
                self._advance(samples, lowest)
            ahead = self.meter.one_pass(self.train, lowest)
            seconds = self.train.advance(self.model, lowest)
        self.clock.add(seconds)
        state.state_flops += ahead if self.train.start == lowest else 0

    @as_asked
    def _advance(self, samples: Samples, lowest: int, *, only_shared: bool = False) -> None:
        """Keeps the states below a layer for evaluation, where they fit, and counts that."""
        flops = self.meter.one_pass(samples, lowest)
        samples.advance(self.model, lowest, only_shared=only_shared)
        self.state.evaluation_flops += flops if samples.start == lowest else 0

    def _cost(self, indices: Tensor) -> Spent:
        """What the next step costs; the clock stops where that is not known yet."""
        key = (self.state.layers, len(indices))
        if key not in self.costs:
            with self.clock.stopped():
                self.costs[key] = self.meter.step(self.train, indices, self.state.layers)
        return self.costs[key]

    @as_asked
    def _evaluate(self, samples: Samples) -> tuple[float, float]:
        self.state.evaluation_flops += self.meter.one_pass(samples)
        found = evaluate(self.model, samples, self.trial.logit_margins and samples is self.test)
        if samples is self.test:
            self._tested = outcomes.of(found.correct, found.margins)
        return found.loss, found.accuracy

    def _record(
        self,
        epoch: int,
        train_loss: float | None,
        seconds: float,
        layers: tuple[int, ...],
        val_loss: float,
        val_accuracy: float,
        costs: list[Spent] | None = None,
    ) -> EpochRecord:
        test_loss, test_accuracy = self._evaluate(self.test) if self.trial.curves else (None, None)
        columns = list(zip(*(costs or [Spent(0, 0, 0)]), strict=True))
        flops, kept, peak = sum(columns[0]), max(columns[1]), max(columns[2])
        self.state.flops += flops
        self.state.kept_bytes = max(self.state.kept_bytes, kept)
        self.state.peak_bytes = max(self.state.peak_bytes, peak)
        figures = val_loss, val_accuracy, seconds, kept, layers, time.time(), test_loss, test_accuracy
        return EpochRecord(self.trial.id, epoch, train_loss, *figures, peak_bytes=peak, flops=flops)

    def _keep_best(self, record: EpochRecord) -> EpochRecord:
        best = self.state.best
        if best is None or record.stopping_key < (-best.val_accuracy, best.val_loss, best.best_epoch):
            self.state.best = Best.of(record, self._tested if self.trial.curves else None)
            self.best_parameters = {name: self.parameters[name].detach().clone() for name in self.best_parameters}
        return record

    @torch.no_grad()
    def _restore(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.parameters[name].copy_(value)

    def _remark(self, text: str) -> None:
        if text not in self.state.remarks:
            self.state.remarks += (text,)

    def _resume(self) -> None:
        saved = checkpoint.load(self.folder, self.train.device)
        if saved is None or self.update is None:
            return
        with checkpoint.fitting(self.folder):
            if differs := other_origin(saved.pop("origin"), self.origin):
                self._remark(differs)
                return
            if self.cannot_resume:
                return
            self.update.load_state_dict(saved.pop("update"))
            parameters, self.best_parameters = saved.pop("parameters"), saved.pop("best_parameters")
            self.state = _STATE.validate_python({field.name: saved.pop(field.name) for field in fields(State)})
            reached = replace(self.state)
            self._tune()
            self.state = reached  # what was counted for the states anew was counted before
            self._restore(parameters)
