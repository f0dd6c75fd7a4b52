"""Brings an MLflow store up to date with a results folder:  python -m lmsa_bench.results sync"""

import argparse
from pathlib import Path
from typing import Literal

DEFAULT_RESULTS = "results"  # in the current folder
UI = "Serves MLflow's pages on this store until it is stopped, after a link for each suite."

Changed = Literal["refuse", "rerun", "keep"]  # what becomes of finished trials whose code has changed


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.results", description=__doc__)
    commands = made.add_subparsers(required=True, dest="command")
    for name, text in {"sync": __doc__, "ui": UI}.items():
        add = commands.add_parser(name, help=text, description=text).add_argument
        add("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (%(default)s)")
        add("--storage", metavar="URI", help="the sweep's storage")
        add("--tracking-uri", help="MLflow store ($MLFLOW_TRACKING_URI, else the results folder's own)")
        if name == "ui":
            add("--port", type=int, default=5000, help="where to serve (%(default)s)")
    return made
