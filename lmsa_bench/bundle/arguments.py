"""Packs a suite's results into one archive, or verifies one:  python -m lmsa_bench.bundle quickstart"""

import argparse
from pathlib import Path

from lmsa_bench.data.arguments import DEFAULT_DATA
from lmsa_bench.results.arguments import DEFAULT_RESULTS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.bundle", description=__doc__)
    add = made.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite's name or YAML file (default: quickstart)")
    add("--seeds", type=int, metavar="N", help="the first N seeds, as given to the sweep (default: the suite's)")
    add("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (default: %(default)s)")
    add("--storage", metavar="URI", help="the sweep's storage")
    add("--output", type=Path, metavar="FILE", help="the archive (default: SUITE.bundle.zip)")
    add("--verify", type=Path, metavar="FILE", help="verify this archive: checksums, every number of its table, reruns")
    add(
        "--rerun",
        type=int,
        metavar="K",
        default=3,
        help="trials that --verify runs again, by lot (default: %(default)s)",
    )
    add("--lot", type=int, metavar="N", help="the seed of that lot (default: another one each time)")
    add("--data", type=Path, default=Path(DEFAULT_DATA), help="data for reruns (default: %(default)s)")
    return made
