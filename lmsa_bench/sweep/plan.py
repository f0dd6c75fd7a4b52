"""What a sweep would run, and about how long that takes."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

import torch

from lmsa_bench.control.criteria import NoBatches
from lmsa_bench.errors import UserError
from lmsa_bench.methods import Method
from lmsa_bench.models import MODELS
from lmsa_bench.results.journal import Journal
from lmsa_bench.seeding import generator
from lmsa_bench.sources import needs
from lmsa_bench.suites.plugins import located
from lmsa_bench.suites.rehearsal import prepared, shape_of, unloaded
from lmsa_bench.suites.spec import Suite
from lmsa_bench.sweep.progress import Kind, clock, kind, seconds_seen
from lmsa_bench.tasks.task import Task
from lmsa_bench.trial.code import code_of_functions
from lmsa_bench.trial.cost import Cost, of_step
from lmsa_bench.trial.made_of import made_of
from lmsa_bench.trial.meter import as_it_counts
from lmsa_bench.trial.names import method_of, task_of
from lmsa_bench.trial.shared import Shared
from lmsa_bench.trial.spec import Trial

# (an operator's, a floating-point operation's): as measured on small networks on one core; on a GPU, 10 TFLOP/s.
CORE_SECONDS = (25e-6, 1 / 40e9)
GPU_SECONDS = (10e-6, 1 / 10e12)

SMALL = 1_000_000  # parameters


def describe(suite: Suite, journal: Journal, pending: Iterable[Trial], data: Path, slots: int) -> Iterable[str]:
    """The plan of a sweep in lines: trials of each row and task, what is done, and an estimate of time."""
    left = {trial.id for trial in pending}
    columns = [*suite.tasks, "all"]
    width = max((len(row.name) for row in suite.rows), default=0)
    yield f"suite {suite.name}: trials still to run / all"
    yield " ".join([" " * width, *(f"{name:>14}" for name in columns)])
    shifts = {name: facts.shift for name, facts in suite.facts.items()}
    yield " ".join([f"{'shift':<{width}}", *(f"{shifts.get(name, ''):>14}" for name in columns)]).rstrip()
    for row in suite.rows:
        own = [trial for trial in suite.needed if trial.configuration in row.configurations]
        counts = [[t for t in own if task in ("all", t.task)] for task in columns]
        shown = [f"{sum(t.id in left for t in some)}/{len(some)}" for some in counts]
        yield " ".join([f"{row.name:<{width}}", *(f"{text:>14}" for text in shown)])
    waiting = [trial for trial in suite.needed if trial.id in left]
    more = ", and more where validation chooses an end of a grid" * suite.grows
    yield f"{len(suite.needed) - len(waiting)} of {len(suite.needed)} trials are done, {len(waiting)} to run{more}"
    tasks = {trial.setting: task_of(trial) for trial in waiting}
    missing = {setting: _missing(task, data) for setting, task in tasks.items()}
    weights = [line for task in tasks.values() for line in needs.missing_weights(task, data)]
    yield from dict.fromkeys([*itertools.chain.from_iterable(missing.values()), *weights])
    waiting = [t for t in waiting if not missing[t.setting] or tasks[t.setting].tuning is not None]
    if waiting:
        seconds, memory = estimate(waiting, seconds_seen(journal), data, suite.gpus > 0)
        unit = "GPU" if suite.gpus else "core"
        yield (
            f"about {clock(seconds)} of one {unit} in training, {clock(seconds / slots)} on {slots} at a time, besides "
            f"source models and evaluation; a trial's step keeps up to {memory / 2**20:,.0f} MiB beside its model"
        )


def _missing(task: Task, data: Path) -> list[str]:
    """What a task's trials cannot be run without, or be counted; one line each with its remedy."""
    found = needs.missing_data(task, data)
    if not found and task.tuning is None:
        try:
            task.prepare(data)
        except UserError as error:
            return [str(error)]
    return found


def estimate(trials: Iterable[Trial], seen: Mapping[Kind, float], data: Path, gpu: bool) -> tuple[float, int]:
    """Training seconds of these trials, as ended ones of their kind took, else as counted; bytes that a step keeps."""
    known, total, memory = dict(seen), 0.0, 0
    counted: dict[Kind, tuple[float, int]] = {}
    for trial in trials:
        which = kind(trial)
        if which not in counted:
            counted[which] = _counted(trial, data, gpu)
        total += known.get(which, counted[which][0])
        memory = max(memory, counted[which][1])
    return total, memory


def _counted(trial: Trial, data: Path, gpu: bool) -> tuple[float, int]:
    """A trial's seconds at a rate that such machines reach, and bytes a step keeps; counted on tensors without data."""
    task = task_of(trial)
    method = method_of(trial)
    if method.update is None:
        return 0.0, 0
    with located(f"{trial.task} {trial.method}"):
        model = prepared(shape_of(task), method)
        try:
            chosen = [method.select(model, unloaded(), 0, generator(0, "estimate")).layers]
        except NoBatches:  # only data can tell which layer: the mean over all
            chosen = [(n,) for n in range(len(model))]
        costs = [_step(task, method, layers, trial.batch_size, data) for layers in chosen]
    per_operator, per_flop = GPU_SECONDS if gpu else CORE_SECONDS
    seconds = mean(c.operators * per_operator + c.flops * per_flop for c in costs)
    return seconds * trial.epochs * samples(trial, data) / trial.batch_size, max(c.kept_bytes for c in costs)


def _step(task: Task, method: Method, layers: Sequence[int], batch_size: int, data: Path) -> Cost:
    """What a step costs, counted once on a node: on tensors without data, where the model is not small."""
    assert method.update is not None
    shared, made = Shared.of(data), made_of((method.update, method.prepare), as_it_counts)
    sizes: list[str | int] = [task.model, task.classes, *task.input_shape, batch_size, *layers, method.rest]
    key = ["step", *sizes]
    if made is not None:
        key += [made.text, code_of_functions((MODELS.get(task.model), *made.functions)), str(torch.__version__)]
        if shared is not None and (found := shared.recall(key)) is not None:
            return Cost(**found)
    model, where = shape_of(task), "meta"
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        # torch takes longer to say what comes out of an operator than to compute it
        model, where = MODELS.get(task.model)(task.classes, task.input_shape).eval(), "cpu"
    x = torch.zeros(batch_size, *task.input_shape, device=where)
    y = torch.zeros(batch_size, dtype=torch.int64, device=where)
    cost = of_step(prepared(model, method), method.update, x, y, layers, 0, method.rest)
    if shared is not None and made is not None:
        shared.remember(key, cost._asdict())
    return cost


def samples(trial: Trial, data: Path) -> int:
    """How many images a trial tunes on."""
    task = task_of(trial)
    if task.tuning is not None:
        return task.tuning
    task.prepare(data)
    return len(task.splits(data, trial.variant, trial.seed).train)
