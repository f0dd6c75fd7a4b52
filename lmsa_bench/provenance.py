"""Where a result comes from: commit, versions and command, the same for all trials of a sweep."""

import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmsa_bench.errors import without_password
from lmsa_bench.trial.spec import Value

PACKAGES = ("lmsa_bench", "torch", "torchvision", "timm", "ray", "mlflow", "numpy")


def of_process() -> dict[str, Value]:
    """The code's commit and whether it was changed since, its hash, package versions, Python, machine and command line.

    Where there is no checkout, as in an image or a job's upload, the commit is that of the variable LMSA_COMMIT.
    """
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None  # not by a checkout around it
    facts: dict[str, Value] = {
        "command": without_password(" ".join(["python", "-m", "lmsa_bench.sweep", *sys.argv[1:]])),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "commit": _git("rev-parse", "HEAD") if tracked else os.environ.get("LMSA_COMMIT") or None,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if tracked else None,
        "code": _code(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    return facts


def _code() -> str:
    """A hash of this package's modules as they are, which also tells two changed checkouts of one commit apart."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this package lies in, None where that is no checkout or there is no git."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
