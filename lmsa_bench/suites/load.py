"""From a YAML file of tune_configs/ to a checked list of trials."""

import hashlib
import inspect
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import Gt, Le
from pydantic import StringConstraints

from lmsa_bench.control import CRITERIA
from lmsa_bench.errors import UserError, nearest
from lmsa_bench.methods import METHODS, Averaged, Count, NonNegative
from lmsa_bench.models.weights import PUBLISHED, content_of
from lmsa_bench.suites import grid
from lmsa_bench.suites.grid import MOST_TRIALS
from lmsa_bench.suites.plugins import import_plugin, located
from lmsa_bench.suites.rehearsal import hints_of, rehearsed, shape_of
from lmsa_bench.suites.spec import DEFAULT_FIGURES, Row, Suite, TaskFacts, file_of
from lmsa_bench.suites.strict_yaml import check, checked_fields, parse, refuse_empty
from lmsa_bench.tasks import TASKS, build
from lmsa_bench.tasks.task import Task, Variants
from lmsa_bench.trial.arithmetic import Choice
from lmsa_bench.trial.spec import Int64, Trial, Value, canonical

MOST_SEEDS = 10_000
MOST_SECONDS = 10_000_000  # of a timeout


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
# Field by field: its type, and its default where it may be left out.
_SUITE: dict[str, Any] = {
    "suite": (Name,),
    "tasks": (list[str], ()),
    "rows": (dict[Name, Any], {}),
    "seeds": (Annotated[int, Gt(0), Le(MOST_SEEDS)] | list[Int64], 3),
    "epochs": (Count, 10),
    "batch_size": (Count, 64),
    "extend": (dict[str, Annotated[float, Gt(1)]], {}),  # by hyper-parameter: the factor by which its lists go on
    "curves": (bool, False),
    "figures": (list[str], DEFAULT_FIGURES),
    "plugins": (list[str], ()),
    "resources": (dict[str, Any], {}),
    "task_options": (dict[str, dict[str, Any]], {}),
    "weights": (dict[str, str], {}),
    "sources": (Literal["one", "each"], "each"),  # where source models are trained here; given weights are one
    "logit_margins": (bool, False),  # keep how far each test image is from a mistake
    "arithmetic": (list[Choice], ()),  # what trials trade for speed
    "margin": (Annotated[NonNegative, Le(100)], 1.0),  # of practical equivalence, in points of accuracy
}
_ROW: dict[str, Any] = {
    "method": (str, None),
    "grid": (dict[str, Any], {}),
    "epochs": (Count, None),
    "tasks": (list[str], None),
    "ranked": (bool, None),  # default: the first row of its method, of which others are variants
    "each": (str | list[str], []),
    "truth": (bool, False),
    "task_grids": (dict[str, dict[str, Any]], {}),
}
_RESOURCES: dict[str, Any] = {
    "cpu": (NonNegative, 1),
    "gpu": (NonNegative, 0),
    "timeout": (Annotated[NonNegative, Le(MOST_SECONDS)], 3600),
}


def load(name: str, seeds: int | None = None) -> Suite:
    """The suite of that name or YAML file, with the first ``seeds`` seeds in place of its own; raises UserError."""
    path = file_of(name)
    raw = checked_fields(parse(path), _SUITE, f"{path}")
    where = f"{path}: "
    for plugin in raw["plugins"]:
        import_plugin(_beside(path, plugin))
    drawn = raw["seeds"] if seeds is None else seeds
    numbers = drawn if isinstance(drawn, list) else list(range(drawn))
    refuse_empty(numbers, f"{where}seeds")
    if raw["tasks"] or raw["rows"]:
        refuse_empty(raw["tasks"], f"{where}tasks")
        refuse_empty(raw["rows"], f"{where}rows")
    resources = checked_fields(raw["resources"], _RESOURCES, f"{where}resources")
    tasks = _tasks(raw, path)
    rows, trials, methods = list[Row](), dict[str, Trial](), set[str]()
    for row_name, content in raw["rows"].items():
        at = f"{where}rows.{row_name}"
        fields = checked_fields({} if content is None else content, _ROW, at)
        fields |= {
            "grid": grid.extended(fields["grid"], raw["extend"]),
            "task_grids": {task: grid.extended(own, raw["extend"]) for task, own in fields["task_grids"].items()},
        }
        most = MOST_TRIALS // len(numbers)
        own = list(itertools.islice(_trials(row_name, fields, raw, tasks, at), most + 1))
        method = fields["method"] or row_name
        averaged = _averaged(METHODS.get(method))
        ranked = method not in methods if fields["ranked"] is None else fields["ranked"]
        methods.add(method)
        for each, some in _each(fields["each"], own, f"{at}.each").items():
            name = "_".join(
                [row_name, *(f"{value:g}" if isinstance(value, float) else str(value) for _, value in each)]
            )
            if name in [row.name for row in rows]:
                raise UserError(f"{at}: there is another row {name!r}; name this one otherwise")
            names = [task.name for task, _, _ in tasks]
            start = grid.starts(METHODS.get(method), fields["grid"], fields["task_grids"], names)
            if split := {axis for _, axis in start} & {axis for axis, _ in each}:
                raise UserError(f"{at}.each: {', '.join(sorted(split))}: an extended grid has no rows of its own")
            ids = frozenset(t.configuration for t in some)
            rows.append(Row(name, ranked, averaged, ids, each, fields["truth"], start))
        if len(own) <= most:
            trials |= {t.id: t for base in own for t in map(base.with_seed, numbers)}
        if len(own) > most or len(trials) > MOST_TRIALS:
            raise UserError(f"{at}: the suite has more than {MOST_TRIALS} trials; make its grids smaller")
    return Suite(
        raw["suite"],
        tuple(dict.fromkeys(raw["tasks"])),
        tuple(rows),
        tuple(trials.values()),
        tuple(str(_beside(path, plugin)) for plugin in raw["plugins"]),
        resources["cpu"],
        resources["gpu"],
        resources["timeout"],
        hashlib.sha256(canonical(raw).encode()).hexdigest()[:16],
        tuple(dict.fromkeys(raw["figures"])),
        str(path),
        margin=raw["margin"] / 100,
        facts={task.name: _facts(task) for task, _, _ in tasks},
        criteria=tuple(CRITERIA.names()),
    )


def _facts(task: Task) -> TaskFacts:
    model = shape_of(task)
    layers = {layer: sum(p.numel() for p in model.parameters_of(n)) for n, layer in enumerate(model.names)}
    total = sum(parameter.numel() for parameter in model.parameters())
    return TaskFacts(task.shift, task.model, total, layers, task.model in PUBLISHED)


def _beside(path: Path, plugin: str) -> str:
    return str((path.parent / plugin).resolve()) if plugin.endswith(".py") else plugin


def _each(names: str | list[str], trials: list[Trial], where: str) -> dict[tuple[tuple[str, Value], ...], list[Trial]]:
    """The trials by their values of the hyper-parameters with these names; raises UserError at an unknown one."""
    found: dict[tuple[tuple[str, Value], ...], list[Trial]] = {}
    for trial in trials:
        for name in (names := [names] if isinstance(names, str) else names):
            if name not in trial.hparams:
                raise UserError(f"{where}: {trial.method} has no {name!r}: {nearest(name, trial.hparams)}")
        found.setdefault(tuple((name, trial.hparams[name]) for name in names), []).append(trial)
    return found


def _averaged(factory: Callable[..., Any]) -> tuple[str, ...]:
    hints = get_type_hints(factory, include_extras=True)
    return tuple(name for name, hint in hints.items() if Averaged in get_args(hint))


def _tasks(suite: Mapping[str, Any], path: Path) -> list[tuple[Task, dict[str, Any], str]]:
    """The suite's tasks, each with its complete options and the name of the one that lists its variants, or ""."""
    for name in suite["task_options"]:
        if name not in suite["tasks"]:
            raise UserError(f"{path}: task_options: {name!r} is not one of the tasks: {nearest(name, suite['tasks'])}")
    found = []
    for name in dict.fromkeys(suite["tasks"]):
        try:
            factory = TASKS.get(name)
        except UserError as error:
            raise UserError(f"{path}: tasks: {error}") from None
        where = f"{path}: task_options.{name}"
        options = _options(factory, suite["task_options"].get(name, {}), where)
        with located(where):
            task = build(name, options)
            shape_of(task)
            refuse_empty(task.variants, "its list of variants")
        source = suite["weights"].get(task.model, task.source.weights)
        file = source if source in ("pretrain", "hub") else str((path.parent / os.path.expanduser(source)).resolve())
        hints = get_type_hints(factory, include_extras=True)
        variants = next((option for option, hint in hints.items() if Variants in get_args(hint)), "")
        found.append((build(name, options, file), options, variants))
    for model in suite["weights"]:
        if model not in (known := [task.model for task, _, _ in found]):
            raise UserError(f"{path}: weights: {model!r} is not a model of the suite: {nearest(model, known)}")
    return found


def _options(factory: Callable[..., Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The complete options of a task's factory, each of its type; raises UserError."""
    parameters, hints = inspect.signature(factory).parameters, hints_of(factory, where)
    for name in given:
        if name not in parameters:
            raise UserError(f"{where}: unknown option {name!r}: {nearest(name, parameters)}")
    return {
        name: check(given[name], hints[name], f"{where}.{name}") if name in given else parameter.default
        for name, parameter in parameters.items()
    }


def _trials(
    row: str,
    fields: Mapping[str, Any],
    suite: Mapping[str, Any],
    tasks: Collection[tuple[Task, dict[str, Any], str]],
    where: str,
) -> Iterator[Trial]:
    """The row's trials at seed 0: its tasks x their variants x its grid."""
    name = fields["method"] or row
    try:
        factory = METHODS.get(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for key in ("tasks", "task_grids"):
        for task_name in fields[key] or ():
            if task_name not in suite["tasks"]:
                known = nearest(task_name, suite["tasks"])
                raise UserError(f"{where}.{key}: {task_name!r} is not one of the suite's: {known}")
    if fields["tasks"] is not None:
        refuse_empty(fields["tasks"], f"{where}.tasks")
    for task, options, variants in tasks:
        if fields["tasks"] is not None and task.name not in fields["tasks"]:
            continue
        own = fields["task_grids"].get(task.name, {})
        for hparams in grid.combinations(
            factory, fields["grid"] | own, f"{where}.task_grids.{task.name}" if own else f"{where}.grid"
        ):
            trains = rehearsed(factory, hparams, task, f"{where}: {name}").update is not None
            for variant in task.variants:
                yield Trial(
                    task.name,
                    variant,
                    name,
                    hparams,
                    0,
                    (fields["epochs"] or suite["epochs"]) if trains else 0,
                    suite["batch_size"],
                    suite["curves"],
                    options=options | ({variants: [variant]} if variants else {}),
                    weights=task.source.weights,
                    weights_sha256=content_of(task.source.weights),
                    sources=suite["sources"] if task.source.weights == "pretrain" else "one",
                    logit_margins=suite["logit_margins"],
                    arithmetic="+".join(sorted(set(suite["arithmetic"]))),
                )
