"""Where a result comes from: commit, versions and command, the same for all trials of a sweep."""

import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmsa_bench.errors import PACKAGE, without_password
from lmsa_bench.trial.spec import Value

PACKAGES = ("lmsa_bench", "torch", "torchvision", "timm", "ray", "mlflow", "numpy")


def of_process() -> dict[str, Value]:
    """The code's commit and whether it was changed since, its hash, package versions, Python, machine and command line.

    Where there is no checkout, as in an image or a job's upload, the commit is that of the variable LMSA_COMMIT.
    """
    tracked = _git("ls-files", "--error-unmatch", "__init__.py") is not None  # not by a checkout around it
    facts: dict[str, Value] = {
        "command": without_password(_command()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "commit": _git("rev-parse", "HEAD") if tracked else os.environ.get("LMSA_COMMIT") or None,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if tracked else None,
        "code": code_of_package(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    return facts


def of_machine(device: str) -> dict[str, Value]:
    """What runs a trial: its device, the CPU's model and instruction set. Another kind may round otherwise."""
    from torch.backends import cpu

    return {"device": device, "cpu": _cpu(), "instructions": cpu.get_cpu_capability()}


@cache
def _cpu() -> str:
    """The CPU's model name, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _command() -> str:
    """The command line as a user types it; a script's or notebook's is its own."""
    module = sys.modules["__main__"].__spec__
    program = (
        ["python", "-m", module.name.removesuffix(".__main__")] if module is not None else [Path(sys.argv[0]).name]
    )
    return " ".join([*program, *sys.argv[1:]])


@cache
def code_of_package() -> str:
    """A hash of this package's modules as they are, which also tells two changed checkouts of one commit apart."""
    here, digest = PACKAGE, hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this package lies in, None where that is no checkout or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
