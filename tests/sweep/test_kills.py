"""Sweeps that meet random faults at random moments and go on, and end as if nothing had happened: real processes.

The environment variable LMSA_KILLS says how many sweeps (1), of which each is drawn by its own number: the first meets
the same faults every time, each of the others three of all kinds.
"""

import http.server
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from raylets import wait_until
from sweeps import ONE, Server, Sweep, ended

KILLS = int(os.environ.get("LMSA_KILLS", "1"))
FIRST = ("worker killed", "server killed", "raylet killed", "driver killed")
SUITE = ONE.replace("epochs: 6", "epochs: 6\nresources: {timeout: 20}")  # in which a worker that is stopped is missed

pytestmark = pytest.mark.slow


class Liar(http.server.BaseHTTPRequestHandler):
    """A server that takes everything and keeps nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Faults:
    """A sweep, its tracking server, and all that can happen to them."""

    def __init__(self, sweep: Sweep, server: Server, draw: random.Random) -> None:
        self.sweep, self.server, self.draw = sweep, server, draw
        self.finished: dict[str, int] = {}  # the trials that had, and when
        self.driver = sweep.start()

    def processes(self, name: str) -> list[psutil.Process]:
        """Those of the driver's whose command names this; waits for one while the driver runs."""
        while self.driver.poll() is None:
            with suppress(psutil.Error):  # one that ends just now
                children = psutil.Process(self.driver.pid).children(recursive=True)
                if found := [child for child in children if name in f"{child.name()} {' '.join(child.cmdline())}"]:
                    return found
            time.sleep(0.05)
        return []

    def signal(self, name: str, what: int) -> None:
        for process in self.processes(name)[:1]:
            with suppress(psutil.Error):
                process.send_signal(what)

    def again(self) -> None:
        """The same command, once the driver has ended."""
        self.finished |= self.sweep.stamps()
        assert "Traceback" not in self.sweep.output, self.sweep.output
        self.driver = self.sweep.start()

    def ray_lost(self, name: str) -> None:
        """A part of Ray dies: the driver says so in a line of ours, unless it was done."""
        self.signal(name, signal.SIGKILL)
        if ended(self.driver) not in (0, 3):
            assert "error: Ray's " in self.sweep.output, self.sweep.output
        self.again()

    def kill_driver(self, all_of_it: bool) -> None:
        with suppress(ProcessLookupError):  # it may have ended
            (os.killpg if all_of_it else os.kill)(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        self.damage_checkpoints()
        self.again()

    def damage_checkpoints(self) -> None:
        """The last one of each trial, and sometimes the one before it as well."""
        for path in sorted(self.sweep.journal.trials.glob("*/checkpoint*.pt")):
            if path.name == "checkpoint.pt" or self.draw.random() < 0.5:
                path.write_bytes(path.read_bytes()[:-10])

    def pause(self) -> None:
        """The driver stands still, as on a machine that sleeps."""
        with suppress(ProcessLookupError):
            os.kill(self.driver.pid, signal.SIGSTOP)
            time.sleep(self.draw.uniform(1, 30))
            os.kill(self.driver.pid, signal.SIGCONT)

    @contextmanager
    def server_away(self) -> Iterator[None]:
        self.server.kill()
        yield
        self.server.start()

    def restart_server(self) -> None:
        with self.server_away():
            time.sleep(self.draw.uniform(0, 10))

    def empty_server(self) -> None:
        with self.server_away():
            for path in Path(self.server.folder).glob("server.db*"):
                path.unlink()

    def lie(self) -> None:
        with self.server_away(), http.server.ThreadingHTTPServer(("127.0.0.1", self.server.port), Liar) as liar:
            threading.Thread(target=liar.serve_forever, daemon=True).start()
            time.sleep(self.draw.uniform(10, 25))
            liar.shutdown()

    def damage_cursor(self) -> None:
        (self.sweep.results / "mlflow_cursor.json").write_text(self.draw.choice(["", "{", "[]", '{"uri": 5}']))


KINDS = {
    "worker killed": lambda faults: faults.signal("TrialTrainable", signal.SIGKILL),
    "worker aborted": lambda faults: faults.signal("TrialTrainable", signal.SIGABRT),  # as CUDA does
    "worker stopped": lambda faults: faults.signal("TrialTrainable", signal.SIGSTOP),
    "raylet killed": lambda faults: faults.ray_lost("raylet/raylet"),
    "head killed": lambda faults: faults.ray_lost("gcs_server"),
    "driver killed": lambda faults: faults.kill_driver(all_of_it=False),
    "driver and all killed": lambda faults: faults.kill_driver(all_of_it=True),
    "driver paused": Faults.pause,
    "server killed": Faults.restart_server,
    "server emptied": Faults.empty_server,
    "server lies": Faults.lie,
    "cursor damaged": Faults.damage_cursor,
}


@pytest.mark.parametrize("number", range(KILLS))
def test_faults_at_any_moment_change_nothing(number, undisturbed, data, tmp_path):
    whole, seconds = undisturbed
    draw = random.Random(number)
    kinds = list(FIRST) if number == 0 else draw.choices(list(KINDS), k=3)
    moments = sorted(draw.uniform(0.02, 0.95) * seconds for _ in kinds)
    sweep, server = Sweep(tmp_path / "sweep", data, SUITE), Server(tmp_path)
    server.start()
    sweep.uri = server.uri
    started, faults = time.monotonic(), Faults(sweep, server, draw)
    try:
        for kind, at in zip(kinds, moments, strict=True):
            while time.monotonic() < started + at and faults.driver.poll() is None:
                time.sleep(0.05)
            faults.finished |= sweep.stamps()
            print(f"{kind} after {at:.1f} s, {len(faults.finished)} trials had finished", flush=True)
            KINDS[kind](faults)
        status = ended(faults.driver)
        assert status in (0, 3), sweep.output
        if status == 3 or number:  # the server was away when the sweep ended, or what it had was lost after that
            wait_until(lambda: sweep.sync().returncode == 0, 200)  # a busy machine's server answers late
        assert "Traceback" not in sweep.output
        assert sweep.rows() == whole.rows() and sweep.files() == whole.files()
        assert faults.finished.items() <= sweep.stamps().items(), "a trial that had finished ran again"
        assert not list(sweep.results.glob(".ray-*"))
        sweep.assert_mirrored()
    finally:
        ended(faults.driver)
        server.kill()
