"""The commands as a shell meets them: help at once, and completion."""

import os
import subprocess
import sys

import pytest

from lmsa_bench.__main__ import COMMANDS

HEAVY = {"torch", "ray", "mlflow", "numpy", "pyarrow", "pandas", "matplotlib", "scipy"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_that_takes_long(command):
    code = "import sys\nfrom lmsa_bench.__main__ import main\ntry:\n    main()\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, timeout=60)
    *said, modules = done.stdout.splitlines()
    assert done.returncode == 0 and said[0].startswith("usage: ")
    assert not HEAVY & set(modules.split())


def completed(line: str) -> set[str]:
    """What a shell is offered at the end of a line, as argcomplete's own script asks for it."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout", "_ARGCOMPLETE_IFS": "\n"}
    environment = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "lmsa_bench"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    return set(done.stdout.replace("\v", "\n").split())


def test_a_shell_completes_commands_suites_and_options():
    assert completed("lmsa-bench ") >= COMMANDS.keys()
    assert "quickstart" in completed("lmsa-bench sweep qu")
    assert completed("lmsa-bench report --for") == {"--format"}
    assert completed("lmsa-bench report --format mark") == {"markdown"}
    assert completed("lmsa-bench results sy") == {"sync"}
