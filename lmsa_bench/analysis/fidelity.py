"""How well a criterion, before any training, names the layer, or the set of layers, that is best to tune alone."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance
from textwrap import wrap
from typing import Any, Generic, NamedTuple, TypeVar

from lmsa_bench.analysis.intervals import Level
from lmsa_bench.analysis.measures import Layers, Measures, Truth, subsets
from lmsa_bench.analysis.ranks import FEWEST, Interval, t_interval
from lmsa_bench.analysis.report import Section
from lmsa_bench.analysis.text import aligned

RANDOM = "(random layer)"  # what choosing by lot would come to, on average
OVERALL = "all tasks"
WIDTH = 118  # of lines of text

T = TypeVar("T")


class Judgement(NamedTuple, Generic[T]):
    """One criterion against the truth at one variant and seed; 0 is a perfect regret, 1 all else."""

    regret: T  # test accuracy of the best layer (or set of layers) minus that of the chosen one, a fraction
    hit: T  # 1 where the chosen one's test accuracy is the best
    spearman_accuracy: T  # of the scores with the test accuracies, 1 where they order the layers alike
    spearman_loss: T  # the same with the tuning losses after training
    regret_loss: T  # tuning loss after training of the chosen layer minus that of the best one, nats


class Mean(NamedTuple):
    mean: float
    interval: Interval | None
    n: int


class Lead(NamedTuple):
    """How much less one criterion loses than another, over all tasks; the half widths of all leads hold together."""

    better: str
    worse: str
    mean: float  # difference of regrets, a fraction
    here: float | None  # half width on these tasks, whose replications vary; None where one has a single replication
    beyond: float | None  # half width for tasks like these, which vary as well; None for a single task


@dataclass(frozen=True)
class Fidelity:
    """Each criterion's judgements: for a task the means over seeds, OVERALL over all (task, seed) pairs."""

    tasks: tuple[str, ...]
    criteria: tuple[str, ...]  # by overall regret, then by overall rank correlation with the test accuracy
    means: Mapping[tuple[str, str], Judgement[Mean]]  # (criterion, task or OVERALL)
    chosen: Mapping[tuple[str, str], Mapping[Layers, int]]  # (criterion, task) -> layers -> how often; none of RANDOM
    best: Mapping[str, Mapping[Layers, int]]  # task -> layers -> how often they were best on the test
    costs: Mapping[str, float]  # criterion -> mean over all places, in epochs of tuning all layers
    agreement: Mapping[str, float]  # criterion -> share of the pairs of a place's replications that name the same
    leads: tuple[Lead, ...]  # of all pairs of criteria that have all tasks
    gains: Mapping[str, Mean]  # task or OVERALL -> accuracy of the best set above that of the best layer, a fraction


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


def of_subsets(badness: Sequence[float], size: int) -> list[float]:
    """What scores say of each set of so many layers: the mean rank of its members, smallest for the best-scored."""
    ranks = [sum(b < own for b in badness) + (badness.count(own) - 1) / 2 for own in badness]
    return [fmean(ranks[n] for n in layers) for layers in subsets(len(badness), size)]


def fidelity(measures: Measures, size: int = 1) -> Fidelity:
    """Judges all rows of a suite that only score layers by those that tune one layer, or one set of ``size``, alone."""
    places: dict[tuple[str, str], dict[int, list[Judgement[float]]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[str, list[float]] = defaultdict(list)
    chosen: dict[tuple[str, str], dict[Layers, int]] = defaultdict(lambda: defaultdict(int))
    named: dict[str, dict[tuple[str, str], list[Layers]]] = defaultdict(lambda: defaultdict(list))
    best: dict[str, dict[Layers, int]] = defaultdict(lambda: defaultdict(int))
    gains: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    tasks = []
    for task in measures.suite.tasks:
        alone, truths, sets = measures.truths(task), measures.truths(task, size), list(measures.layers(task, size))
        criteria = {
            name: scored
            for name, scored in measures.criteria(task).items()
            if all(math.comb(len(m.badness), size) == len(sets) for m in scored.values())  # else a truth lacks layers
        }
        common = set(truths).intersection(*criteria.values()) if criteria else set()
        if common:
            tasks.append(task)
        for name, by_place in measures.costs(task).items():
            costs[name] += [by_place[place] for place in sorted(common) if place in by_place]
        for variant, seed in sorted(common):
            truth = truths[variant, seed]
            most = max(truth.accuracies)
            best[task][sets[truth.accuracies.index(most)]] += 1
            if (variant, seed) in alone:
                gains[task][seed].append(most - max(alone[variant, seed].accuracies))
            places[RANDOM, task][seed].append(by_lot(truth))
            for name, scored in criteria.items():
                badness = of_subsets(scored[variant, seed].badness, size)
                layers = sets[badness.index(min(badness))]
                places[name, task][seed].append(judge(badness, truth))
                chosen[name, task][layers] += 1
                named[name][task, variant].append(layers)
    pooled: dict[str, list[Judgement[float]]] = defaultdict(list)
    regrets: dict[str, dict[str, list[float]]] = defaultdict(dict)
    means = {}
    for (name, task), seeds in places.items():
        by_seed = [Judgement(*map(fmean, zip(*judged, strict=True))) for judged in seeds.values()]
        means[name, task] = _means(by_seed)
        pooled[name] += by_seed
        regrets[name][task] = [judged.regret for judged in by_seed]
    # A criterion that a task lacks is not comparable overall.
    for name, judged in pooled.items():
        if all((name, task) in places for task in tasks):
            means[name, OVERALL] = _means(judged)

    def order(name: str) -> tuple[float, float]:
        overall = means.get((name, OVERALL))
        return (overall.regret.mean, -overall.spearman_accuracy.mean) if overall else (math.inf, 0.0)

    mean_costs = {name: fmean(values) for name, values in costs.items() if values}
    same = {name: [a == b for layers in at.values() for a, b in combinations(layers, 2)] for name, at in named.items()}
    agreement = {name: fmean(pairs) for name, pairs in same.items() if pairs}
    ordered = sorted(pooled, key=order)
    found = leads({name: regrets[name] for name in ordered if (name, OVERALL) in means})
    by_task = {task: [fmean(values) for values in seeds.values()] for task, seeds in gains.items()}
    above = {task: _mean(values) for task, values in by_task.items()}
    if by_task:
        above[OVERALL] = _mean([value for values in by_task.values() for value in values])
    return Fidelity(tuple(tasks), tuple(ordered), means, chosen, best, mean_costs, agreement, found, above)


def leads(regrets: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[Lead, ...]:
    """All pairs of criteria, from the regrets of each by task and, in the same order for all, replication."""
    level, found = Level(math.comb(len(regrets), 2)), []
    for (first, ours), (second, theirs) in combinations(regrets.items(), 2):
        # Rounded, since the same fractions summed in another order are still equal.
        gaps = [[round(b - a, 9) for a, b in zip(ours[task], theirs[task], strict=True)] for task in ours]
        means, here, beyond = [fmean(gap) for gap in gaps], None, None
        if all(len(gap) > 1 for gap in gaps):
            error = math.sqrt(sum(variance(gap) / len(gap) for gap in gaps)) / len(gaps)
            here = float(level.critical(sum(len(gap) - 1 for gap in gaps))) * error
        if len(means) > 1:
            beyond = float(level.critical(len(means) - 1)) * math.sqrt(variance(means) / len(means))
        names = (first, second) if (mean := fmean(means)) >= 0 else (second, first)
        found.append(Lead(*names, abs(mean), here, beyond))
    return tuple(found)


def section(measures: Measures) -> Section:
    """The judgements as text and as JSON."""
    sizes = sorted({len(layers) for task in measures.suite.tasks for layers in measures.declared(task)})
    judged = {size: found for size in sizes if (found := fidelity(measures, size)).tasks}
    if not judged:
        return Section("fidelity", ["Fidelity: no criterion has a complete truth to be judged by yet."], {})
    lines, document = list[str](), dict[str, Any]()
    for size, found in judged.items():
        lines += [""] * bool(lines) + _lines(found, size)
        if size == 1:
            document |= _document(found)
        else:
            gains = {"gains": {task: mean._asdict() for task, mean in found.gains.items()}}
            document.setdefault("sets", {})[str(size)] = _document(found) | gains
    return Section("fidelity", lines, document)


def _lines(found: Fidelity, size: int) -> list[str]:
    n = max(found.means[name, OVERALL].regret.n for name in found.criteria if (name, OVERALL) in found.means)
    which = "layer" if size == 1 else f"{size} layers"
    lines = [
        f"Fidelity: which {which} a criterion names before any training, judged by tuning each "
        f"{'layer alone' if size == 1 else f'set of {size} layers'} (n = {n}",
        "(task, seed) pairs, so it speaks of these tasks; ± half width of the 95 % t interval; best regret first)",
        "",
    ]
    if size > 1 and OVERALL in found.gains:
        gained = ", ".join(f"{task} {_shown(found.gains[task], 100, 1)}" for task in (OVERALL, *found.tasks))
        told = f"Points of test accuracy of the best {which} above the best single layer: {gained}"
        lines += [*wrap(told, WIDTH), ""]
    header = ["criterion", "regret (points)", "top-1 hit (%)", "same layer (%)", "Spearman accuracy"]
    header += ["Spearman loss", "regret (nats)"]
    header += ["cost (epochs)"] * bool(found.costs)
    scales = (100, 100, 1, 1, 1)
    table = [header]
    for name in found.criteria:
        if (overall := found.means.get((name, OVERALL))) is not None:
            digits = (1, 0, 2, 2, 3)
            free = "0.00" if name == RANDOM else "-"
            cost = [f"{found.costs[name]:.2f}" if name in found.costs else free] * bool(found.costs)
            regret, hit, *rest = (_shown(*cell) for cell in zip(overall, scales, digits, strict=True))
            same = f"{100 * found.agreement[name]:.0f}" if name in found.agreement else "-"
            table.append([name, regret, hit, same, *rest, *cost])
    lines += [*aligned(table), "", *_leads(found)]
    lines += ["", f"Regret in points of test accuracy, and the {which} it chose most often", ""]
    table = [["criterion", *found.tasks]]
    for name in found.criteria:
        cells = []
        for task in found.tasks:
            cell = found.means.get((name, task))
            layers = _most(found.chosen[name, task]) if (name, task) in found.chosen else ""
            cells.append(f"{_shown(cell.regret, 100, 1)} {layers}".strip() if cell else "-")
        table.append([name, *cells])
    table.append([f"best {which}", *(_most(found.best[task]) for task in found.tasks)])
    return lines + aligned(table)


def _document(found: Fidelity) -> dict[str, Any]:
    return {
        "criteria": [
            {
                "criterion": name,
                "cost_epochs": found.costs.get(name),
                "agreement": found.agreement.get(name),
                "tasks": {
                    task: {measure: mean._asdict() for measure, mean in found.means[name, task]._asdict().items()}
                    | {"chosen": _counted(found.chosen.get((name, task), {}))}
                    for task in (*found.tasks, OVERALL)
                    if (name, task) in found.means
                },
            }
            for name in found.criteria
        ],
        "leads": [lead._asdict() for lead in found.leads],
        "best_layers": {task: _counted(layers) for task, layers in found.best.items()},
    }


def _counted(counts: Mapping[Layers, int]) -> dict[str, int]:
    return {"+".join(map(str, layers)): count for layers, count in sorted(counts.items())}


def _leads(found: Fidelity) -> list[str]:
    """Of each criterion, those that lose more than it beyond noise."""
    lines = []
    for name in found.criteria:
        behind = [
            f"{lead.worse} {100 * lead.mean:.1f} ± {100 * lead.here:.1f}{'*' * _above(lead.mean, lead.beyond)}"
            for lead in found.leads
            if lead.better == name and lead.here is not None and _above(lead.mean, lead.here)
        ]
        lines += wrap(f"{name} before {', '.join(behind)}", WIDTH, subsequent_indent="  ") if behind else []
    title = (
        f"Regrets that differ beyond noise on these tasks, by so many points: the intervals of all {len(found.leads)} "
        "differences hold together with 95 %; * for tasks like these as well"
    )
    return [*wrap(title, WIDTH), "", *(lines or ["none"])]


def _above(mean: float, half: float | None) -> bool:
    return half is not None and mean > half


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant and so orders nothing."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return 0.0
    from scipy import stats  # takes a second

    return float(stats.spearmanr(a, b).statistic)


def _means(judged: Iterable[Judgement[float]]) -> Judgement[Mean]:
    columns = [list(column) for column in zip(*judged, strict=True)]
    return Judgement(*map(_mean, columns))


def _mean(values: Sequence[float]) -> Mean:
    return Mean(fmean(values), t_interval(values), len(values))


def _shown(cell: Mean, scale: float, digits: int) -> str:
    half = f" ± {scale * cell.interval.half_width:.{digits}f}" if cell.interval and cell.n >= FEWEST else ""
    return f"{scale * cell.mean:.{digits}f}{half}"


def _most(counts: Mapping[Layers, int]) -> str:
    most = max(counts.values())
    layers = "|".join(layers for layers, count in _counted(counts).items() if count == most)
    return f"[{layers}: {most}/{sum(counts.values())}]"
