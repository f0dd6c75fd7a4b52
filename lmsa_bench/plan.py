"""What a sweep would run, and about how long that takes."""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from lmsa_bench import pretrain
from lmsa_bench.methods import METHODS
from lmsa_bench.models import MODELS
from lmsa_bench.progress import clock
from lmsa_bench.results.journal import Journal
from lmsa_bench.seeding import generator
from lmsa_bench.suite import Suite
from lmsa_bench.tasks import build
from lmsa_bench.trial.spec import Trial

Kind = tuple[str, str, int]  # task, method, epochs: trials that take about as long


def kind(trial: Trial) -> Kind:
    """What decides about how long a trial takes."""
    return trial.task, trial.method, trial.epochs


def seconds_seen(journal: Journal) -> dict[Kind, float]:
    """The mean training seconds of ended trials, for each kind."""
    seen = defaultdict(list)
    for entry in journal.entries():
        if entry.result is not None and entry.result.status == "finished":
            seen[kind(entry.trial)].append(entry.result.seconds)
    return {which: sum(seconds) / len(seconds) for which, seconds in seen.items()}


def describe(suite: Suite, journal: Journal, pending: Iterable[Trial], data: Path, slots: int) -> Iterable[str]:
    """The plan of a sweep in lines: trials of each row and task, what is done, and an estimate of time."""
    left = {trial.id for trial in pending}
    columns = [*suite.tasks, "all"]
    width = max((len(row.name) for row in suite.rows), default=0)
    yield f"suite {suite.name}: trials still to run / all"
    yield " ".join([" " * width, *(f"{name:>14}" for name in columns)])
    for row in suite.rows:
        own = [trial for trial in suite.trials if trial.configuration in row.configurations]
        counts = [[t for t in own if task in ("all", t.task)] for task in columns]
        shown = [f"{sum(t.id in left for t in some)}/{len(some)}" for some in counts]
        yield " ".join([f"{row.name:<{width}}", *(f"{text:>14}" for text in shown)])
    waiting = [trial for trial in suite.trials if trial.id in left]
    yield f"{len(suite.trials) - len(waiting)} of {len(suite.trials)} trials are done, {len(waiting)} to run"
    tasks = {trial.setting: build(trial.task, trial.options, trial.weights) for trial in waiting}
    missing = {setting: pretrain.missing_data(task, data) for setting, task in tasks.items()}
    weights = [line for task in tasks.values() for line in pretrain.missing_weights(task, data)]
    yield from dict.fromkeys([*itertools.chain.from_iterable(missing.values()), *weights])
    waiting = [trial for trial in waiting if not missing[trial.setting]]
    if waiting:
        seconds = estimate(waiting, seconds_seen(journal), data)
        wall = f"{clock(seconds / slots)} on {slots} at a time"
        yield f"about {clock(seconds)} of training, {wall}, besides source models and evaluation"


def estimate(trials: Iterable[Trial], seen: Mapping[Kind, float], data: Path) -> float:
    """Training seconds of these trials: as ended ones of their kind took, else as two steps of a random model take."""
    known = dict(seen)
    total = 0.0
    for trial in trials:
        if kind(trial) not in known:
            known[kind(trial)] = _measured(trial, data)
        total += known[kind(trial)]
    return total


def _measured(trial: Trial, data: Path) -> float:
    task = build(trial.task, trial.options, trial.weights)
    method = METHODS.get(trial.method)(**trial.hparams)
    if method.update is None:
        return 0.0
    task.prepare(data)
    samples = len(task.splits(data, trial.variant, trial.seed).train)
    model = MODELS.get(task.model)(task.classes, task.input_shape).eval()
    draw = generator(0, "estimate")
    x = torch.rand(trial.batch_size, *task.input_shape, generator=draw)
    y = torch.randint(task.classes, (trial.batch_size,), generator=draw)
    selection = method.select(model, itertools.repeat((x, y)), 0, draw)
    model.tune_only(selection.layers)
    update = method.update(model)
    update.step(x, y, selection.layers)
    started = time.perf_counter()
    update.step(x, y, selection.layers)
    return (time.perf_counter() - started) * trial.epochs * samples / trial.batch_size
