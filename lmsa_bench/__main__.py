"""All commands under one name:  lmsa-bench sweep|report|data|results …

``eval "$(register-python-argcomplete lmsa-bench)"`` in a shell's start-up file completes them there.
"""

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import argcomplete
from argcomplete.completers import FilesCompleter

from lmsa_bench.errors import UserError, exit_status, nearest, run_command

COMMANDS = {
    "sweep": "run a suite and print its ranked table",
    "report": "a suite's table and figures, from what has been run",
    "data": "the published data sets: list, fetch, verify, prepare",
    "bench": "what a sweep costs on this machine, beside a plain loop",
    "bundle": "a suite in one archive that verifies itself",
    "results": "bring an MLflow store up to date with a results folder",
    "ui": "MLflow's pages on a results folder, with a link for each suite",
    "new": "a commented skeleton of a method, a task or a suite, with a test that passes",
}


def run() -> int:
    """Runs the command that the first argument names; raises UserError where there is none of that name."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: lmsa-bench COMMAND [ARGUMENT …]  or  lmsa-bench --version\n")
        print("\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items()))
        print("\nlmsa-bench COMMAND --help tells more of each")
        return 0
    name = sys.argv[1]
    if name == "--version":
        print(f"lmsa-bench {version('lmsa-bench')}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}: {nearest(name, COMMANDS)}")
    room, before = ("results", ["ui"]) if name == "ui" else (name, [])
    return run_command(room, [*before, *sys.argv[2:]])


def complete() -> None:
    """Offers a shell what can follow, and ends the process."""
    whole = argparse.ArgumentParser()
    commands = whole.add_subparsers()
    for name, text in COMMANDS.items():
        own = [import_module(f"lmsa_bench.{name}.arguments").parser()] if name != "ui" else []
        made = commands.add_parser(name, parents=own, add_help=not own, help=text)
        for action in made._actions:
            if action.dest == "suite":
                action.completer = _suites  # type: ignore[attr-defined]  # argcomplete's own way
    argcomplete.autocomplete(whole)


def _suites(prefix: str, **_: object) -> list[str]:
    """Our suites, and YAML files below the current folder."""
    own = [path.stem for path in Path(__file__).with_name("tune_configs").glob("*.yaml")]
    return [*own, *FilesCompleter(["yaml"])(prefix)]


def main() -> int:
    """The console script; see errors.exit_status."""
    if "_ARGCOMPLETE" in os.environ:
        complete()
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
