"""A suite's verdicts as text: the answer first, then by shift, over all tasks, and what it would take."""

import math

from lmsa_bench.analysis.overall import RankInterval
from lmsa_bench.analysis.planning import POWER
from lmsa_bench.analysis.ranks import p_value
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import aligned, points
from lmsa_bench.analysis.verdicts import Comparison, TaskVerdict, Verdicts


def lines(report: Report) -> list[str]:
    """What stands below the table; empty where there is nothing to compare."""
    found = report.verdicts
    if found is None:
        return []
    made: list[str] = []
    if any(task.comparisons for task in found.tasks):
        made += ["", *_by_shift(found), "", *limits(found)]
    if found.ranks:
        made += ["", *_over_tasks(found)]
    elif found.signed_ranks:
        made += ["", *_signed_ranks(found)]
    if any(task.components for task in found.tasks):
        made += ["", *_what_it_takes(found)]
    return made


def by_shift(found: Verdicts) -> list[list[str]]:
    """A header, and for each task the rows that no row beats, and how far the others are behind."""
    rows = [["task", "shift", "n", "best group", "behind it, in points", "equal", "open"]]
    for task in found.tasks:
        equal = sum(one.verdict == "equal" for one in task.comparisons)
        behind = [text for row in task.rows if (text := _behind(task, row))]
        behind += [f"{row} (diverged)" for row in task.diverged]
        rows.append(
            [
                task.task,
                task.shift or "-",
                str(task.n),
                ", ".join(task.best) if task.beaten_rows else "all",
                ", ".join(behind) or "-",
                str(equal),
                str(len(task.comparisons) - task.decided),
            ]
        )
    return rows


def _by_shift(found: Verdicts) -> list[str]:
    title = (
        f"By shift: the rows that no row beats, and how far each other row is behind the best one that beats it "
        f"({found.decided} of {len(found.comparisons)} comparisons decided)"
    )
    return [title, "", *aligned(by_shift(found))]


def _behind(task: TaskVerdict, row: str) -> str:
    one = task.behind(row)
    return f"{row} {100 * one.mean:.1f} ± {100 * one.half:.1f}" if one is not None else ""


def limits(found: Verdicts) -> list[str]:
    """What the intervals hold for, and what they do not speak of."""
    told = [
        f"All {len(found.comparisons)} intervals hold simultaneously with 95 % confidence; equal means within "
        f"{points(found.margin)}. They cover new replications",
    ]
    drawn = "(splits and batch orders) from this one source model" if found.one_source else ""
    drawn = drawn or "(source models, splits and batch orders)"
    told[0] += f" {drawn} on these images, including the choice of hyper-parameters."
    if found.until:
        told.append(f"The sweep added replications only where a verdict could change, and ended since {found.until}.")
    return told


def _over_tasks(found: Verdicts) -> list[str]:
    first = found.ranks[0].row
    rows = [["method", "average rank", "again (95 %)", "P(better run)", f"against {first}: better / equal / worse"]]
    for one in found.ranks:
        rows.append([one.row, f"{one.mean:.2f}", f"{one.low:.2f} to {one.high:.2f}", *_chances(found, one, first)])
    tests = []
    if found.interaction is not None:
        f = found.interaction
        tests.append(
            f"Do the differences between methods depend on the task? F = {f.f:.1f} "
            f"({f.df[0]:.1f} and {f.df[1]:.1f} degrees of freedom), {p_value(f.p)}"
        )
    if found.no_best is not None:
        tests.append(f"Could one method be best under every shift? {p_value(found.no_best)}")
    return [
        "Over all tasks: where each method would rank if the suite were run again; the probability that a run of it",
        f"beats one of another method; and the probabilities that on new tasks like these it is better than {first},",
        f"equal to it within {points(found.margin)}, or worse (Bayesian signed rank test)",
        "",
        *aligned(rows),
        "",
        *tests,
    ]


def _chances(found: Verdicts, one: RankInterval, first: str) -> list[str]:
    i = found.rows.index(one.row)
    others = [value for j, value in enumerate(found.improvement[i]) if j != i]
    mean = f"{sum(others) / len(others):.2f}" if others else "-"
    return [mean, _signed(found, one.row, first)]


def _signed(found: Verdicts, row: str, first: str) -> str:
    for test in found.signed_ranks:
        if (test.first, test.second) == (row, first):
            return f"{test.first_better:.2f} / {test.equal:.2f} / {test.second_better:.2f}"
        if (test.first, test.second) == (first, row):
            return f"{test.second_better:.2f} / {test.equal:.2f} / {test.first_better:.2f}"
    return "-"


def _signed_ranks(found: Verdicts) -> list[str]:
    """Where a cell is a single number: what its tasks alone allow."""
    names = list(dict.fromkeys(name for test in found.signed_ranks for name in (test.first, test.second)))
    rows = [["row better / equal / worse", *names]]
    rows += [[name, *("-" if name == other else _signed(found, name, other) for other in names)] for name in names]
    title = f"For new tasks like these, equal within {points(found.margin)} (Bayesian signed rank)"
    return [title, "", *aligned(rows)]


def _what_it_takes(found: Verdicts) -> list[str]:
    head = ["task", "replications", "images alone", "selection alone", "resolves", f"finds ({POWER:.0%})"]
    rows = [[*head, "open", "half of them", "all that can be"]]
    for task in found.tasks:
        if (parts := task.components) is None:
            continue
        able = sum(one.needed is not None for one in task.comparisons)
        opened = len(task.comparisons) - task.decided
        rows.append(
            [
                task.task,
                f"{100 * parts.replication:.1f}",
                "unknown" if parts.images is None else f"{100 * parts.images:.1f}",
                f"{100 * parts.selection:.1f}",
                f"{100 * parts.resolved:.1f}",
                f"{100 * parts.detectable:.1f}",
                f"{opened}" + (f" ({opened - able} never)" if able < opened else ""),
                _cost(task, 0.5),
                _cost(task, 1.0),
            ]
        )
    return [
        "What it would take: the standard deviation of a difference between two methods over replications, in points,",
        "and the parts of it that images and selection explain (medians over pairs); the smallest difference the",
        f"intervals resolve, and the one they find with probability {POWER:g}; how many replications would decide the",
        "open comparisons, and the training that costs",
        "",
        *aligned(rows),
    ]


def _cost(task: TaskVerdict, share: float) -> str:
    found = task.cost(share)
    return "-" if found is None else f"n = {found[0]} ({hours(found[1])})"


def hours(value: float) -> str:
    """Core hours, or minutes where they are few."""
    return (
        f"{60 * value:.0f} core min" if value < 1 else f"{value:.1f} core h" if value < 100 else f"{value:.0f} core h"
    )


def differences(report: Report) -> list[str]:
    """The row of the best average rank against each other one on each task, with simultaneous intervals."""
    found = report.verdicts
    if found is None or not found.ranks or not found.comparisons:
        return []
    best = found.ranks[0].row
    rows = [[f"{best} minus", *report.tasks]]
    for one in found.ranks[1:]:
        rows.append([one.row, *(_difference(task.between(best, one.row), best) for task in found.tasks)])
    return ["Differences in points (! better or worse, = equal within the margin)", "", *aligned(rows)]


def _difference(one: Comparison | None, best: str) -> str:
    if one is None:
        return "-"
    mark = {"better": "!", "equal": "=", "unknown": " "}[one.verdict]
    half = f" ± {100 * one.half:.1f}" if math.isfinite(one.half) else ""
    return f"{100 * one.mean * (1 if one.first == best else -1):+.1f}{half}{mark}"


def budgets(report: Report) -> list[str]:
    """What each row's accuracy owes to its budget of tuning, means over the tasks that are complete for all of them."""
    own = {row: {one.task: one for one in report.budgets if one.row == row} for row in report.order}
    own = {row: found for row, found in own.items() if any(len(one.expected) > 1 for one in found.values())}
    tasks = [task for task in report.tasks if all(task in found for found in own.values())]
    if not own or not tasks:
        return []
    rows = [["method", "tried", "one at random", "two", "all", "had the test chosen", "promised by val", "GFLOPs"]]
    for row, found in own.items():
        some = [found[task] for task in tasks]

        def mean(values: list[float], scale: float = 100) -> str:
            return f"{scale * sum(values) / len(values):.1f}"

        counts = sorted({len(one.expected) for one in some})
        rows.append(
            [
                row,
                "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))),
                *(mean([one.expected[min(k, len(one.expected) - 1)] for one in some]) for k in (0, 1)),
                mean([one.expected[-1] for one in some]),
                mean([one.best for one in some]),
                mean([one.promised for one in some]),
                mean([one.flops[-1] for one in some], 1e-9),
            ]
        )
    head = "Budgets: test accuracy in % where one, two or all configurations are tried, the best chosen by validation;"
    return [
        head,
        f"means over {', '.join(tasks)}; FLOPs of training and selection of all that was tried",
        "",
        *aligned(rows),
    ]


def kept(report: Report) -> list[str]:
    """What is left of the source model's accuracy after tuning; empty where no trial tells it."""
    if not report.kept:
        return []
    rows = [["method", *report.tasks]]
    for row in report.order:
        found = [report.kept.get((row, task)) for task in report.tasks]
        rows.append([row, *("-" if one is None else f"{100 * one.after:.1f}" for one in found)])
    before = {
        task: [one.before for (_, where), one in report.kept.items() if where == task and one.before is not None]
        for task in report.tasks
    }
    first = [f"{100 * sum(values) / len(values):.1f}" if values else "-" for values in before.values()]
    head = "Accuracy in % on held-out images of the source after tuning: what is lost there"
    return [head, "", *aligned([rows[0], ["before tuning", *first], *rows[1:]])]
