"""A suite's ranked table, and its figures:  python -m lmsa_bench.report quickstart"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lmsa_bench.analysis.build import PAPER_TASKS, paper, report
from lmsa_bench.errors import UserError
from lmsa_bench.report import figures
from lmsa_bench.report.tables import FORMATS, render
from lmsa_bench.results.journal import DEFAULT_RESULTS, Journal
from lmsa_bench.results.table import SCHEMA
from lmsa_bench.results.tracking import ResultStore
from lmsa_bench.suites.spec import Suite


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lmsa_bench.report", description=__doc__)
    add = parser.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite's name or YAML file (quickstart)")
    add("--seeds", type=int, metavar="N", help="the first N seeds, as given to the sweep (default: the suite's)")
    add("--format", choices=FORMATS, default="table")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (%(default)s)")
    source.add_argument("--tracking-uri", help="read from this MLflow store in place of a folder")
    source.add_argument("--paper", action="store_true", help="rank the paper's own Table 1; needs no results")
    add("--figures", type=Path, metavar="DIR", help="draw the figures there, as PNG and PDF")
    add("--output", type=Path, metavar="FILE", help="write the table there, not to the terminal")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 after a user's error (see errors.exit_status)."""
    options = parse(arguments)
    if options.format == "parquet" and options.output is None:
        raise UserError("--format parquet: is binary; name a file with --output")
    if options.paper:
        found = paper()
    else:
        from lmsa_bench.analysis.codes import footnotes  # imports torch, which the paper's table does not need
        from lmsa_bench.suites.load import load

        suite = load(options.suite, options.seeds)
        figures.check(suite)
        suite.refuse_missing_weights()
        table = _table(options.results, options.tracking_uri, suite)
        found = report(suite, table, footnotes(suite, table))
    text = render(found, options.format)
    if options.format == "table" and not options.paper and set(PAPER_TASKS) & set(found.tasks):
        text += b"\n" + render(paper(), "table")
    if options.output is None:
        sys.stdout.write(text.decode())
    else:
        try:
            options.output.write_bytes(text)
        except OSError as error:
            raise UserError(f"--output {options.output}: cannot be written ({error.strerror})") from None
    for path in figures.draw(found, options.figures) if options.figures is not None else []:
        print(path, file=sys.stderr)
    return 0


def _table(results: Path, uri: str | None, suite: Suite) -> pa.Table:
    if not suite.trials:
        return SCHEMA.empty_table()
    if uri is not None:
        return ResultStore(uri).table()
    journal = Journal(results)
    for line in journal.others():
        print(line, file=sys.stderr)
    return journal.table()
