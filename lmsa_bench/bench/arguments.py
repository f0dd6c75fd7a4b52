"""Measures what a sweep costs on this machine:  python -m lmsa_bench.bench

Each row is measured once a round, and its value is the median over the rounds, with the smallest and the largest.
"""

import argparse
from pathlib import Path

from lmsa_bench.data.arguments import DEFAULT_DATA


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.bench", description=__doc__)
    add = made.add_argument
    add("rows", nargs="*", help="rows to measure, such as quickstart (default: all)")
    add("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    add("--data", type=Path, default=Path(DEFAULT_DATA), help="data and source models (default: %(default)s)")
    add("--out", type=Path, help="write all values to this JSON file too")
    return made
