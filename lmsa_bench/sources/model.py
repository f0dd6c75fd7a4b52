"""A source model: trained, or made of published weights, once; kept by the fingerprint of what decides it."""

import copy
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lmsa_bench.atomic import write_whole
from lmsa_bench.download import checksum
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.models import MODELS, LayeredModel, weights
from lmsa_bench.object_store import Storage
from lmsa_bench.seeding import derive, generator
from lmsa_bench.sources.facts import SourceFacts
from lmsa_bench.sources.needs import no_training, prepare, reads_data, source_data
from lmsa_bench.sources.training import Training
from lmsa_bench.tasks.task import Split, Stage, Task, view
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.code import code_of_source
from lmsa_bench.trial.judging import evaluate
from lmsa_bench.trial.samples import Samples
from lmsa_bench.trial.spec import canonical

RECIPE = 1  # raised whenever the same recipe would train another model
REMEDY = "delete it, and it is made again"
WAIT_SECONDS = 10.0  # for another process that makes the same source model, between two calls of alive
HELD_OUT = 2000  # images on which each trial is judged after tuning


class SourceModel:
    """The source model of a task below a data root; tasks whose fingerprints are equal share it.

    ``seed`` matters where each seed has a source model of its own (Source.each), or one that is trained on the task's
    own tuning images; seed 0's is the one that all seeds share otherwise. With an object store the
    file, or the checkpoint of its training, is pulled from there and pushed there.
    """

    def __init__(self, task: Task, root: Path, seed: int = 0, storage: Storage | None = None) -> None:
        self.task, self.root, self.seed, self.storage = task, root, seed, storage
        trained = task.source.weights == "pretrain"
        self.draw = seed if trained and task.source.each else 0  # what it is trained from: its weights and batches

    @property
    def group(self) -> tuple[Any, ...]:
        """Equal for tasks that share a source model, before any of their data is looked at."""
        source = self.task.source
        own = (self.task.name, self.seed) if source.on_tuning else (self.draw,) if self.draw else ()
        return (
            self.task.model,
            self.task.classes,
            source.data,
            source.weights,
            source.epochs,
            source.lr,
            source.stages,
            own,
        )

    @cached_property
    def fingerprint(self) -> str:
        """What decides the source model, hashed; reads its data where only they can tell."""
        task, source, root = self.task, self.task.source, self.root
        parts = [RECIPE, task.model, code_of_source(task.model), task.classes, task.input_shape]
        parts += [source.data, source.epochs, source.lr]
        if source.weights == "pretrain":
            parts += [_content(self._training_set()) if source.fingerprint is None else source.fingerprint(root)]
            parts += [self.draw] if self.draw else []
        else:
            parts += [checksum(weights.obtain(task.model, source.weights, root), "sha256")]
            parts += [[stage.tune, stage.epochs, stage.lr] for stage in source.stages]
            if source.on_tuning:
                parts += [task.name, self.seed, task.fingerprint(root)]
            elif source.stages and source.fingerprint is not None:
                parts += [source.fingerprint(root)]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """The source model's file."""
        return self.root / "sources" / f"{self.fingerprint}.pt"

    @property
    def training_folder(self) -> Path:
        """Where a checkpoint lies while the source model is trained."""
        return self.path.with_suffix(".training")

    def ensure(self, device: torch.device, alive: Callable[[], None] = lambda: None) -> SourceFacts:
        """Makes the source model unless it is there; resumes from the checkpoint of a killed process.

        ``alive`` is called after each epoch, and now and then while another process makes it. Raises UserError.
        """
        if self.storage is not None:
            prepare(self.task, self.root)  # on this node too, which may share no disk with the driver
            self.pull()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _turn(self.path.with_suffix(".lock"), alive):
            if self.path.exists():
                found = read(self.path, device)
                if found["accuracy"] is None and (holdout := self._holdout()) is not None:
                    found["accuracy"] = self._accuracy(self.load(device), holdout, device)
                    self._write(found)
            else:
                model, skipped = self._make(device, self._kept(alive))
                holdout = self._holdout()
                accuracy = None if holdout is None else self._accuracy(model, holdout, device)
                found = {"state": model.source.state_dict(), "accuracy": accuracy, "stages_skipped": skipped}
                self._write(found)
                shutil.rmtree(self.training_folder, ignore_errors=True)
        if self.storage is not None:
            self.storage.push(self.path, f"sources/{self.path.name}")
            self.storage.remove(self._checkpoint_name, self.training_folder / checkpoint.NAME)
        return self._facts(found)

    def _facts(self, found: Mapping[str, Any]) -> SourceFacts:
        source = self.task.source
        trained_on = source_data(source, self.root) if reads_data(source) else None
        return SourceFacts(
            self.task.fingerprint(self.root),
            self.fingerprint,
            found["accuracy"],
            trained_on,
            self.seed if source.on_tuning and source.weights != "pretrain" else self.draw if source.each else None,
            code_of_source(self.task.model),
            bool(found.get("stages_skipped")),
        )

    def load(self, device: torch.device) -> LayeredModel:
        """A copy of the source model, which ``ensure`` has made; raises UserError where its file is damaged."""
        task = self.task
        try:
            stat = self.path.stat()
            version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            version = (0, 0, 0)  # reading it says why
        loaded = _loaded(self.path, version, task.model, task.classes, task.input_shape)
        return copy.deepcopy(loaded).to(device).eval()

    @cached_property
    def held_out(self) -> Split | None:
        """Held-out images of the source, at most HELD_OUT drawn at random, to see what tuning forgets; None: none."""
        holdout = self._holdout()
        if holdout is None or len(holdout) <= HELD_OUT:
            return holdout
        return view(holdout, torch.randperm(len(holdout), generator=generator(0, "held out"))[:HELD_OUT].sort().values)

    def pull(self) -> None:
        """Pulls the source model from the object store, or the checkpoint of its training."""
        assert self.storage is not None
        if not self.path.exists() and not self.storage.pull(f"sources/{self.path.name}", self.path):
            self.storage.pull(self._checkpoint_name, self.training_folder / checkpoint.NAME)

    @property
    def _checkpoint_name(self) -> str:
        return f"sources/{self.fingerprint}/{checkpoint.NAME}"

    def _kept(self, alive: Callable[[], None]) -> Callable[[], None]:
        """Calls ``alive``, and pushes the checkpoint to the object store."""

        def after_epoch() -> None:
            alive()
            path = self.training_folder / checkpoint.NAME
            if self.storage is not None and path.exists():
                self.storage.push(path, self._checkpoint_name)

        return after_epoch

    def _make(self, device: torch.device, alive: Callable[[], None]) -> tuple[LayeredModel, bool]:
        """Trained from random weights, or the given ones, trained further where their head is not the task's.

        Also whether that further training was left out.
        """
        task, source, model = self.task, self.task.source, self._build()
        stages: tuple[Stage, ...]
        if source.weights == "pretrain":
            stages = (Stage("all", source.epochs, source.lr),)
        else:
            path = weights.obtain(task.model, source.weights, self.root)
            whole = weights.load(model.source, path, new_head=bool(source.stages))
            stages = () if whole else source.stages
        model = model.to(device).eval()
        if stages:
            own = source.on_tuning and source.weights != "pretrain"
            images = task.splits(self.root, task.variants[0], self.seed).train if own else self._training_set()
            samples = Samples(images, task.transform if own else source.transform, device)
            training = Training(
                self.training_folder, alive, model, samples, self.seed if own else self.draw, source.data
            )
            training.run(stages)
        return model.eval(), bool(source.stages) and not stages

    def _build(self) -> LayeredModel:
        return _built(self.task.model, self.task.classes, self.task.input_shape, self.draw)

    def _training_set(self) -> Split:
        if self.task.source.load is None:
            raise UserError(no_training(self.task))
        return self.task.source.load(self.root)

    def _holdout(self) -> Split | None:
        holdout = self.task.source.holdout
        return None if holdout is None else holdout(self.root)

    def _accuracy(self, model: LayeredModel, holdout: Split, device: torch.device) -> float:
        return evaluate(model, Samples(holdout, self.task.source.transform, device))[1]

    def _write(self, content: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(self.path, buffer.getvalue(), durable=True)


def _built(model: str, classes: int, shape: tuple[int, int, int], draw: int = 0) -> LayeredModel:
    """The network with its first weights, which are the same for all source models of these sizes and this draw."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(draw, "source", model))
        return MODELS.get(model)(classes, shape)


@lru_cache(maxsize=2)  # a worker's trials come by task
def _loaded(
    path: Path, version: tuple[int, ...], model: str, classes: int, shape: tuple[int, int, int]
) -> LayeredModel:
    """The source model of this version of its file, which nobody may change."""
    found = _built(model, classes, shape)
    try:
        found.source.load_state_dict(read(path, torch.device("cpu"))["state"])
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"source model {path}: does not fit ({one_line(error)}); {REMEDY}") from None
    return found


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """What a source model's file holds: its ``state`` and its held-out ``accuracy``; raises UserError."""
    try:
        found = weights.unpack(path, device)
    except UserError as error:
        raise UserError(f"source model {error}; {REMEDY}") from None
    accuracy = found.get("accuracy", "") if isinstance(found, dict) else ""
    if not isinstance(accuracy, float | None) or not isinstance(found.get("state"), Mapping):
        raise UserError(f"source model {path}: is not one; {REMEDY}")
    return dict(found)


@contextmanager
def _turn(path: Path, alive: Callable[[], None]) -> Iterator[None]:
    """Holds a lock, and calls ``alive`` while it waits for it."""
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=WAIT_SECONDS)
        except Timeout:
            alive()
    try:
        yield
    finally:
        lock.release()


def _content(split: Split) -> str:
    digest = hashlib.sha256(split.images.numpy().tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
