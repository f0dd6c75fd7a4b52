"""All commands under one name:  lmsa-bench sweep|report|data|results …"""

import sys
from importlib.metadata import version

from lmsa_bench.errors import UserError, exit_status, imported, nearest

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
    status: int = imported(f"lmsa_bench.{room}.command").main([*before, *sys.argv[2:]])
    return status


def main() -> int:
    """The console script; see errors.exit_status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
