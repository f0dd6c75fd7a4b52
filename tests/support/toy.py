"""A task small enough to train in a test: images whose shade is their class, for small networks."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
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

CLASSES, SHAPE = 4, (3, 8, 8)
SOURCE_ACCURACY = 0.9
CPU = torch.device("cpu")


def split(count: int, seed: int, part: str) -> Split:
    """Noisy images of one shade per class, which a small model can learn."""
    labels = torch.arange(count) % CLASSES
    noise = torch.randint(0, 20, (count, *SHAPE), generator=generator(seed, "toy", part))
    return Split((noise + labels[:, None, None, None] * 60).to(torch.uint8), labels)


def splits(root: Path, variant: str, seed: int) -> Splits:
    return Splits(split(40, seed, "train"), split(20, seed, "val"), split(24, seed, "test"))


def task(model: str = "wrn_10_1", **source: Any) -> Task:
    """The toy task; ``source`` replaces fields of the recipe of its source model."""
    recipe = Source(
        data="toy",
        load=lambda root: split(200, 0, "source"),
        epochs=2,
        lr=3e-3,
        holdout=lambda root: split(40, 0, "holdout"),
    )
    return Task(
        name="toy",
        model=model,
        classes=CLASSES,
        input_shape=SHAPE,
        source=replace(recipe, **source),
        splits=splits,
        prepare=lambda root: None,
        fingerprint=lambda root: "toy",
    )


def source_model(model: str = "wrn_10_1", classes: int = CLASSES, seed: int = 0) -> LayeredModel:
    torch.manual_seed(seed)
    return MODELS.get(model)(classes, SHAPE).eval()


def net(classes: int = CLASSES, seed: int = 0) -> torch.nn.Module:
    """A source model's network, whose state dict has the keys of a weights file."""
    return source_model(classes=classes, seed=seed).source


def hparams(method: str, **overrides: Value) -> dict[str, Value]:
    """A method's hyper-parameters: overrides, else defaults, else some valid value."""
    factory = METHODS.get(method)
    hints = get_type_hints(factory, include_extras=True)
    values: dict[str, Value] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            values[name] = parameter.default
        else:
            values[name] = _plain(hints[name])
    return values | overrides


def _plain(hint: Any) -> Value:
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Named):
            return part.registry.names()[0]
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    return {float: 1e-2, int: 1, bool: True, str: "1+0"}[hint]


def trial(method: str, epochs: int = 2, seed: int = 0, curves: bool = False, **overrides: Value) -> Trial:
    trained = METHODS.get(method)(**hparams(method, **overrides)).update is not None
    return Trial("toy", "", method, hparams(method, **overrides), seed, epochs if trained else 0, 16, curves)


def run(
    trial: Trial,
    folder: Path,
    model: str = "wrn_10_1",
    parts: Splits | None = None,
    provenance: dict[str, Value] | None = None,
) -> Run:
    method = METHODS.get(trial.method)(**trial.hparams)
    parts = parts or splits(folder, "", trial.seed)
    provenance = {"source_accuracy": SOURCE_ACCURACY} | (provenance or {})
    return Run(trial, task(model), source_model(model), method, parts, folder, CPU, provenance)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def untimed(records: Iterator[EpochRecord] | list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds=0.0, time=0.0) for record in records]
