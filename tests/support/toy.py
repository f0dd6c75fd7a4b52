"""A task small enough for a test of the life of a trial: random images whose label a layer can learn."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch

from lmsa_bench.methods import METHODS
from lmsa_bench.methods.method import Named
from lmsa_bench.models import MODELS, LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Source, Split, Splits, Task
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import EpochRecord, Trial, Value

CLASSES, SHAPE = 4, (1, 8, 8)
CPU = torch.device("cpu")


def split(count: int, seed: int, part: str) -> Split:
    draw = generator(seed, "toy", part)
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 120, (count, *SHAPE), generator=draw, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, 0, 2 * label : 2 * label + 2] += 100  # the label is a bright band
    return Split(images, labels)


def splits(root: Path, variant: str, seed: int) -> Splits:
    return Splits(split(40, seed, "train"), split(20, seed, "val"), split(24, seed, "test"))


def task(model: str = "wrn_10_1") -> Task:
    source = Source("toy", lambda root: split(64, 0, "source"), epochs=1, lr=1e-3)
    return Task("toy", model, CLASSES, SHAPE, source, splits, lambda root: None, lambda root: "toy")


def source_model(model: str = "wrn_10_1") -> LayeredModel:
    torch.manual_seed(0)
    return MODELS.get(model)(CLASSES, SHAPE).eval()


def hparams(method: str, **given: Value) -> dict[str, Value]:
    """Hyper-parameters of a method, with a plain value for each that has no default."""
    factory = METHODS.get(method)
    hints = get_type_hints(factory, include_extras=True)
    values: dict[str, Value] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            values[name] = parameter.default
        else:
            values[name] = _plain(hints[name])
    return values | given


def _plain(hint: Any) -> Value:
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Named):
            return part.registry.names()[0]
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    return {float: 1e-2, int: 1, bool: True}[hint]


def trial(method: str, epochs: int = 2, seed: int = 0, curves: bool = False, **given: Value) -> Trial:
    trained = METHODS.get(method)(**hparams(method, **given)).update is not None
    return Trial("toy", "", method, hparams(method, **given), seed, epochs if trained else 0, 16, curves)


def run(
    asked: Trial,
    folder: Path,
    model: str = "wrn_10_1",
    parts: Splits | None = None,
    provenance: dict[str, Value] | None = None,
) -> Run:
    method = METHODS.get(asked.method)(**asked.hparams)
    parts = parts or splits(folder, "", asked.seed)
    return Run(asked, task(model), source_model(model), method, parts, folder, CPU, provenance)


def untimed(records: Iterator[EpochRecord] | list[EpochRecord]) -> list[EpochRecord]:
    from dataclasses import replace

    return [replace(record, seconds=0.0, time=0.0) for record in records]
