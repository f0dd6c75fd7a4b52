"""Measures what a sweep costs on this machine:  python -m lmsa_bench.bench

Each row is measured once a round, and its value is the median over the rounds, with the smallest and the largest.
"""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from lmsa_bench import local
from lmsa_bench.atomic import write_whole
from lmsa_bench.bench.arguments import parser
from lmsa_bench.bench.rows import ROWS
from lmsa_bench.errors import UserError, nearest
from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.trial.names import task_of


def make_ready(suites: Sequence[str], data: Path) -> None:
    """Makes data and source models of these suites, which no row times; raises UserError where they cannot be had."""
    for suite in suites:
        trials = {trial.setting: trial for trial in load(suite, 1).trials}.values()
        if unready := local.unready(trials, data):
            raise UserError(next(iter(unready.values())))
        with local.ready() as device:
            for trial in trials:
                SourceModel(task_of(trial), data, trial.seed).ensure(device)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 after a user's error."""
    options = parser().parse_args(arguments)
    for name in options.rows:
        if name not in ROWS:
            raise UserError(f"unknown row {name!r}: {nearest(name, ROWS)}")
    if options.rounds < 1:
        raise UserError(f"--rounds {options.rounds}: expected at least 1")
    asked = {name: row for name, row in ROWS.items() if not options.rows or name in options.rows}
    data = options.data.absolute()
    make_ready(
        [suite for suite in ("quickstart", "fashion") if any(suite in row.needs for row in asked.values())], data
    )
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, torch {torch.__version__}")
    found: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(1, options.rounds + 1):
        for name, row in asked.items():
            with TemporaryDirectory() as free:
                found[name].append(row.measure(data, Path(free)))
            print(f"round {number}: {row.title}: {found[name][-1]:.3g}", flush=True)
    print(f"\n{'row':<62} {'median':>8}  {'from':>7} {'to':>7}")
    for name, row in asked.items():
        low, middle, high = min(found[name]), median(found[name]), max(found[name])
        print(f"{row.title:<58} {'' if row.unit == 'ratio' else row.unit:>3} {middle:>8.3g}  {low:>7.3g} {high:>7.3g}")
    if options.out is not None:
        rows = {name: {"what": row.title, "unit": row.unit, "values": found[name]} for name, row in asked.items()}
        write_whole(
            options.out,
            json.dumps({"cores": os.cpu_count(), "torch": torch.__version__, "rows": rows}, indent=1).encode(),
        )
    return 0
