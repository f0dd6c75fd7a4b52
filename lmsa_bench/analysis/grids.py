"""Grids that go on where the best value is an end of them, so that no row loses by its grid."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lmsa_bench.analysis.selection import End, Part, choose, of_suite, outcomes
from lmsa_bench.trial.spec import Trial, Value

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Row, Suite  # imports torch, which no table needs

ENDED = ("finished", "diverged", "failed")


def reached(suite: "Suite", table: pa.Table) -> "Suite":
    """The suite with those trials alone that its extended grids have reached, by the records so far.

    A grid starts with its first values. Once these have ended and validation chooses the smallest or the largest, the
    next one on that side joins them, for that row, task and part of the cell, until the choice is inside or no further
    value is left.
    """
    if not suite.grows:
        return suite
    ends = outcomes(of_suite(suite, table))
    fixed = frozenset[str]().union(*(row.configurations for row in suite.rows if not row.start))
    left = {trial.id for trial in suite.trials if trial.configuration in fixed}
    for row in (row for row in suite.rows if row.start):
        parts = defaultdict[tuple[str, Part], dict[str, list[Trial]]](lambda: defaultdict(list))
        for trial in suite.trials:
            if trial.configuration in row.configurations:
                parts[trial.task, Part.of(trial, row.averaged)][trial.configuration].append(trial)
        for (task, _), configurations in parts.items():
            own = _reached(row, task, configurations, ends)
            left |= {trial.id for name in own for trial in configurations[name]}
    return replace(suite, trials=tuple(trial for trial in suite.trials if trial.id in left))


def _reached(
    row: "Row", task: str, configurations: Mapping[str, list[Trial]], ends: Mapping[str, End]
) -> dict[str, list[Trial]]:
    """The configurations of one part that its grids have reached."""
    start = {name: values for (where, name), values in row.start.items() if where == task}
    every = {name: sorted({ts[0].hparams[name] for ts in configurations.values()}, key=_number) for name in start}
    active = {name: set(values) for name, values in start.items()}
    while True:
        own = {
            name: trials
            for name, trials in configurations.items()
            if all(trials[0].hparams[axis] in values for axis, values in active.items())
        }
        ended = all(t.id in ends and ends[t.id].status in ENDED for trials in own.values() for t in trials)
        chosen = next(iter(choose(own, row.averaged, ends).values()), []) if ended else []
        before = {name: len(values) for name, values in active.items()}
        for name, values in active.items() if chosen else ():
            picked, known = every[name].index(chosen[0].hparams[name]), [every[name].index(v) for v in values]
            if picked == max(known) and picked + 1 < len(every[name]):
                values.add(every[name][picked + 1])
            if picked == min(known) and picked > 0:
                values.add(every[name][picked - 1])
        if before == {name: len(values) for name, values in active.items()}:
            return own


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
