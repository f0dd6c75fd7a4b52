"""What a row's accuracy owes to the number of configurations it tried, and what validation promised."""

from collections.abc import Sequence
from math import comb
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from lmsa_bench.analysis.selection import choose, of_trials, outcomes, tested

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs


class Budget(NamedTuple):
    """A row on a task; accuracies are fractions, means over the parts of its cell and over seeds."""

    row: str
    task: str
    expected: tuple[float, ...]  # test accuracy where 1, 2, … of its configurations are tried, drawn at random
    best: float  # of the test, had the test chosen
    promised: float  # the chosen configuration's accuracy on validation
    flops: tuple[float, ...]  # counted, of all that is tried at each of these budgets


class Tried(NamedTuple):
    """One configuration: means over seeds."""

    val_accuracy: float
    val_loss: float
    test_accuracy: float
    flops: float  # of training and selection, all seeds


def expected(tried: Sequence[Tried]) -> tuple[float, ...]:
    """The test accuracy of the best by validation among k configurations drawn without repetition, for each k.

    In closed form, after Dodge et al. (2019): the r-th best of n is the best of k with probability
    C(n - r, k - 1) / C(n, k).
    """
    ordered = sorted(tried, key=lambda one: (-one.val_accuracy, one.val_loss))
    n = len(ordered)
    return tuple(
        sum(comb(n - r, k - 1) * one.test_accuracy for r, one in enumerate(ordered, 1)) / comb(n, k)
        for k in range(1, n + 1)
    )


def budgets(suite: "Suite", table: pa.Table) -> list[Budget]:
    """Each row on each task where all its configurations have finished on all seeds."""
    table = of_trials(suite.needed, table)
    ends, tests = outcomes(table), tested(table)
    columns = table.select(["trial", "flops", "selection_flops", "state_flops", "epoch"]).to_pylist()
    counted: dict[str, int] = {}
    for one in columns:  # the first row of a trial also has what it counts once
        once = 0 if one["trial"] in counted else (one["selection_flops"] or 0) + (one["state_flops"] or 0)
        counted[one["trial"]] = counted.get(one["trial"], 0) + (one["flops"] or 0) + once
    found = []
    for row in suite.rows:
        for task in suite.tasks:
            own = dict[str, list[str]]()
            trials = [t for t in suite.trials if t.task == task and t.configuration in row.configurations]
            for trial in trials:
                own.setdefault(trial.configuration, []).append(trial.id)
            if not trials or any(trial.id not in tests for trial in trials):
                continue
            by = {name: [t for t in trials if t.configuration == name] for name in own}
            parts = choose(by, row.averaged, ends)
            curves, best, promised, costs = [], [], [], []
            for part, chosen in parts.items():
                names = [name for name, ts in by.items() if part == part.of(ts[0], row.averaged)]
                tried = [
                    Tried(
                        fmean(ends[t].val_accuracy for t in own[name]),
                        fmean(ends[t].val_loss for t in own[name]),
                        fmean(tests[t] for t in own[name]),
                        float(sum(counted[t] for t in own[name])),
                    )
                    for name in names
                ]
                curves.append(expected(tried))
                best.append(max(one.test_accuracy for one in tried))
                promised.append(fmean(ends[t.id].val_accuracy for t in chosen))
                costs.append(fmean(one.flops for one in tried))
            length = max(map(len, curves))  # a part that has tried all stays where it is
            flops = [(k + 1) * sum(costs) for k in range(length)]
            flops[-1] += sum(
                counted.get(t.id, 0) for t in suite.probes if t.task == task and t.configuration in row.configurations
            )
            found.append(
                Budget(
                    row.name,
                    task,
                    tuple(fmean(curve[min(k, len(curve) - 1)] for curve in curves) for k in range(length)),
                    fmean(best),
                    fmean(promised),
                    tuple(flops),
                )
            )
    return found
