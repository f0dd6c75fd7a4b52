"""Two processes collect the same tests, which parallel test runs require."""

import os
import subprocess
import sys
import time
from pathlib import Path


def test_two_processes_collect_the_same_tests():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    processes = []
    for seed in ("1", "2"):  # shows ids that depend on the time, on hash order or on the process
        environment = os.environ | {"PYTHONHASHSEED": seed}
        place = {"cwd": Path(__file__).parents[1], "env": environment, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **place))
        time.sleep(2.1)
    first, second = (process.communicate(timeout=500)[0].splitlines() for process in processes)
    tests = [line for line in first if "::" in line]
    assert tests == [line for line in second if "::" in line]
    assert len(tests) > 800 and all(line.isprintable() for line in tests)
