"""Whether a suite's verdicts err as rarely as they say, and decide as often as the plan says, on simulated suites:

python studies/calibration.py quickstart --seeds 10 --results results

A simulated replication is the mean of the measured ones plus their deviations, each times an independent standard
normal number: it has the measured covariance of all rows, configurations, and of validation with test.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmsa_bench.analysis.intervals import Level, differences, judge, power, prior
from lmsa_bench.analysis.resampling import Candidates, cells, choices, resamples, selection_variance
from lmsa_bench.analysis.selection import Part, of_suite, outcomes, tested
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.load import load


@dataclass
class Task:
    """What was measured on a task: validation and test accuracies (seeds, columns), a column a configuration."""

    name: str
    val: np.ndarray
    test: np.ndarray
    loss: np.ndarray  # of validation
    rows: list[list[list[int]]]  # of each row the parts, and of each part its columns


def measured(suite, table, rows) -> list[Task]:
    """The tasks of a sweep."""
    table = of_suite(suite, table)
    ends, tests = outcomes(table), tested(table)
    found = []
    for task in suite.tasks:
        columns, made = [], []
        for row in rows:
            parts = defaultdict(dict)
            for trial in suite.trials:
                if trial.task == task and trial.configuration in row.configurations:
                    parts[Part.of(trial, row.averaged)].setdefault(trial.configuration, []).append(trial)
            made.append([])
            for configurations in parts.values():
                made[-1].append(list(range(len(columns), len(columns) + len(configurations))))
                columns += [sorted(trials, key=lambda trial: trial.seed) for trials in configurations.values()]
        val = np.array([[ends[trial.id].val_accuracy for trial in trials] for trials in columns]).T
        test = np.array([[tests[trial.id] for trial in trials] for trials in columns]).T
        loss = np.array([[ends[trial.id].val_loss for trial in trials] for trials in columns]).T
        found.append(Task(task, val, test, loss, made))
    return found


def simulated(task: Task, n: int, suites: int, draw: np.random.Generator, draws: int = 200):
    """Means (suites, rows), accuracies (suites, n, rows), selection variances (suites, pairs) of new replications."""
    seeds = len(task.val)
    weights = draw.standard_normal((suites, n, seeds)) / np.sqrt(seeds - 1)
    val, test, loss = (one.mean(0) + weights @ (one - one.mean(0)) for one in (task.val, task.test, task.loss))
    return cells_of(task, val, test, loss, resamples(n, draws, draw))


def cells_of(task: Task, val, test, loss, drawn):
    """The same of given accuracies (suites, n, columns)."""
    n, values, anew, alike = val.shape[1], [], [], []
    for parts in task.rows:
        candidates = [
            Candidates(val[..., p], np.maximum(loss[..., p], 0), test[..., p], np.zeros((n, len(p)), bool))
            for p in parts
        ]
        best = [choices(one, np.ones((1, n))) for one in candidates]
        picked = [
            np.take_along_axis(one.test_accuracy, b[..., None], 2)[..., 0]
            for one, b in zip(candidates, best, strict=True)
        ]
        values.append(np.mean(picked, 0))
        anew.append(cells(candidates, drawn))
        alike.append(cells(candidates, drawn, best))
    stacked = np.stack(values, -1)
    return stacked.mean(1), stacked, selection_variance(np.stack(anew, -1), np.stack(alike, -1), n)


def study(tasks: list[Task], n: int, suites: int, margin: float) -> dict[str, float]:
    """Error, coverage and power of suites of n replications, whose truth is the mean over all of them."""
    draw = np.random.default_rng(n)
    made = [simulated(task, n, suites, draw) for task in tasks]
    first, second = np.triu_indices(made[0][0].shape[1], 1)
    truths = [means.mean(0)[first] - means.mean(0)[second] for means, _, _ in made]
    level = Level(sum(map(len, truths)))
    wrong = held = contrary = unequal = 0
    decided, lent = [], []
    for b in range(suites):
        found = [_differences(values[b], choice[b]) for _, values, choice in made]
        lent.append(prior(found))
        judged = [judge(one, lent[-1], level, margin) for one in found]
        # Had no row any advantage, its differences would be these, and any verdict "better" false.
        null = [one._replace(mean=one.mean - truth) for one, truth in zip(found, truths, strict=True)]
        wrong += any("better" in judge(one, lent[-1], level, margin).verdicts for one in null)
        held += all((np.abs(o.mean - truth) <= o.half).all() for o, truth in zip(judged, truths, strict=True))
        for one, truth in zip(judged, truths, strict=True):
            told = np.array(one.verdicts)
            decided.append(told != "unknown")
            contrary += int(((told == "better") & (one.mean * truth < 0)).sum())
            unequal += int(((told == "equal") & (np.abs(truth) > margin)).sum())
    typical, promised = sorted(lent)[len(lent) // 2], []
    for (_, values, choice), truth in zip(made, truths, strict=True):
        deviations = np.sqrt(np.mean([_differences(*one).variance for one in zip(values, choice, strict=True)], 0))
        promised += [power(abs(t), d, n, typical, level, margin) for t, d in zip(truth, deviations, strict=True)]
    return {
        "n": n,
        "false better": wrong / suites,
        "coverage": held / suites,
        "decided": float(np.concatenate(decided).mean()),
        "promised": float(np.mean(promised)),
        "wrong signs": contrary / suites,
        "wrong equals": unequal / suites,
        "lent": typical.df,
    }


def _differences(values, choice):
    found = differences(values)
    return found._replace(variance=found.variance + found.n * choice)


def main() -> None:
    """Prints a line a number of replications."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--suites", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2, 3, 5, 10, 20])
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    suite, table = load(options.suite, options.seeds), Journal(options.results).table()
    tasks = measured(suite, table, [row for row in suite.rows if row.ranked])
    for n in options.sizes:
        found = study(tasks, n, options.suites, suite.margin)
        print(" | ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)


if __name__ == "__main__":
    main()
