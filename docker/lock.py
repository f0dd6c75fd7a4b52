"""Writes requirements.txt and torch.txt, what the image installs, anew:  python3.11 docker/lock.py  (Linux on x86-64)

One resolution of pyproject.toml's dependencies and of what the servers need, each file by its hash.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
SERVERS = ("mlflow[auth]", "psycopg2-binary")
CUDA = re.compile("torch|torchvision|triton|nvidia-.*|cuda-.*")  # what another index has for other devices


def main() -> None:
    wanted = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    told = subprocess.run([*command, *wanted, *SERVERS], check=True, stdout=subprocess.PIPE).stdout
    lines = dict[str, str]()
    for package in json.loads(told)["install"]:
        name = re.sub("[-_.]+", "-", package["metadata"]["name"]).lower()
        sha256 = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines[name] = f"{name}=={package['metadata']['version']} --hash=sha256:{sha256}\n"
    for file, cuda in (("requirements.txt", False), ("torch.txt", True)):
        kept = [lines[name] for name in sorted(lines) if bool(CUDA.fullmatch(name)) == cuda]
        (HERE / file).write_text("# By docker/lock.py, for Python 3.11 on x86-64.\n" + "".join(kept))


if __name__ == "__main__":
    main()
