"""A suite's ranked table, and its figures:  python -m lmsa_bench.report quickstart"""

import argparse
from pathlib import Path

from lmsa_bench.results.arguments import DEFAULT_RESULTS

FORMATS = ("table", "json", "csv", "latex", "markdown", "html", "parquet")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.report", description=__doc__)
    add = made.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite's name or YAML file (quickstart)")
    add("--seeds", type=int, metavar="N", help="the first N seeds, as given to the sweep (default: the suite's)")
    add("--format", choices=FORMATS, default="table")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (%(default)s)")
    source.add_argument("--tracking-uri", help="read from this MLflow store in place of a folder")
    source.add_argument("--paper", action="store_true", help="rank the paper's own Table 1; needs no results")
    add("--figures", type=Path, metavar="DIR", help="draw the figures there, as PNG and PDF")
    add("--output", type=Path, metavar="FILE", help="write the table there, not to the terminal")
    return made
