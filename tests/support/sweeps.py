"""Sweeps and tracking servers in separate processes, and what they write."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raylets import free_ports

from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore

PLUGIN = Path(__file__).with_name("faulty.py")
NAME = "suite.yaml"
OUTPUT = "output"
ONE = """
suite: one
tasks: [digits_flip]
seeds: 2
sources: one
epochs: 6
plugins: [PLUGIN]
rows:
  slow: {grid: {lr: 1e-2, n: [0, 1, 2]}}
"""


class Sweep:
    """A folder with a suite's file, its results, and the output of its sweeps."""

    def __init__(self, folder: Path, data: Path, suite: str, results: Path | None = None) -> None:
        self.folder, self.data, self.results = folder, data, results or folder / "results"
        folder.mkdir(exist_ok=True, parents=True)
        (folder / NAME).write_text(suite.replace("PLUGIN", str(PLUGIN)))
        self.journal, self.environment = Journal(self.results, make=True), dict[str, str]()
        self.uri = f"sqlite:///{folder}/store.db"

    def start(self, *more: str, output: str = OUTPUT) -> subprocess.Popen:
        """Starts the command in a new session; its output goes to a file of that name in the folder."""
        arguments = [NAME, "--results", str(self.results), "--data", str(self.data), "--tracking-uri", self.uri, *more]
        with open(self.folder / output, "w") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "lmsa_bench.sweep", *arguments],
                cwd=self.folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"FAULTS": str(self.folder)} | self.environment,
            )

    def run(self, *more: str) -> int:
        """Runs the command and returns its exit status."""
        return ended(self.start(*more))

    @property
    def output(self) -> str:
        return self.said(OUTPUT)

    def said(self, output: str) -> str:
        """What the command that was started last with this name for its output has said."""
        return (self.folder / output).read_text()

    def sync(self) -> subprocess.CompletedProcess:
        arguments = ["sync", "--results", str(self.results), "--tracking-uri", self.uri]
        command = [sys.executable, "-m", "lmsa_bench.results", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=500)

    def rows(self) -> list[dict]:
        """The table without times and provenance."""
        return self.journal.table().drop_columns(["seconds", "time", "provenance"]).to_pylist()

    def files(self) -> dict[str, list]:
        """Every trial's records and result on disk, without times and provenance."""
        lines_of = {}
        for trial in self.journal.ids():
            folder = self.journal.trials / trial
            lines = (folder / "records.jsonl").read_text().splitlines()
            documents = [json.loads(line) for line in [*lines, (folder / "result.json").read_text()]]
            for document in documents:
                for name in ("seconds", "time", "provenance"):
                    document.pop(name, None)
            lines_of[trial] = [json.dumps(document, sort_keys=True) for document in documents]
        return lines_of

    def stamps(self) -> dict[str, int]:
        """When each finished trial's result was written."""
        return {t: (self.journal.trials / t / "result.json").stat().st_mtime_ns for t in self.journal.finished()}

    def assert_mirrored(self) -> None:
        """Asserts that MLflow has one run per trial, and the same table as the results folder."""
        store = ResultStore(self.uri)
        keys = [run.data.tags["lmsa.trial_key"] for run in store._runs() if "lmsa.trial_key" in run.data.tags]
        assert sorted(keys) == self.journal.ids()
        assert store.table().equals(self.journal.table())


def ended(process: subprocess.Popen) -> int:
    """The exit status of a process, which is killed with its children if it hangs."""
    try:
        return process.wait(timeout=500)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Server:
    """An MLflow tracking server on a free port of this machine, which can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        (self.port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{self.folder}/server.db",
        ]
        command += ["--workers", "1", "--port", str(self.port), "--artifacts-destination", str(self.folder / "served")]
        quiet = {"start_new_session": True, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, env=environment, **quiet)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.2)
        self.kill()
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path | None]:
    """A file system of its own at this folder, in memory, with mount's options; None without the rights to mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
