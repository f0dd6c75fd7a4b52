"""Grids that go on where the best value is an end of them, so that no row loses by its grid.

The next value on that side is tried on the first replication alone. Where validation prefers it there, it joins the
grid on all replications; else the choice is no longer at an end, at a fraction of the cost.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lmsa_bench.analysis.selection import End, Part, choose, of_trials, outcomes, without
from lmsa_bench.trial.spec import Trial, Value

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs

ENDED = ("finished", "diverged", "failed")


def reached(suite: "Suite", table: pa.Table) -> "Suite":
    """The suite with those trials alone that its extended grids have reached, by the records so far."""
    return grown(suite, outcomes(of_trials(suite.needed, table))) if suite.grows else suite


def grown(suite: "Suite", ends: Mapping[str, End]) -> "Suite":
    """The suite with those trials alone that its extended grids have reached, by the trials that have ended.

    ``probes`` of it are the next values, tried on the first replication and not preferred there, or not yet ended.
    """
    every = suite.needed
    fixed = frozenset[str]().union(*(row.configurations for row in suite.rows if not row.start))
    joined, tried = {trial.id for trial in every if trial.configuration in fixed}, set[str]()
    for row, task, configurations in _parts(suite):
        start = {name: values for (where, name), values in row.start.items() if where == task}
        own, probes = _reached(start, configurations, row.averaged, ends)
        joined |= {trial.id for name in own for trial in configurations[name]}
        tried |= probes
    return replace(
        suite,
        trials=tuple(trial for trial in every if trial.id in joined),
        probes=tuple(trial for trial in every if trial.id in tried - joined),
    )


def awaited(suite: "Suite", reached: Container[str], ends: Container[str]) -> list[Trial]:
    """One trial like those that each extended grid may add once the ones it has ``reached`` have all ended.

    At least one is likely: where a grid has two values, the better one is an end of it.
    """
    found = []
    for _, _, configurations in _parts(suite):
        own = [trials for trials in configurations.values() if trials[0].id in reached]
        if len(own) < len(configurations) and not all(trial.id in ends for trials in own for trial in trials):
            found.append(own[0][0])
    return found


def _parts(suite: "Suite") -> "Iterator[tuple[Row, str, dict[str, list[Trial]]]]":
    """Each row with extended grids, a task, and the trials of a part of that cell by configuration."""
    for row in (row for row in suite.rows if row.start):
        parts = defaultdict[tuple[str, Part], dict[str, list[Trial]]](lambda: defaultdict(list))
        for trial in suite.needed:
            if trial.configuration in row.configurations:
                parts[trial.task, Part.of(trial, row.averaged)][trial.configuration].append(trial)
        for (task, _), configurations in parts.items():
            yield row, task, configurations


def _reached(
    start: Mapping[str, Sequence[Value]],
    configurations: Mapping[str, list[Trial]],
    averaged: tuple[str, ...],
    ends: Mapping[str, End],
) -> tuple[set[str], set[str]]:
    """The configurations of one part that its grids have reached, and the ids of the trials that try the next ones."""
    own = {name for name, ts in configurations.items() if all(ts[0].hparams[axis] in start[axis] for axis in start)}
    probes = set[str]()
    while True:
        trials = {name: configurations[name] for name in own}
        if not all(t.id in ends and ends[t.id].status in ENDED for ts in trials.values() for t in ts):
            return own, probes
        chosen = next(iter(choose(trials, averaged, ends).values()))
        better = set[str]()
        for name in _next_to(chosen, start, configurations) if chosen else ():
            if name not in own:
                first = {chosen[0].configuration: chosen[:1], name: configurations[name][:1]}
                probes.add(first[name][0].id)
                better |= {name} & {ts[0].configuration for ts in choose(first, averaged, ends).values()}
        if not better:
            return own, probes
        own |= better


def _next_to(chosen: Sequence[Trial], axes: Iterable[str], configurations: Mapping[str, list[Trial]]) -> Iterator[str]:
    """The configurations that differ from the chosen one in one extended hyper-parameter, by one step."""
    for axis in axes:
        alike = {name: ts for name, ts in configurations.items() if without(ts[0], axis) == without(chosen[0], axis)}
        line = sorted(alike, key=lambda name: _number(alike[name][0].hparams[axis]))
        at = line.index(chosen[0].configuration)
        yield from (*line[max(0, at - 1) : at], *line[at + 1 : at + 2])


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
