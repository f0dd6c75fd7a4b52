"""Whether a suite's verdicts err as rarely as they say, and decide as often as the plan says, on simulated suites:

python docs/studies/calibration.py quickstart --seeds 10 --results results

A simulated replication is the mean of the measured ones plus their deviations, each times an independent standard
normal number: it has the measured covariance of all rows, configurations, and of validation with test.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.intervals import Level, differences, judge, power, prior
from lmsa_bench.analysis.replications import Replications
from lmsa_bench.analysis.resampling import Candidates, cells, choices, resamples, selection_variance
from lmsa_bench.analysis.selection import Part, of_suite, outcomes, tested
from lmsa_bench.analysis.sequential import hopeless, looks, step
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.load import load

DRAWS = 200  # resamples of a suite


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


def drawn(task: Task, n: int, suites: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Validation and test accuracies and validation losses of new replications, each (suites, n, columns)."""
    weights = draw.standard_normal((suites, n, len(task.val))) / np.sqrt(len(task.val) - 1)
    return [one.mean(0) + weights @ (one - one.mean(0)) for one in (task.val, task.test, task.loss)]


def cells_of(task: Task, val, test, loss, resampled):
    """Means (suites, rows), accuracies (suites, n, rows), selection variances (suites, pairs) of drawn replications."""
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
        anew.append(cells(candidates, resampled))
        alike.append(cells(candidates, resampled, best))
    stacked = np.stack(values, -1)
    return stacked.mean(1), stacked, selection_variance(np.stack(anew, -1), np.stack(alike, -1), n)


def study(tasks: list[Task], n: int, suites: int, margin: float) -> dict[str, float]:
    """Error, coverage and power of suites of n replications, whose truth is the mean over all of them."""
    draw = np.random.default_rng(n)
    made = [cells_of(task, *drawn(task, n, suites, draw), resamples(n, DRAWS, draw)) for task in tasks]
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
        decided.append([verdict != "unknown" for one in judged for verdict in one.verdicts])
        for one, truth in zip(judged, truths, strict=True):
            told = np.array(one.verdicts)
            contrary += int(((told == "better") & (one.mean * truth < 0)).sum())
            unequal += int(((told == "equal") & (np.abs(truth) > margin)).sum())
    chances = np.mean(decided, axis=0)  # of each comparison to be decided
    typical, promised = sorted(lent)[len(lent) // 2], []
    for (_, values, choice), truth in zip(made, truths, strict=True):
        deviations = np.sqrt(np.mean([_differences(*one).variance for one in zip(values, choice, strict=True)], 0))
        promised += [power(abs(t), d, n, typical, level, margin) for t, d in zip(truth, deviations, strict=True)]
    return {
        "n": n,
        "false better": wrong / suites,
        "coverage": held / suites,
        "decided": float(chances.mean()),
        "again": float((chances**2).sum() / chances.sum()),  # of a suite's verdicts, in another one
        "promised": float(np.mean(promised)),
        "wrong signs": contrary / suites,
        "wrong equals": unequal / suites,
        "lent": typical.df,
    }


def sequential(tasks: list[Task], first: int, most: int, suites: int, margin: float) -> dict[str, float]:
    """Error, length and power of suites that add replications until all is decided."""
    draw, planned = np.random.default_rng(0), looks(first, most)
    whole = [drawn(task, most, suites, draw) for task in tasks]
    made = [
        [cells_of(t, *(v[:, : look.n] for v in values), resamples(look.n, DRAWS, draw)) for look in planned]
        for t, values in zip(tasks, whole, strict=True)
    ]
    names = tuple(map(str, range(made[0][0][0].shape[1])))
    one, two = np.triu_indices(len(names), 1)
    truths = [[means.mean(0)[one] - means.mean(0)[two] for means, _, _ in of] for of in made]
    pairs, found = len(tasks) * len(one), []
    for null in (True, False):
        wrong, used, decided_share = 0, [], []
        for b in range(suites):
            sizes, decided = {(t.name, r): planned[0].n for t in tasks for r in names}, {}
            for k, look in enumerate(planned):
                gaps = [_differences(of[k][1][b], of[k][2][b]) for of in made]
                if null:
                    gaps = [g._replace(mean=g.mean - truth[k]) for g, truth in zip(gaps, truths, strict=True)]
                lent, alive = prior(gaps), set()
                for task, gap, truth in zip(tasks, gaps, truths, strict=True):
                    stub = Replications(task.name, names, (), gap.mean, gap.mean, gap.mean, None, gap.mean, ())
                    grown = [sizes[task.name, row] == look.n for row in names]
                    before = set(decided)
                    judged = judge(gap, lent, Level(pairs, look.alpha), margin)
                    still = step(stub, judged, grown, decided)
                    if k + 1 < len(planned):
                        last = Level(pairs, planned[-1].alpha)
                        for pair, rows in still.items():
                            if not hopeless(gap, pair, most, lent, last, margin):
                                alive |= {(task.name, row) for row in rows}
                    true = dict(zip(combinations(names, 2), np.zeros(len(one)) if null else truth[k], strict=True))
                    for key in set(decided) - before:
                        told, gained = decided[key].verdicts[0], true[key[1:]]
                        wrong_sign = told == "better" and decided[key].mean[0] * gained <= 0
                        decided[key] = decided[key]._replace(p=wrong_sign or (told == "equal" and abs(gained) > margin))
                if not alive:
                    break
                sizes |= {key: planned[k + 1].n for key in alive}
            wrong += any(bool(one.p) for one in decided.values())
            used.append(np.mean(list(sizes.values())))
            decided_share.append(len(decided) / pairs)
        found.append((wrong / suites, float(np.mean(used)), float(np.mean(decided_share))))
    (false, *_), (wrong, used, share) = found
    return {"false better": false, "wrong verdict": wrong, "replications": used, "decided": share}


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
    table = Journal(options.results).table()
    suite = reached(load(options.suite, options.seeds), table)
    tasks = measured(suite, table, [row for row in suite.rows if row.ranked])
    print(f"until decided, 3 to 20: {sequential(tasks, 3, 20, options.suites, suite.margin)}", flush=True)
    for n in options.sizes:
        found = study(tasks, n, options.suites, suite.margin)
        print(" | ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)


if __name__ == "__main__":
    main()
