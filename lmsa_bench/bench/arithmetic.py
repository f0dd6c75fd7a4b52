"""What our code takes beside the arithmetic that it cannot do without, as quick as the same shapes are alone."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from lmsa_bench.bench.plain import load_split
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.tasks.task import Split
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


def _step(trial: Trial, data: Path, layers: tuple[int, ...], size: int) -> Callable[[], object]:
    """An update step of these layers from the source model on so many tuning images."""
    task, method = task_of(trial), method_of(trial)
    assert method.update is not None
    model = SourceModel(task, data, trial.seed).load(torch.device("cpu"))
    x, y = (part[:size] for part in load_split(task, task.splits(data, trial.variant, trial.seed).train))
    with torch.no_grad():
        x = model.run(x, 0, layers[0])
    model.tune_only(layers, method.rest)
    return partial(method.update(model).step, x, y, layers, layers[0])


def of_trial(trial: Trial, data: Path) -> float:
    """The seconds of a trial's steps and passes alone, all layers tuned, each piece at the median of its shape."""
    task = task_of(trial)
    model = SourceModel(task, data, trial.seed)
    splits = task.splits(data, trial.variant, trial.seed)
    layers = tuple(range(len(model.load(torch.device("cpu")))))
    steps, rest = divmod(len(splits.train), trial.batch_size)
    seconds = trial.epochs * steps * seconds_of(_step(trial, data, layers, trial.batch_size))
    if rest:
        seconds += trial.epochs * seconds_of(_step(trial, data, layers, rest))
    loaded = model.load(torch.device("cpu"))
    passes: list[tuple[int, Split | None]] = [(trial.epochs, splits.val), (1, splits.train), (1, splits.test)]
    for count, split in (*passes, (1, model.held_out)):
        if split is not None:
            images = load_split(task, split)[0].split(EVALUATION_BATCH)
            seconds += count * seconds_of(partial(_pass, loaded, images))
    return seconds


@torch.no_grad()
def _pass(model: LayeredModel, images: Iterable[Tensor], start: int = 0) -> None:
    for x in images:
        model.run(x, start)


def _loaded(suite: str, task: str, row: str, data: Path) -> tuple[Trial, LayeredModel, Tensor, Tensor]:
    """The first trial of a row on a task, its source model, and its tuning images and labels."""
    trial = trial_of(suite, task, row)
    of = task_of(trial)
    model = SourceModel(of, data, trial.seed).load(torch.device("cpu"))
    return trial, model, *load_split(of, of.splits(data, trial.variant, trial.seed).train)


def _gradients(model: LayeredModel, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """One forward and one backward pass: the states, and the gradients of the loss with respect to them."""
    states = [x.detach().requires_grad_()]
    for n in range(len(model)):
        states.append(model.run(states[-1], n, n + 1))
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(functional.cross_entropy(states[-1], y, reduction="sum"), [*states, *parameters])
    return states, list(found[: len(states)])


def msa_step(data: Path, free: Path) -> float:
    """A step of MSA on all layers over its arithmetic as the paper writes it, piece by piece.

    That is a forward and a backward pass, and for each layer as many inner steps as the row takes: its output, the
    pull-back of the co-state, the gradient of what both are penalised for, and a step of Adam.
    """
    trial, model, x, y = _loaded("quickstart", "digits_flip", "full_msa", data)
    x, y, count = x[: trial.batch_size], y[: trial.batch_size], int(trial.hparams["inner_steps"] or 0)
    layers = tuple(range(len(model)))
    step = _step(trial, data, layers, trial.batch_size)
    model.tune_only(layers)
    states, gradients = _gradients(model, x, y)
    pieces = seconds_of(partial(_gradients, model, x, y))
    for n in layers:
        parameters = model.parameters_of(n)
        adam = torch.optim.Adam(parameters, fused=True, maximize=True)
        pieces += count * seconds_of(partial(_inner, model, n, adam, states, gradients))
    return seconds_of(step) / pieces


def _inner(
    model: LayeredModel, n: int, adam: torch.optim.Optimizer, states: list[Tensor], gradients: list[Tensor]
) -> None:
    x = states[n].detach().requires_grad_()
    output = model.run(x, n, n + 1)
    product = (-gradients[n + 1] * output).sum()
    (pulled_back,) = torch.autograd.grad(product, x, create_graph=True)
    away = (states[n + 1].detach() - output).square().sum() + (-gradients[n] - pulled_back).square().sum()
    adam.zero_grad()
    (product - away).backward(inputs=model.parameters_of(n))
    adam.step()


def selection(suite: str, task: str, data: Path) -> float:
    """A selection by the predicted loss over its arithmetic, piece by piece.

    That is, on each batch, a forward and a backward pass to the states, and the layers after each once more.
    """
    trial, model, x, y = _loaded(suite, task, "lmsa", data)
    method, batches = method_of(trial), int(trial.hparams["batches"] or 0)
    evidence = Evidence(lambda: zip(x.split(trial.batch_size), y.split(trial.batch_size), strict=True))
    model.requires_grad_(False)
    pieces = 0.0
    for images, labels in list(zip(x.split(trial.batch_size), y.split(trial.batch_size), strict=True))[:batches]:
        states, _ = _gradients(model, images, labels)
        pieces += seconds_of(partial(_gradients, model, images, labels))
        for n in range(len(model)):
            pieces += seconds_of(partial(_pass, model, [states[n + 1].detach()], n + 1))
    return seconds_of(lambda: method.select(model, evidence, 0, generator(trial.seed, "select", 0))) / pieces
