"""What our code takes beside the arithmetic that it cannot do without, as quick as the same shapes are alone."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from lmsa_bench.bench.plain import load_split
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.tasks.task import Split
from lmsa_bench.trial import cost
from lmsa_bench.trial.names import method_of, task_of
from lmsa_bench.trial.samples import EVALUATION_BATCH
from lmsa_bench.trial.spec import Trial

REPEATS = 15  # of a step whose median is taken


def trial_of(suite: str, task: str, row: str) -> Trial:
    """The first trial of a row on a task."""
    return load(suite, 1).only([task], [row]).trials[0]


def seconds_of(work: Callable[[], object]) -> float:
    """The median time of this work, after it was done once."""
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def _step(trial: Trial, data: Path, layers: tuple[int, ...], size: int) -> tuple[Callable[[], object], int]:
    """An update step of these layers from the source model on so many tuning images, and its FLOPs."""
    task, method = task_of(trial), method_of(trial)
    assert method.update is not None
    model = SourceModel(task, data, trial.seed).load(torch.device("cpu"))
    x, y = (part[:size] for part in load_split(task, task.splits(data, trial.variant, trial.seed).train))
    with torch.no_grad():
        x = model.run(x, 0, layers[0])
    flops = cost.of_step(model, method.update, x, y, layers, layers[0], method.rest).flops
    model.tune_only(layers, method.rest)
    return partial(method.update(model).step, x, y, layers, layers[0]), flops


def of_trial(trial: Trial, data: Path) -> float:
    """The seconds of a trial's steps and passes alone, all layers tuned, each piece at the median of its shape."""
    task = task_of(trial)
    model = SourceModel(task, data, trial.seed)
    splits = task.splits(data, trial.variant, trial.seed)
    layers = tuple(range(len(model.load(torch.device("cpu")))))
    steps, rest = divmod(len(splits.train), trial.batch_size)
    seconds = trial.epochs * steps * seconds_of(_step(trial, data, layers, trial.batch_size)[0])
    if rest:
        seconds += trial.epochs * seconds_of(_step(trial, data, layers, rest)[0])
    loaded = model.load(torch.device("cpu"))
    passes: list[tuple[int, Split | None]] = [(trial.epochs, splits.val), (1, splits.train), (1, splits.test)]
    for count, split in (*passes, (1, model.held_out)):
        if split is not None:
            images = load_split(task, split)[0].split(EVALUATION_BATCH)
            seconds += count * seconds_of(partial(_pass, loaded, images))
    return seconds


@torch.no_grad()
def _pass(model: LayeredModel, images: tuple[Tensor, ...]) -> None:
    for x in images:
        model(x)


def per_flop(row: str, data: Path) -> float:
    """The seconds of a FLOP in a step of a quickstart's row that tunes all layers."""
    trial = trial_of("quickstart", "digits_flip", row)
    depth = len(SourceModel(task_of(trial), data, trial.seed).load(torch.device("cpu")))
    step, flops = _step(trial, data, tuple(range(depth)), trial.batch_size)
    return seconds_of(step) / flops


def msa_step(data: Path, free: Path) -> float:
    """A FLOP's time in a step of MSA over that in a step of Adam, all layers."""
    return per_flop("full_msa", data) / per_flop("full", data)


def selection(data: Path, free: Path) -> float:
    """A FLOP's time in a selection by the predicted loss over that in a step of Adam, all layers."""
    trial = trial_of("quickstart", "digits_flip", "lmsa")
    task, method = task_of(trial), method_of(trial)
    model = SourceModel(task, data, trial.seed).load(torch.device("cpu"))
    x, y = load_split(task, task.splits(data, trial.variant, trial.seed).train)
    evidence = Evidence(lambda: zip(x.split(trial.batch_size), y.split(trial.batch_size), strict=True))

    def select() -> object:
        return method.select(model, evidence, 0, generator(trial.seed, "select", 0))

    return seconds_of(select) / cost.of_work(select, torch.device("cpu")) / per_flop("full", data)
