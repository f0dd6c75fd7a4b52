"""A check for authors of methods: a trial that is resumed goes on as if nothing had happened."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lmsa_bench.control.updates import unsaved
from lmsa_bench.methods import Method
from lmsa_bench.models import MODELS, LayeredModel
from lmsa_bench.seeding import derive, generator
from lmsa_bench.tasks.task import Source, Split, Splits, Task, nothing
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value

EPOCHS = 4
CLASSES, SHAPE = 4, (1, 8, 8)
_OWN = ("seconds", "time", "provenance", "remarks")  # to each run


def check_resume(factory: Callable[..., Method], **hparams: Value) -> None:
    """Raises AssertionError, which says what differs, where a resumed trial of this method gives other records.

    Four epochs on a few random images, undisturbed and resumed from the checkpoint after each epoch, are compared
    exactly; ``hparams`` are the factory's.
    """
    method = factory(**hparams)
    if method.update is None:
        return
    if why := unsaved(type(method.update(_model()))):
        raise AssertionError(f"cannot resume: {why}")
    name = f"{factory.__module__}.{factory.__qualname__}"
    trial = Trial("random images", "", name, hparams, 0, EPOCHS, batch_size=16)
    expected, again = (_resumed(trial, factory, 0) for _ in range(2))
    _same("run a second time", expected, again)
    for epoch in range(1, EPOCHS + 1):
        _same(f"resumed after epoch {epoch}", expected, _resumed(trial, factory, epoch))


def _resumed(trial: Trial, factory: Callable[..., Method], epoch: int) -> list[EpochRecord | TrialResult]:
    """The records and the result of a trial that is left after this epoch (0: it is not) and taken up again."""
    with TemporaryDirectory() as folder:
        first = _run(trial, factory, Path(folder))
        records = list[EpochRecord | TrialResult](islice(first.epochs(), epoch))
        if epoch:
            first.save()
            first = _run(trial, factory, Path(folder))
        return [*records, *first.epochs(), first.result()]


def _split(part: str, count: int) -> Split:
    draw = generator(0, "random images", part)
    images = torch.randint(0, 256, (count, *SHAPE), generator=draw, dtype=torch.uint8)
    return Split(images, torch.randint(CLASSES, (count,), generator=draw))


def _model() -> LayeredModel:
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(0, "weights"))
        return MODELS.get("wrn_10_1")(CLASSES, SHAPE).eval()


def _run(trial: Trial, factory: Callable[..., Method], folder: Path) -> Run:
    splits = Splits(_split("train", 40), _split("val", 20), _split("test", 24))
    source = Source("random", None, 0, 0.0)
    task = Task(trial.task, "wrn_10_1", CLASSES, SHAPE, source, lambda *_: splits, nothing, lambda root: "")
    facts: dict[str, Value] = {"source_accuracy": 1.0}
    return Run(trial, task, _model(), factory(**trial.hparams), splits, folder, torch.device("cpu"), facts)


def _same(how: str, expected: list[EpochRecord | TrialResult], found: list[EpochRecord | TrialResult]) -> None:
    for one, other in zip(expected, found, strict=True):
        where = f"epoch {one.epoch}" if isinstance(one, EpochRecord) else "the result"
        undisturbed, own = asdict(one), asdict(other)
        for name, value in undisturbed.items():
            if name not in _OWN and repr(own[name]) != repr(value):  # as text, in which nan equals itself
                raise AssertionError(f"{how}, {where}: {name} is {own[name]!r}, undisturbed {value!r}")
