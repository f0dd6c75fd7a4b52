"""Source models: each trained once, on a shift's source data, and kept by the fingerprint of what decides it."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lmsa_bench.atomic import write_whole
from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.errors import UserError
from lmsa_bench.models import MODELS, LayeredModel
from lmsa_bench.seeding import derive, generator
from lmsa_bench.tasks.task import Split, Task
from lmsa_bench.trial.run import evaluate
from lmsa_bench.trial.spec import canonical
from lmsa_bench.trial.state_cache import Samples

RECIPE = 1  # raised whenever the same recipe would train another model
BATCH = 64


def fingerprint(task: Task, root: Path) -> str:
    """What decides a task's source model, hashed: tasks that share it share the model."""
    source = task.source
    parts = [RECIPE, task.model, MODELS.code_hash(task.model), task.classes, task.input_shape]
    parts += [source.data, source.epochs, source.lr, _content(source.load(root))]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]


def ensure(task: Task, root: Path, device: torch.device) -> dict[str, Any]:
    """Trains the task's source model unless it is there; its fingerprint and held-out accuracy (a fraction)."""
    name = fingerprint(task, root)
    path = _path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            model, accuracy = _train(task, root, device)
            buffer = io.BytesIO()
            torch.save({"state": model.source.state_dict(), "accuracy": accuracy}, buffer)
            write_whole(path, buffer.getvalue(), durable=True)
    return {"source": name, "source_accuracy": _read(path, device)["accuracy"]}


def load(task: Task, root: Path, name: str, device: torch.device) -> LayeredModel:
    """The source model of that fingerprint, which ``ensure`` has trained."""
    model = _build(task)
    model.source.load_state_dict(_read(_path(root, name), device)["state"])
    return model.to(device).eval()


def _path(root: Path, name: str) -> Path:
    return root / "sources" / f"{name}.pt"


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"source model {path}: cannot be read ({reason}); delete it and it is trained anew") from None


def _build(task: Task) -> LayeredModel:
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "source", task.model))
        return MODELS.get(task.model)(task.classes, task.input_shape)


def _train(task: Task, root: Path, device: torch.device) -> tuple[LayeredModel, float | None]:
    """Adam at a cosine-annealed rate, batch statistics in the norms, no augmentation; the last epoch's model."""
    source, model = task.source, _build(task).to(device).train()
    samples = Samples(source.load(root), source.transform, device)
    steps = -(-len(samples) // BATCH) * source.epochs
    optimizer = torch.optim.Adam(model.parameters(), lr=source.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=source.lr, total_steps=steps)
    for epoch in range(source.epochs):
        order = torch.randperm(len(samples), generator=generator(0, "source", source.data, epoch))
        for x, y in samples.batches(order[: len(order) - (len(order) % BATCH == 1)], BATCH):  # no statistics of one
            optimizer.zero_grad()
            cross_entropy(model(x), y).mean().backward()
            optimizer.step()
            schedule.step()
    model.eval()
    return model, evaluate(model, Samples(source.holdout(root), source.transform, device))[
        1
    ] if source.holdout else None


def _content(split: Split) -> str:
    digest = hashlib.sha256(split.images.numpy().tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
