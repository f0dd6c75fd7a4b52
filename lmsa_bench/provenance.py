"""Where a result comes from: commit, versions and command, the same for all trials of a sweep."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmsa_bench.trial.spec import Value

PACKAGES = ("lmsa_bench", "torch", "torchvision", "timm", "ray", "mlflow", "numpy")


def of_process() -> dict[str, Value]:
    """The code's commit and whether it was changed since, package versions, Python, machine and command line."""
    facts: dict[str, Value] = {
        "command": " ".join(["python", "-m", "lmsa_bench.sweep", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "commit": _git("rev-parse", "HEAD"),
    }
    facts["dirty"] = bool(_git("status", "--porcelain", "--untracked-files=no")) if facts["commit"] else None
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    return facts


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this package lies in, None where that is no checkout or there is no git."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
