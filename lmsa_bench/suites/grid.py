"""The grid of a row: values of its hyper-parameters, and how they go on where the best one is at an end."""

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, get_type_hints

from annotated_types import Gt, Len

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.suites.rehearsal import hints_of
from lmsa_bench.suites.strict_yaml import check, checked_fields, refuse_empty
from lmsa_bench.trial.spec import Value

MOST_TRIALS = 100_000
MOST_STEPS = 3  # by which a grid is extended on a side
_AXIS: dict[str, Any] = {
    "start": (list[Any],),
    "extend": (Annotated[float, Gt(1)],),  # the factor to the next value, where the best one is at an end
    "bounds": (Annotated[list[float], Len(2, 2)], None),
}


def combinations(factory: Callable[..., Any], grid: Mapping[str, Any], where: str) -> Iterator[dict[str, Value]]:
    """Every combination of the values, each a full set of the factory's hyper-parameters."""
    parameters, hints = inspect.signature(factory).parameters, hints_of(factory, where)
    for name in grid:
        if name not in parameters:
            raise UserError(
                f"{where}: {factory.__name__} has no hyper-parameter {name!r}: {nearest(str(name), parameters)}"
            )
    axes = []
    for name, parameter in parameters.items():
        if name not in grid:
            if parameter.default is inspect.Parameter.empty:
                raise UserError(f"{where}: {factory.__name__} needs a value of {name!r}")
            axes.append([parameter.default])
            continue
        axes.append([*_axis(grid[name], hints[name], f"{where}.{name}")])
    if math.prod(map(len, axes)) > MOST_TRIALS:
        raise UserError(f"{where}: has more than {MOST_TRIALS} combinations; make it smaller")
    for values in itertools.product(*axes):
        yield dict(zip(parameters, values, strict=True))


def extended(grid: Mapping[str, Any], factors: Mapping[str, float]) -> dict[str, Any]:
    """The grid in which every list of values of these hyper-parameters goes on by its factor; one value stays alone."""
    return {
        name: {"start": given, "extend": factors[name]} if name in factors and isinstance(given, list) else given
        for name, given in grid.items()
    }


def starts(
    factory: Callable[..., Any], grid: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], tasks: Iterable[str]
) -> dict[tuple[str, str], tuple[Value, ...]]:
    """The first values of a row's extended grids, by task and hyper-parameter; ``own`` are the tasks' own grids."""
    hints = get_type_hints(factory, include_extras=True)
    return {
        (task, name): tuple(value for value, first in _axis(given, hints[name], name).items() if first)
        for task in tasks
        for name, given in (dict(grid) | dict(own.get(task, {}))).items()
        if isinstance(given, dict)
    }


def _axis(given: Any, hint: Any, where: str) -> dict[Value, bool]:
    """The values of a hyper-parameter, and whether each is one that its grid starts with; raises UserError."""
    fields = checked_fields(given, _AXIS, where) if isinstance(given, dict) else {"start": given, "extend": None}
    values = fields["start"] if isinstance(fields["start"], list) else [fields["start"]]
    refuse_empty(values, where)
    found: dict[Value, bool] = {check(value, hint, where): True for value in values}
    if (factor := fields["extend"]) is None:
        return found
    numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool) and value > 0]
    if len(numbers) < len(found):
        raise UserError(f"{where}: extend: only numbers above 0 can be extended")
    low, high = fields["bounds"] or (0.0, math.inf)
    if low > min(numbers) or high < max(numbers):
        raise UserError(f"{where}: bounds: {fields['bounds']} do not hold the start {values}")
    for value, step in ((max(numbers), factor), (min(numbers), 1 / factor)):
        for _ in range(MOST_STEPS):
            value = type(value)(f"{value * step:.0f}" if type(value) is int else f"{value * step:.12g}")
            try:
                if not low <= value <= high:
                    break
                found.setdefault(check(value, hint, where), False)
            except UserError:  # out of the hyper-parameter's own range
                break
    return found
