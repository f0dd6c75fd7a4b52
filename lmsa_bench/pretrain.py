"""Source models: trained, or made of published weights, once; kept by the fingerprint of what decides them."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lmsa_bench.atomic import write_whole
from lmsa_bench.download import checksum
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.models import MODELS, LayeredModel, weights
from lmsa_bench.seeding import derive
from lmsa_bench.source_training import Training
from lmsa_bench.tasks.published import DATA_SETS
from lmsa_bench.tasks.task import Source, Split, Stage, Task
from lmsa_bench.trial.run import evaluate
from lmsa_bench.trial.spec import canonical
from lmsa_bench.trial.state_cache import Samples

RECIPE = 1  # raised whenever the same recipe would train another model
MEND = "delete it and it is made anew"
WAIT_SECONDS = 10.0  # for another process that makes the same source model, between two signs of life
POINTS = 2.0  # by which given weights may miss their published accuracy before a warning


def prepare(task: Task, root: Path) -> None:
    """Makes ready what a task and its source model need below the data root; raises UserError where it is missing."""
    task.prepare(root)
    source = task.source
    if source.weights != "pretrain":
        weights.obtain(task.model, source.weights, root)
    if _reads_data(source):
        source.prepare(root)


def missing_data(task: Task, root: Path) -> list[str]:
    """The data sets that ``prepare`` would not find, one line each with its remedy."""
    source, found = task.source, []
    readers = [(task.name, task.needs, lambda: task.fingerprint(root))]
    if _reads_data(source):
        readers.append((f"the source model of {task.name}", source.needs, lambda: _source_data(source, root)))
    for reader, needs, prepared in readers:
        sets = [(DATA_SETS[name], parts) for name, parts in needs.items()]
        lacking = [data for data, parts in sets if data.missing(root, parts)]
        if lacking and not _is_there(prepared):
            found += [f"{reader} needs {data.name}: {data.get()}" for data in lacking]
    return found


def missing_weights(task: Task, root: Path) -> list[str]:
    """The line about the task's given weights where they are not there."""
    source = task.source
    if source.weights == "pretrain" or weights.file_of(task.model, source.weights, root).is_file():
        return []
    how = "they are downloaded on the first run" if source.weights == "hub" else "there is no such file"
    return [f"{task.name} needs weights of {task.model} ({source.weights}): {how}"]


def group(task: Task, seed: int) -> tuple[Any, ...]:
    """Equal for tasks that share a source model, before any of their data is looked at."""
    source = task.source
    own = (task.name, seed) if source.on_tuning else ()
    return task.model, task.classes, source.data, source.weights, source.epochs, source.lr, source.stages, own


def fingerprint(task: Task, root: Path, seed: int = 0) -> str:
    """What decides a task's source model, hashed: tasks that share it share the model."""
    source = task.source
    parts = [RECIPE, task.model, MODELS.code_hash(task.model), task.classes, task.input_shape]
    parts += [source.data, source.epochs, source.lr]
    if source.weights == "pretrain":
        parts += [_content(_training_set(task, root))] if source.fingerprint is None else [source.fingerprint(root)]
    else:
        parts += [checksum(weights.obtain(task.model, source.weights, root), "sha256")]
        parts += [[stage.tune, stage.epochs, stage.lr] for stage in source.stages]
        if source.on_tuning:
            parts += [task.name, seed, task.fingerprint(root)]
        elif source.stages and source.fingerprint is not None:
            parts += [source.fingerprint(root)]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]


def ensure(
    task: Task, root: Path, device: torch.device, seed: int = 0, alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Makes the task's source model unless it is there; its fingerprint and held-out accuracy (a fraction or None).

    Takes up what a killed process left of its training. ``alive`` is called after each epoch, and now and then while
    another process makes it.
    """
    name = fingerprint(task, root, seed)
    path = source_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _turn(path.with_suffix(".lock"), alive):
        if path.exists():
            found = _read(path, device)
            if found["accuracy"] is None and (holdout := _holdout(task.source, root)) is not None:
                found["accuracy"] = _accuracy(task, load(task, root, name, device), holdout, device)
                _write(path, found)
        else:
            folder = training_folder(root, name)
            model = _make(task, root, device, seed, Training(folder, alive))
            holdout = _holdout(task.source, root)
            accuracy = None if holdout is None else _accuracy(task, model, holdout, device)
            found = {"state": model.source.state_dict(), "accuracy": accuracy}
            _write(path, found)
            shutil.rmtree(folder, ignore_errors=True)
    facts = {"source": name, "source_accuracy": found["accuracy"]}
    return facts | ({"source_data": _source_data(task.source, root)} if _reads_data(task.source) else {})


def load(task: Task, root: Path, name: str, device: torch.device) -> LayeredModel:
    """The source model of that fingerprint, which ``ensure`` has made."""
    model = _build(task)
    path = source_path(root, name)
    try:
        model.source.load_state_dict(_read(path, device)["state"])
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"source model {path}: does not fit ({one_line(error)}); {MEND}") from None
    return model.to(device).eval()


def judgement(task: Task, facts: Mapping[str, Any]) -> str:
    """One line about a source model's held-out accuracy, with a warning where published weights miss theirs."""
    source, accuracy = task.source, facts["source_accuracy"]
    line = f"source model of {task.name}: {task.model}, {source.weights}"
    if accuracy is None:
        return f"{line}: accuracy not measured, its held-out images are not there"
    line = f"{line}: {accuracy:.2%} on held-out images"
    if source.accuracy is None or source.weights == "pretrain":
        return line
    off = 100 * abs(accuracy - source.accuracy) > POINTS
    warning = f"; warning: off by more than {POINTS:g} points, is it another model or another normalisation?"
    return f"{line}, published {source.accuracy:.2%}{warning if off else ''}"


def _is_there(read: Callable[[], object]) -> bool:
    try:
        return bool(read())
    except UserError:
        return False


def _source_data(source: Source, root: Path) -> str:
    return source.data if source.fingerprint is None else source.fingerprint(root)


def _reads_data(source: Source) -> bool:
    return source.weights == "pretrain" or bool(source.stages and not source.on_tuning)


def _training_set(task: Task, root: Path) -> Split:
    if task.source.load is None:
        offered = f"weights: {{{task.model}: hub}} or a file's path"
        raise UserError(f"task {task.name}: its source model cannot be trained here: give {offered}")
    return task.source.load(root)


def _holdout(source: Source, root: Path) -> Split | None:
    return None if source.holdout is None else source.holdout(root)


def _accuracy(task: Task, model: LayeredModel, holdout: Split, device: torch.device) -> float:
    return evaluate(model, Samples(holdout, task.source.transform, device))[1]


def source_path(root: Path, name: str) -> Path:
    """Where in a data folder the source model of that fingerprint lies."""
    return root / "sources" / f"{name}.pt"


@contextmanager
def _turn(path: Path, alive: Callable[[], None]) -> Iterator[None]:
    """Holds a lock, and gives signs of life while it waits for it."""
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


def training_folder(root: Path, name: str) -> Path:
    """Where in a data folder a checkpoint lies while the source model of that fingerprint is trained."""
    return source_path(root, name).with_suffix(".training")


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        found = weights.unpack(path, device)
    except UserError as error:
        raise UserError(f"source model {error}; {MEND}") from None
    accuracy = found.get("accuracy", "") if isinstance(found, dict) else ""
    if not isinstance(accuracy, float | None) or not isinstance(found.get("state"), Mapping):
        raise UserError(f"source model {path}: is not one; {MEND}")
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue(), durable=True)


def _build(task: Task) -> LayeredModel:
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "source", task.model))
        return MODELS.get(task.model)(task.classes, task.input_shape)


def _make(task: Task, root: Path, device: torch.device, seed: int, training: Training) -> LayeredModel:
    """The source model: trained from random weights, or the given ones, trained further where their head is not it."""
    source, model = task.source, _build(task)
    stages: tuple[Stage, ...]
    if source.weights == "pretrain":
        stages = (Stage("all", source.epochs, source.lr),)
    else:
        path = weights.obtain(task.model, source.weights, root)
        whole = weights.load(model.source, path, new_head=bool(source.stages))
        stages = () if whole else source.stages
    model = model.to(device).eval()
    if stages:
        own = source.on_tuning and source.weights != "pretrain"
        images = task.splits(root, task.variants[0], seed).train if own else _training_set(task, root)
        samples = Samples(images, task.transform if own else source.transform, device)
        training.run(model, samples, stages, seed if own else 0, source.data)
    return model.eval()


def _content(split: Split) -> str:
    digest = hashlib.sha256(split.images.numpy().tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
