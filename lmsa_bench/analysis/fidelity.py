"""How well a criterion, before any training, names the layer that is best to tune alone."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

from lmsa_bench.analysis.measures import Measures, Truth
from lmsa_bench.analysis.ranks import Interval, t_interval
from lmsa_bench.analysis.report import Section
from lmsa_bench.analysis.text import aligned

RANDOM = "(random layer)"  # what choosing by lot would come to, on average
OVERALL = "all tasks"

T = TypeVar("T")


class Judgement(NamedTuple, Generic[T]):
    """One criterion against the truth at one variant and seed; 0 is a perfect regret, 1 all else."""

    regret: T  # test accuracy of the best layer minus that of the chosen one, a fraction
    hit: T  # 1 where the chosen layer's test accuracy is the best
    spearman_accuracy: T  # of the scores with the test accuracies, 1 where they order the layers alike
    spearman_loss: T  # the same with the tuning losses after training
    regret_loss: T  # tuning loss after training of the chosen layer minus that of the best one, nats


class Mean(NamedTuple):
    mean: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Fidelity:
    """Each criterion's judgements: for a task the means over seeds, OVERALL over all (task, seed) pairs."""

    tasks: tuple[str, ...]
    criteria: tuple[str, ...]  # by overall regret, then by overall rank correlation with the test accuracy
    means: Mapping[tuple[str, str], Judgement[Mean]]  # (criterion, task or OVERALL)
    chosen: Mapping[tuple[str, str], Mapping[int, int]]  # (criterion, task) -> layer -> how often; RANDOM has none
    best: Mapping[str, Mapping[int, int]]  # task -> layer -> how often it was best on the test
    costs: Mapping[str, float]  # criterion -> mean over all places, in epochs of tuning all layers


def judge(badness: Sequence[float], truth: Truth) -> Judgement[float]:
    """Compares scores of which the smallest is chosen (the first of equal ones) with what each layer is worth."""
    chosen = min(range(len(badness)), key=badness.__getitem__)
    return Judgement(
        max(truth.accuracies) - truth.accuracies[chosen],
        float(truth.accuracies[chosen] == max(truth.accuracies)),
        _spearman(badness, [-accuracy for accuracy in truth.accuracies]),
        _spearman(badness, truth.losses),
        truth.losses[chosen] - min(truth.losses),
    )


def by_lot(truth: Truth) -> Judgement[float]:
    """The expectation of a judgement on scores drawn at random."""
    layers = len(truth.losses)
    hits = truth.accuracies.count(max(truth.accuracies)) / layers
    regret_loss = fmean(truth.losses) - min(truth.losses)
    return Judgement(max(truth.accuracies) - fmean(truth.accuracies), hits, 0.0, 0.0, regret_loss)


def fidelity(measures: Measures) -> Fidelity:
    """Judges all rows of a suite that only score layers by those that tune one layer alone."""
    places: dict[tuple[str, str], dict[int, list[Judgement[float]]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[str, list[float]] = defaultdict(list)
    chosen: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    best: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    tasks = []
    for task in measures.suite.tasks:
        truths, criteria = measures.truths(task), measures.criteria(task)
        common = set(truths).intersection(*criteria.values()) if criteria else set()
        if common:
            tasks.append(task)
        for name, by_place in measures.costs(task).items():
            costs[name] += [by_place[place] for place in sorted(common) if place in by_place]
        for variant, seed in sorted(common):
            truth = truths[variant, seed]
            best[task][truth.accuracies.index(max(truth.accuracies))] += 1
            places[RANDOM, task][seed].append(by_lot(truth))
            for name, scored in criteria.items():
                trial = scored[variant, seed]
                places[name, task][seed].append(judge(trial.badness, truth))
                chosen[name, task][trial.layers[0]] += 1
    pooled: dict[str, list[Judgement[float]]] = defaultdict(list)
    means = {}
    for (name, task), seeds in places.items():
        by_seed = [Judgement(*map(fmean, zip(*judged, strict=True))) for judged in seeds.values()]
        means[name, task] = _means(by_seed)
        pooled[name] += by_seed
    # A criterion that a task lacks is not comparable overall.
    for name, judged in pooled.items():
        if all((name, task) in places for task in tasks):
            means[name, OVERALL] = _means(judged)

    def order(name: str) -> tuple[float, float]:
        overall = means.get((name, OVERALL))
        return (overall.regret.mean, -overall.spearman_accuracy.mean) if overall else (math.inf, 0.0)

    mean_costs = {name: fmean(values) for name, values in costs.items() if values}
    return Fidelity(tuple(tasks), tuple(sorted(pooled, key=order)), means, chosen, best, mean_costs)


def section(measures: Measures) -> Section:
    """The judgements as text and as JSON."""
    found = fidelity(measures)
    if not found.tasks:
        return Section("fidelity", ["Fidelity: no criterion has a complete truth to be judged by yet."], {})
    n = max(found.means[name, OVERALL].regret.n for name in found.criteria if (name, OVERALL) in found.means)
    lines = [
        f"Fidelity: which layer a criterion names before any training, judged by tuning each layer alone (n = {n}",
        "(task, seed) pairs, so it speaks of these tasks; ± half width of the 95 % t interval; best regret first)",
        "",
    ]
    header = ["criterion", "regret (points)", "top-1 hit (%)", "Spearman accuracy", "Spearman loss", "regret (nats)"]
    header += ["cost (epochs)"] * bool(found.costs)
    scales = (100, 100, 1, 1, 1)
    table = [header]
    for name in found.criteria:
        if (overall := found.means.get((name, OVERALL))) is not None:
            digits = (1, 0, 2, 2, 3)
            free = "0.00" if name == RANDOM else "-"
            cost = [f"{found.costs[name]:.2f}" if name in found.costs else free] * bool(found.costs)
            table.append([name, *(_shown(*cell) for cell in zip(overall, scales, digits, strict=True)), *cost])
    lines += aligned(table)
    lines += ["", "Regret in points of test accuracy, and the layer it chose most often", ""]
    table = [["criterion", *found.tasks]]
    for name in found.criteria:
        cells = []
        for task in found.tasks:
            cell = found.means.get((name, task))
            layers = _most(found.chosen[name, task]) if (name, task) in found.chosen else ""
            cells.append(f"{_shown(cell.regret, 100, 1)} {layers}".strip() if cell else "-")
        table.append([name, *cells])
    table.append(["best layer", *(_most(found.best[task]) for task in found.tasks)])
    lines += aligned(table)
    document = {
        "criteria": [
            {
                "criterion": name,
                "cost_epochs": found.costs.get(name),
                "tasks": {
                    task: {measure: mean._asdict() for measure, mean in found.means[name, task]._asdict().items()}
                    | {"chosen": dict(sorted(found.chosen.get((name, task), {}).items()))}
                    for task in (*found.tasks, OVERALL)
                    if (name, task) in found.means
                },
            }
            for name in found.criteria
        ],
        "best_layers": {task: dict(sorted(layers.items())) for task, layers in found.best.items()},
    }
    return Section("fidelity", lines, document)


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant and so orders nothing."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return 0.0
    from scipy import stats  # takes a second

    return float(stats.spearmanr(a, b).statistic)


def _means(judged: Iterable[Judgement[float]]) -> Judgement[Mean]:
    columns = [list(column) for column in zip(*judged, strict=True)]
    return Judgement(*(Mean(fmean(values), t_interval(values), len(values)) for values in columns))


def _shown(cell: Mean, scale: float, digits: int) -> str:
    half = f" ± {scale * cell.interval.half_width:.{digits}f}" if cell.interval else ""
    return f"{scale * cell.mean:.{digits}f}{half}"


def _most(counts: Mapping[int, int]) -> str:
    most = max(counts.values())
    layers = "|".join(str(layer) for layer, count in sorted(counts.items()) if count == most)
    return f"[{layers}: {most}/{sum(counts.values())}]"
