"""Runs a suite's trials on Ray, and prints its ranked table:  python -m lmsa_bench.sweep [SUITE]"""

import argparse
from pathlib import Path
from typing import get_args

from lmsa_bench.data.arguments import DEFAULT_DATA
from lmsa_bench.results.arguments import DEFAULT_RESULTS, Changed


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.sweep", description=__doc__)
    add = made.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite of tune_configs/ or a YAML file (default: quickstart)")
    add("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the results folder (default: %(default)s)")
    add("--storage", metavar="URI", help="keep results in an object store too, such as s3://BUCKET/FOLDER")
    add("--data", type=Path, default=Path(DEFAULT_DATA), help="data and source models (default: %(default)s)")
    add("--tracking-uri", help="MLflow store (default: $MLFLOW_TRACKING_URI, else a SQLite file in the results folder)")
    add("--only", default="", metavar="KEY=VALUE,…", help="a part: task=NAME and method=NAME, each as often as needed")
    add("--seeds", type=int, metavar="N", help="the first N seeds in place of the suite's")
    add("--until", choices=["decided"], help="add replications, from --seeds on, only where a verdict can still change")
    add("--margin", type=float, metavar="POINTS", help="differences below it count as equal (default: the suite's)")
    add("--most", type=int, metavar="N", default=20, help="replications that --until adds up to (default: %(default)s)")
    add("--dry-run", action="store_true", help="print the plan and an estimate of time, and run nothing")
    add(
        "--changed",
        choices=get_args(Changed),
        default="refuse",
        help="finished trials whose code has changed: an error (default), run anew, or kept with a footnote",
    )
    add("--local", action="store_true", help="run in this process, without Ray: an error ends in its traceback")
    add("--asha", action="store_true", help="stop unpromising trials early: not comparable with a full grid")
    add("--address", help="a Ray cluster's address (default: $RAY_ADDRESS, else a Ray of this machine)")
    add("--cpus", type=int, help="CPUs of a local Ray (default: all)")
    add("--plain", action="store_true", help="progress in plain lines, also on a terminal")
    return made
