"""The page's charts: which rows each one draws, by which of the specifications in templates/charts.json."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from lmsa_bench.analysis import fidelity
from lmsa_bench.analysis.measures import Measured
from lmsa_bench.analysis.ranks import FEWEST
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.selection import Cell
from lmsa_bench.analysis.trials import History, Spent
from lmsa_bench.suites.spec import Row

LOST = "lost"  # the cost that is no training's: points of accuracy on held-out images of the source
COSTS = {
    "flops": "Training FLOPs",
    "bytes": "Bytes of a step, beside the model",
    "seconds": "Training time (s)",
    LOST: "Points lost on images of the source",
}

Value = str | float | int | bool | None


class Chart(NamedTuple):
    """One drawing: the name of its specification, its heading, its rows, and in words what it shows."""

    spec: str
    heading: str
    rows: list[dict[str, Value]]
    words: str
    kind: str = ""  # which of several charts of the same place, where one is chosen


class Point(NamedTuple):
    """What a row's selected trials of one task cost each, on average, and what they led to."""

    row: str
    accuracy: float
    costs: Mapping[str, float]  # of COSTS; without one that is not known
    front: frozenset[str]  # the costs at which no row is both cheaper and more accurate


def accuracies(report: Report) -> Iterator[Chart]:
    """Means with their intervals and each seed's dot, a chart a task."""
    for task in report.tasks:
        rows: list[dict[str, Value]] = []
        for row in report.order:
            cell = report.cells[row, task]
            rows += [{"method": row, "seed": seed, "dot": _points(value)} for seed, value in cell.accuracies.items()]
            if cell.mean is not None:
                rows.append({"method": row, "mean": _points(cell.mean), **_bounds(cell)})
        if rows:
            means = [(row, mean) for row in report.order if (mean := report.cells[row, task].mean) is not None]
            yield Chart("accuracies", task, rows, f"Test accuracy in %: {_listed(means)}.")


def differences(report: Report) -> Iterator[Chart]:
    """All comparisons of a task with their simultaneous intervals, of which the reader chooses those of one method."""
    for task in report.verdicts.tasks if report.verdicts is not None else ():
        rows: list[dict[str, Value]] = [
            {
                "first": one.first,
                "second": one.second,
                "mean": _points(one.mean),
                "half": _points(one.half),
                "verdict": one.verdict,
            }
            for one in task.comparisons
            if one.n > 1
        ]
        if rows:
            words = f"{task.decided} of {len(task.comparisons)} comparisons are decided."
            yield Chart("differences", task.task, rows, f"Differences in points with simultaneous intervals: {words}")


def layers(report: Report) -> Iterator[Chart]:
    """In which share of a row's selected trials each layer is tuned at the best epoch."""
    for task in report.tasks:
        rows: list[dict[str, Value]] = []
        for row in report.order:
            counts = report.cells[row, task].layers
            total = sum(counts.values())
            for layer in sorted({layer for tuned in counts for layer in tuned}):
                share = sum(count for tuned, count in counts.items() if layer in tuned) / total
                rows.append({"method": row, "layer": layer, "share": round(share, 3), "trials": total})
        if rows:
            yield Chart("layers", task, rows, "Which layers each method tunes; the table below says it in numbers.")


def single_layers(report: Report) -> Iterator[Chart]:
    """What tuning each layer alone led to, where every layer was: the best layer of a task."""
    for task in report.tasks:
        truths = list(report.measures.truths(task).values()) if report.measures is not None else []
        if truths:
            means = [fmean(values) for values in zip(*(truth.accuracies for truth in truths), strict=True)]
            rows: list[dict[str, Value]] = [
                {"layer": layer, "accuracy": _points(mean), "best": mean == max(means)}
                for layer, mean in enumerate(means)
            ]
            best = means.index(max(means))
            yield Chart("single_layers", task, rows, f"Layer {best} is best tuned alone: {100 * means[best]:.1f} %.")


def costs(report: Report) -> Iterator[Chart]:
    """Accuracy against each cost, a chart a task and cost."""
    for task, points in cost_points(report).items():
        for cost, title in COSTS.items():
            rows: list[dict[str, Value]] = [
                {
                    "method": one.row,
                    "accuracy": _points(one.accuracy),
                    "cost": float(f"{one.costs[cost]:.4g}"),
                    "front": cost in one.front,
                }
                for one in shown(points, cost)
            ]
            if rows:
                front = ", ".join(str(one["method"]) for one in rows if one["front"])
                spec = "lost" if cost == LOST else "costs"
                yield Chart(spec, task, rows, f"{title}: on the front are {front}.", cost)


def shown(points: Sequence[Point], cost: str) -> list[Point]:
    """Those with that cost; what trains nothing is left out where training is the cost."""
    return [one for one in points if cost in one.costs and (cost == LOST or one.costs[cost] > 0)]


def cost_points(report: Report) -> dict[str, list[Point]]:
    """By task the rows that have a mean there."""
    found = {}
    for task in report.tasks:
        known = []
        for row, mean, trials in selected_trials(report, task):
            costs = {name: fmean(getattr(one.spent, name) for one in trials) for name in Spent._fields}
            left = report.kept.get((row, task))
            if left is not None and left.before is not None:
                costs[LOST] = 100 * (left.before - left.after)
            known.append(Point(row, mean, costs, frozenset()))
        if known:
            found[task] = [
                one._replace(front=frozenset(cost for cost in one.costs if not _beaten(one, known, cost)))
                for one in known
            ]
    return found


def _beaten(one: Point, others: Sequence[Point], cost: str) -> bool:
    """Whether another point is as good in both, and better in one."""
    mine = one.costs[cost]
    return any(
        other.costs[cost] <= mine
        and other.accuracy >= one.accuracy
        and (other.costs[cost] < mine or other.accuracy > one.accuracy)
        for other in others
        if cost in other.costs
    )


def budgets(report: Report) -> Iterator[Chart]:
    """Test accuracy to expect where 1, 2, … configurations are tried, against the FLOPs of all that is tried."""
    for task in report.tasks:
        rows: list[dict[str, Value]] = [
            {"method": one.row, "tried": k, "flops": float(f"{flops:.4g}"), "accuracy": _points(expected)}
            for row in report.order
            for one in report.budgets
            if (one.row, one.task) == (row, task)
            for k, (expected, flops) in enumerate(zip(one.expected, one.flops, strict=True), 1)
            if flops > 0
        ]
        if rows:
            yield Chart("budgets", task, rows, "Test accuracy to expect against the FLOPs spent on tuning.")


def fidelities(report: Report) -> Iterator[Chart]:
    """What following each criterion costs against knowing the best layer."""
    if report.measures is None:
        return
    found = fidelity.fidelity(report.measures)
    for task in [*found.tasks, fidelity.OVERALL] if found.tasks else []:
        rows: list[dict[str, Value]] = []
        for name in found.criteria:
            if (cell := found.means.get((name, task))) is not None:
                regret = cell.regret
                rows.append({"criterion": name, "regret": _points(regret.mean), "lot": name == fidelity.RANDOM})
                if regret.interval is not None and regret.n >= FEWEST:
                    rows[-1] |= {"low": _points(regret.interval.low), "high": _points(regret.interval.high)}
        if rows:
            words = _listed([(str(one["criterion"]), float(str(one["regret"])) / 100) for one in rows])
            yield Chart("fidelity", task, rows, f"Regret in points of test accuracy: {words}.")


def selected_trials(report: Report, task: str) -> Iterator[tuple[str, float, list[History]]]:
    """Each row with a mean on a task, and its selected trials."""
    histories = {one.trial.id: one for one in report.histories}
    measures = report.measures
    rows: dict[str, Row] = {row.name: row for row in measures.suite.rows} if measures is not None else {}
    for name in report.order:
        mean = report.cells[name, task].mean
        if measures is not None and mean is not None:
            chosen: list[Measured] = [one for part in measures.chosen(rows[name], task) for one in part]
            if trials := [histories[one.trial.id] for one in chosen]:
                yield name, mean, trials


def methods(charts: Sequence[Chart]) -> list[str]:
    """The names in these charts, in the order in which they come: one scale of colours for all of them."""
    named = defaultdict[str, None](lambda: None)
    for chart in charts:
        for row in chart.rows:
            named[str(row["method"])]
    return list(named)


def _points(fraction: float) -> float:
    return round(100 * fraction, 3)


def _bounds(cell: Cell) -> dict[str, Value]:
    """The ends of a cell's interval, no further than an accuracy can be; none for too few seeds."""
    if cell.interval is None or cell.n < FEWEST:
        return {}
    return {"low": max(0.0, _points(cell.interval.low)), "high": min(100.0, _points(cell.interval.high))}


def _listed(values: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in values)
