"""From a suite and a table of its trials to a Report; the paper's own Table 1, ranked and tested as ours is."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from lmsa_bench.analysis import fidelity, propositions, sizes
from lmsa_bench.analysis.budgets import budgets
from lmsa_bench.analysis.forgetting import kept
from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.headline import headline
from lmsa_bench.analysis.measures import Measures, measure
from lmsa_bench.analysis.notes import notes
from lmsa_bench.analysis.origins import origins
from lmsa_bench.analysis.ranks import FEWEST, Statistics, paired_differences, statistics
from lmsa_bench.analysis.replications import replications
from lmsa_bench.analysis.report import Report, Section
from lmsa_bench.analysis.selection import Cell, cells, of_suite
from lmsa_bench.analysis.sequential import Standing
from lmsa_bench.analysis.text import seeds_text
from lmsa_bench.analysis.trials import histories
from lmsa_bench.analysis.verdicts import of_means, verdicts
from lmsa_bench.errors import UserError
from lmsa_bench.suites.spec import Suite

PAPER_TASKS = ("cifar10_c", "cifar_flip", "living17", "imagenet_c")
PAPER = {  # Table 1, test accuracy in %
    "No Adaptation": (60.3, 0.0, 73.2, 18.1),
    "Full Fine-tuning": (81.1, 86.2, 78.2, 49.0),
    "LIFT": (80.5, 86.44, 76.2, 43.6),
    "LISA": (80.2, 81.6, 77.4, 48.2),
    "Auto-RGN": (82.5, 88.7, 77.1, 48.6),
    "L-MSA": (81.3, 92.7, 79.1, 47.4),
}
TWO = " (of two, both values: their 95 % t interval would be 12.7 times as wide)"


def report(suite: Suite, table: pa.Table, footnotes: Sequence[str] = (), standing: Standing | None = None) -> Report:
    """Selects, averages and ranks; raises UserError where no trial has ended or the records do not mix.

    ``footnotes`` are what the caller knows of the trials, ``standing`` what a sweep until all is decided has decided.
    """
    if not suite.rows:
        sections = _sections(suite, None)
        return Report(
            suite.name, suite.name, (), (), {}, Statistics({}, (), ()), figures=suite.figures, sections=sections
        )
    suite = reached(suite, table)
    found = {(cell.row, cell.task): cell for cell in cells(suite, table)}
    if all(cell.n == 0 and not cell.diverged for cell in found.values()):
        raise UserError(
            f"suite {suite.name}: none of its trials has finished here yet; run them with "
            f"python -m lmsa_bench.sweep {suite.name}"
        )
    measures = measure(suite, table)
    # A row that only scores layers is the source model in the table: a section reports it.
    scoring = {name for task in suite.tasks for name in measures.criteria(task)}
    rows = tuple(row.name for row in suite.rows if row.name not in scoring)
    ranked = [row.name for row in suite.rows if row.ranked and row.name in rows]
    over_tasks = statistics(
        {row: {task: found[row, task].score for task in suite.tasks} for row in ranked}, suite.tasks
    )
    pairs = [
        (task, seed)
        for task in suite.tasks
        for seed in sorted({seed for row in ranked for seed in found[row, task].accuracies})
    ]
    over_pairs = statistics(
        {row: {f"{task} {seed}": found[row, task].score_at(seed) for task, seed in pairs} for row in ranked},
        [f"{task} {seed}" for task, seed in pairs],
    )
    by_seed = {key: cell.accuracies for key, cell in found.items() if key[0] in ranked and not cell.diverged}
    best = next(iter(over_tasks.average_ranks), "")
    facts = origins(of_suite(suite, table))
    shared = {origin.get("source_seed") is None for origin in facts.values()} == {True}
    compared = replications(suite, table, [row for row in suite.rows if row.name in ranked])
    judged = verdicts(suite, compared, shared, standing)  # of one source model where all share it
    counts = [cell.n for cell in found.values() if cell.n]
    beside = " ± half width of the 95 % t interval" * any(n >= FEWEST for n in counts)
    beside += TWO * any(1 < n < FEWEST for n in counts)
    return Report(
        suite.name,
        f"{suite.title}: mean over seeds{beside}, {seeds_text(counts)}",
        suite.tasks,
        rows,
        found,
        over_tasks,
        blocked=over_pairs,
        differences=tuple(paired_differences(by_seed, best)) if best else (),
        figures=suite.figures,
        measures=measures,
        verdicts=judged,
        headline=headline(judged),
        kept={key: value for key, value in kept(suite, table).items() if key[0] in rows},
        budgets=tuple(one for one in budgets(suite, table) if one.row in rows),
        sections=_sections(suite, measures),
        part=suite.part,
        notes=(*footnotes, *notes(suite, found.values(), facts)),
        histories=histories(replace(suite, trials=suite.needed), table),
    )


def _sections(suite: Suite, measures: Measures | None) -> tuple[Section, ...]:
    """What some of the suite's figures say in words, and the sizes of the paper's models."""
    found = []
    if "fidelity" in suite.figures and measures is not None:
        found.append(fidelity.section(measures))
    if "theory" in suite.figures:
        found.append(propositions.section())
    if (parameters := sizes.section(suite)) is not None:
        found.append(parameters)
    return tuple(found)


def paper() -> Report:
    """Table 1 of the paper, ranked and tested as ours is."""
    scores = {row: dict(zip(PAPER_TASKS, (v / 100 for v in values), strict=True)) for row, values in PAPER.items()}
    return Report(
        "paper",
        "Table 1 of the L-MSA paper (single values: it tells neither seeds nor intervals)",
        PAPER_TASKS,
        tuple(PAPER),
        {(row, task): Cell(row, task, mean) for row, means in scores.items() for task, mean in means.items()},
        statistics({row: means for row, means in scores.items() if row != "No Adaptation"}, PAPER_TASKS),
        verdicts=of_means({row: list(m.values()) for row, m in scores.items() if row != "No Adaptation"}, 0.01),
        headline=(
            "Single values tell neither what another seed nor what other images would give, so no difference on one "
            "task can be judged.",
        ),
    )
