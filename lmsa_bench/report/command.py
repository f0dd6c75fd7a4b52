"""A suite's ranked table, and its figures:  python -m lmsa_bench.report quickstart"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lmsa_bench.analysis import codes
from lmsa_bench.analysis.build import PAPER_TASKS, paper, report
from lmsa_bench.errors import UserError
from lmsa_bench.report import figures
from lmsa_bench.report.arguments import parser
from lmsa_bench.report.tables import render
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import SCHEMA
from lmsa_bench.results.tracking import ResultStore
from lmsa_bench.suites import known
from lmsa_bench.suites.spec import Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 after a user's error (see errors.exit_status)."""
    options = parser().parse_args(arguments)
    if options.format == "parquet" and options.output is None:
        raise UserError("--format parquet: is binary; name a file with --output")
    if options.paper:
        found = paper()
    else:
        suite = known.load(options.suite, options.seeds)
        figures.check(suite)
        suite.refuse_missing_weights()
        table, damaged = _table(options.results, options.tracking_uri, suite)
        lost = [f"Left out: {damaged[trial.id]}." for trial in suite.trials if trial.id in damaged]
        found = report(suite, table, [*codes.footnotes(suite, table), *lost])
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


def _table(results: Path, uri: str | None, suite: Suite) -> tuple[pa.Table, dict[str, str]]:
    """What there is, and by trial what is wrong with those whose files are damaged."""
    if not suite.trials:
        return SCHEMA.empty_table(), {}
    if uri is not None:
        return ResultStore(uri).table(), {}
    journal = Journal(results)
    for line in journal.others():
        print(line, file=sys.stderr)
    return journal.readable()
