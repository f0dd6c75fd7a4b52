"""A Ray cluster of several raylets on this machine, started by `ray start`, and jobs submitted to it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds} seconds"
        time.sleep(0.05)


@dataclass
class Nodes:
    """A cluster of raylets on this machine with its own token."""

    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        token = self.folder / "token"
        token.write_text("t" * 32)
        token.chmod(0o600)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(REPOSITORY)}
        self.port, self.dashboard, client, agent = free_ports(4)
        self.address = f"127.0.0.1:{self.port}"
        head = ["--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}", f"--temp-dir={self.folder}/ray"]
        self._start(*head, f"--ray-client-server-port={client}", agent=agent)

    def _start(self, *options: str, agent: int, before: tuple[str, ...] = ()) -> subprocess.Popen:
        command = [*before, RAY, "start", "--block", "--num-cpus=2", "--num-gpus=2", "--disable-usage-stats", *options]
        with open(self.folder / f"node{len(self.started)}.log", "w") as log:
            node = subprocess.Popen(
                [*command, f"--dashboard-agent-listen-port={agent}"],
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(node)

        def responds() -> bool:
            assert node.poll() is None, Path(log.name).read_text()
            host = socket.gethostbyname(socket.gethostname())
            return any(socket.socket().connect_ex((at, agent)) == 0 for at in ("127.0.0.1", host))

        wait_until(responds)
        return node

    def add(self, *before: str) -> subprocess.Popen:
        """Adds a node, and returns once it has joined."""
        return self._start(f"--address={self.address}", agent=free_ports(1)[0], before=before)

    def sweep(self, folder: Path, suite: str, *options: str) -> subprocess.Popen:
        """Starts a sweep on all nodes, in a folder with the suite's file."""
        return subprocess.Popen(
            [sys.executable, "-m", "lmsa_bench.sweep", suite, *options, "--address", self.address],
            cwd=folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, checkout: Path, name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        at = [f"--address=http://127.0.0.1:{self.dashboard}", f"--submission-id={name}", f"--working-dir={checkout}"]
        command = [RAY, "job", "submit", *at, f"--runtime-env-json={json.dumps({'env_vars': env})}", "--"]
        command += [sys.executable, "-m", "lmsa_bench.sweep", *arguments]
        return subprocess.run(command, env=self.env, cwd=checkout, capture_output=True, text=True, timeout=300)

    def driver_exit_code(self, name: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.dashboard}/api/jobs/{name}")
        request.add_header("Authorization", f"Bearer {'t' * 32}")
        with urllib.request.urlopen(request) as response:
            return json.load(response)["driver_exit_code"]

    def stop(self) -> None:
        for node in reversed(self.started):
            kill(node)


def kill(node: subprocess.Popen) -> None:
    """Kills a node's processes at once, as a power failure does."""
    if node.poll() is None:
        for process in [*psutil.Process(node.pid).children(recursive=True), node]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    node.wait()
