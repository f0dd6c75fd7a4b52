"""List, fetch, verify and prepare the published data sets in a data root."""

import argparse
from pathlib import Path

DEFAULT_DATA = "data"  # the data root, in the current folder


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m lmsa_bench.data", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "show which data sets are present or missing"),
        ("fetch", "download and unpack a data set; run again to resume an interrupted download"),
        ("verify", "compare the files with the published checksums"),
        ("prepare", "write the Arrow files that the tasks read"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--data", type=Path, default=Path(DEFAULT_DATA), help="the data root (default: %(default)s)"
        )
        if name != "list":
            command.add_argument("name", help="a data set that `list` shows")
        if name in ("fetch", "prepare"):
            command.add_argument("--no-verify", action="store_true", help="accept re-encoded copies; results say so")
        if name == "fetch":
            command.add_argument("files", nargs="*", help="only these archives (default: those that tasks read)")
            command.add_argument("--url", default="", help="a mirror: the URL of a folder with the archives")
        if name == "prepare":
            command.add_argument(
                "--corruptions", nargs="+", default=[], help="only these (default: all that are present)"
            )
            command.add_argument("--severity", type=int, default=5, choices=range(1, 6), help="(default: %(default)s)")
    return made
