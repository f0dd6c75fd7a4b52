"""Writes the skeleton of a method, a task or a suite of your own:  lmsa-bench new method NAME"""

import argparse
from pathlib import Path

FILES = {  # of each kind: the file that is written, by its skeleton
    "method": {"method.py.txt": "{}.py", "method.yaml.txt": "{}.yaml", "method_test.py.txt": "test_{}.py"},
    "task": {"task.py.txt": "{}.py", "task.yaml.txt": "{}.yaml", "task_test.py.txt": "test_{}.py"},
    "suite": {"suite.yaml.txt": "{}.yaml"},
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="lmsa-bench new", description=__doc__)
    made.add_argument("kind", choices=FILES, help="what to write")
    made.add_argument("name", metavar="NAME", help="its name, in snake_case")
    made.add_argument("--folder", type=Path, default=Path(), help="where to write it (default: here)")
    return made
