"""A suite's ranked table and figures:  python -m lmsa_bench.report quickstart"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lmsa_bench.errors import UserError, exit_status
from lmsa_bench.results import fidelity, figures, sizes, theory
from lmsa_bench.results.journal import DEFAULT_RESULTS, SCHEMA, Journal
from lmsa_bench.results.measures import Measures, measure
from lmsa_bench.results.ranks import Statistics, paired_differences, statistics
from lmsa_bench.results.selection import Cell, cells
from lmsa_bench.results.store import ResultStore
from lmsa_bench.results.summary import Report, Section
from lmsa_bench.results.tables import FORMATS, render

if TYPE_CHECKING:
    from lmsa_bench.suite import Suite

PAPER_TASKS = ("cifar10_c", "cifar_flip", "living17", "imagenet_c")
PAPER = {  # Table 1, test accuracy in %
    "No Adaptation": (60.3, 0.0, 73.2, 18.1),
    "Full Fine-tuning": (81.1, 86.2, 78.2, 49.0),
    "LIFT": (80.5, 86.44, 76.2, 43.6),
    "LISA": (80.2, 81.6, 77.4, 48.2),
    "Auto-RGN": (82.5, 88.7, 77.1, 48.6),
    "L-MSA": (81.3, 92.7, 79.1, 47.4),
}


def report(suite: "Suite", table: pa.Table) -> Report:
    """Selects, averages and ranks; raises UserError where no trial has ended or the records do not mix."""
    if not suite.rows:
        sections = _sections(suite, None)
        return Report(
            suite.name, suite.name, (), (), {}, Statistics({}, (), ()), figures=suite.figures, sections=sections
        )
    found = {(cell.row, cell.task): cell for cell in cells(suite, table)}
    if all(cell.n == 0 and not cell.diverged for cell in found.values()):
        raise UserError(
            f"suite {suite.name}: none of its trials has finished here yet; run them with "
            f"python -m lmsa_bench.sweep {suite.name}"
        )
    measures = measure(suite, table)
    # A row that only scores layers is the source model in the table: it is told of by a section.
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
    seeds = sorted({cell.n for cell in found.values() if cell.n})
    n = f"n = {seeds[0]} seeds" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]} seeds" if seeds else "no seed"
    return Report(
        suite.name,
        f"{suite.name}: mean over seeds ± half width of the 95 % t interval, {n}",
        suite.tasks,
        rows,
        found,
        over_tasks,
        blocked=over_pairs,
        differences=tuple(paired_differences(by_seed, best)) if best else (),
        figures=suite.figures,
        measures=measures,
        sections=_sections(suite, measures),
    )


def _sections(suite: "Suite", measures: Measures | None) -> tuple[Section, ...]:
    """What some of the suite's figures say in words, and the sizes of the paper's models."""
    found = []
    if "fidelity" in suite.figures and measures is not None:
        found.append(fidelity.section(measures))
    if "theory" in suite.figures:
        found.append(theory.section())
    if set(PAPER_TASKS) & set(suite.tasks):
        found.append(sizes.section(suite))
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
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 after a user's error (see errors.exit_status)."""
    parser = argparse.ArgumentParser(prog="python -m lmsa_bench.report", description=__doc__)
    parser.add_argument("suite", nargs="?", default="quickstart", help="a suite's name or YAML file (quickstart)")
    parser.add_argument("--seeds", type=int, metavar="N", help="the first N seeds, as the sweep was told (the suite's)")
    parser.add_argument("--format", choices=FORMATS, default="table")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (%(default)s)")
    source.add_argument("--tracking-uri", help="read from this MLflow store in place of a folder")
    source.add_argument("--paper", action="store_true", help="rank the paper's own Table 1; needs no results")
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="draw PNG and PDF there (the results folder's summary of the suite)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there, not to the terminal")
    asked = parser.parse_args(arguments)
    if asked.format == "parquet" and asked.output is None:
        raise UserError("--format parquet: is binary; name a file with --output")
    folder = asked.figures
    if asked.paper:
        found = paper()
    else:
        from lmsa_bench.suite import load  # imports torch, which the paper's table does not need

        suite = load(asked.suite, asked.seeds)
        found = report(suite, _table(asked.results, asked.tracking_uri, suite))
        if folder is None and asked.tracking_uri is None:
            folder = asked.results / "summary" / suite.name
    text = render(found, asked.format)
    if asked.format == "table" and not asked.paper and set(PAPER_TASKS) & set(found.tasks):
        text += b"\n" + render(paper(), "table")
    if asked.output is None:
        sys.stdout.write(text.decode())
    else:
        try:
            asked.output.write_bytes(text)
        except OSError as error:
            raise UserError(f"--output {asked.output}: cannot be written ({error.strerror})") from None
    for path in figures.draw(found, folder) if folder is not None else []:
        print(path, file=sys.stderr)
    return 0


def _table(results: Path, uri: str | None, suite: "Suite") -> pa.Table:
    if not suite.trials:
        return SCHEMA.empty_table()
    if uri is not None:
        return ResultStore(uri).table()
    if not (results / "trials").is_dir():
        raise UserError(
            f"results folder {results}: there are no results; make them with python -m lmsa_bench.sweep {suite.name}"
        )
    return Journal(results).table()


if __name__ == "__main__":
    sys.exit(exit_status(main))
