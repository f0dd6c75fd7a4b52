"""A sweep and its tracking store, and all that can happen to them."""

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
from filelock import FileLock, Timeout
from flaky import Flaky
from sweeps import Server, Sweep, ended

DONE = (0, 3)  # exit statuses of a sweep whose trials have all ended
ASIDE = "output_beside"
PATIENCE = 500.0  # seconds for a sweep to end


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
    """A sweep that runs, the server it publishes to (else a file of its own), the small disk its results may be on."""

    def __init__(self, sweep: Sweep, draw: random.Random, server: Server | None, disk: Path | None) -> None:
        self.sweep, self.draw, self.server, self.disk = sweep, draw, server, disk
        self.network = None if server is None else Flaky(server.port)
        sweep.uri = sweep.uri if self.network is None else self.network.uri
        self.clock = sweep.folder / "clock"
        path = os.pathsep.join(filter(None, (str(Path(__file__).with_name("clock")), os.environ.get("PYTHONPATH"))))
        sweep.environment = {"CLOCK": str(self.clock), "PYTHONPATH": path}
        self.finished: dict[str, int] = {}  # the trials that had, and when
        self.driver, self.beside = sweep.start(), None
        self.started = [self.driver]

    def kinds(self) -> list[str]:
        """The names of all that can happen to this sweep."""
        return [*ANYWHERE, *(OF_A_FILE if self.server is None else OF_A_SERVER), *(OF_A_DISK if self.disk else ())]

    def meet(self, kind: str, after: float) -> bool:
        """Has this happen so many seconds from now, unless the sweep has come to its end; whether it did."""
        self._wait(after)
        if self.driver.poll() in DONE:
            return False
        if self.driver.poll() is not None:
            self.again()
        self.finished |= self.sweep.stamps()
        print(f"met: {kind} ({len(self.finished)} trials had finished)", flush=True)
        KINDS[kind](self)
        return True

    def end(self) -> int:
        """Runs the command until all trials have ended; its exit status."""
        for _ in range(4):
            if self.driver.wait(PATIENCE) in DONE:
                break
            self.again()
        if self.beside is not None:
            assert ended(self.beside) >= 0 and "Traceback" not in self.sweep.said(ASIDE), self.sweep.said(ASIDE)
        return self.driver.wait(PATIENCE)

    def stop(self) -> None:
        for process in filter(None, (*self.started, self.beside)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.network is not None:
            self.network.shutdown()
            self.server.kill()

    def again(self) -> None:
        """The same command once the driver has ended, on as many CPUs as it happens."""
        status = self.driver.wait(PATIENCE)  # what it leaves may live on beside its successor
        self.finished |= self.sweep.stamps()
        said = self.sweep.output
        assert "Traceback" not in said, said
        if status > 0 and status not in DONE:  # by itself: in words of ours
            assert any(words in said for words in ("again to resume", "error: ", "failed: ")), said
        self.driver = self.sweep.start(*self.draw.choice([(), ("--cpus", "1"), ("--cpus", "3")]))
        self.started.append(self.driver)

    def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            self._until(lambda: False, seconds)

    def _until(self, condition, seconds: float = 300.0, every: float = 0.05) -> None:
        """Until this is so or the driver has ended."""
        deadline = time.monotonic() + seconds
        while not condition() and self.driver.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(every)

    def _processes(self, name: str) -> list[psutil.Process]:
        """Those of the driver's whose command names this."""
        found = []
        with suppress(psutil.Error):  # one that ends just now
            for child in psutil.Process(self.driver.pid).children(recursive=True):
                if name in f"{child.name()} {' '.join(child.cmdline())}":
                    found.append(child)
        return found

    def send(self, name: str, what: int) -> None:
        """Sends a signal to one of the driver's processes, once there is one of that name."""
        self._until(lambda: self._processes(name))
        if found := self._processes(name):
            with suppress(psutil.Error):
                self.draw.choice(found).send_signal(what)

    def end_driver(self, what: int = signal.SIGKILL, all_of_it: bool = False) -> None:
        with suppress(ProcessLookupError):  # it may have ended
            (os.killpg if all_of_it else os.kill)(self.driver.pid, what)
        if what == signal.SIGKILL:
            self.driver.wait()
            self.damage_checkpoints()
        self.again()

    def damage_checkpoints(self) -> None:
        """The last one of each trial, and sometimes the one before it as well."""
        for path in sorted(self.sweep.journal.trials.glob("*/checkpoint*.pt")):
            if self.beside is None and (path.name == "checkpoint.pt" or self.draw.random() < 0.5):
                path.write_bytes(path.read_bytes()[:-10])

    def kill_young(self) -> None:
        self.end_driver(all_of_it=True)
        self._wait(self.draw.uniform(0, 1))
        self.end_driver()

    def kill_publishing(self) -> None:
        """While the publisher has the cursor."""

        def publishes() -> bool:
            try:
                with FileLock(self.sweep.results / "mlflow.lock", timeout=0):
                    return False
            except Timeout:
                return True

        self._until(publishes)
        self._wait(self.draw.uniform(0, 0.5))
        self.end_driver()

    def kill_committing(self) -> None:
        """While SQLite has the journal that takes a half-written change back."""
        self._until(Path(f"{self.sweep.folder}/store.db-journal").exists, every=0.002)
        self.end_driver()

    def kill_drawing(self) -> None:
        """While the table's files and figures are written, at the end."""
        summary = self.sweep.results / "summary" / "one"
        before = {path: path.stat().st_mtime_ns for path in summary.glob("*")}
        self._until(lambda: any(path not in before for path in summary.glob("*")) or self._later(before))
        self._wait(self.draw.uniform(0, 0.3))
        self.end_driver()

    @staticmethod
    def _later(before: dict[Path, int]) -> bool:
        return any(path.exists() and path.stat().st_mtime_ns != at for path, at in before.items())

    def interrupt(self) -> None:
        """Ctrl-C, or a cluster that wants its machine back, once there is something to interrupt."""
        self._until(lambda: "on Ray" in self.sweep.output)
        self.end_driver(self.draw.choice([signal.SIGINT, signal.SIGTERM]), all_of_it=self.draw.random() < 0.5)

    def pause(self) -> None:
        """The driver stands still, as on a machine that sleeps."""
        with suppress(ProcessLookupError):
            os.kill(self.driver.pid, signal.SIGSTOP)
            time.sleep(self.draw.uniform(1, 30))
            os.kill(self.driver.pid, signal.SIGCONT)

    def set_clock(self) -> None:
        """Forwards or backwards by hours, for all that comes."""
        self.clock.write_text(str(self.draw.randint(-40_000, 40_000)))

    def sweep_beside(self) -> None:
        """Another driver with the same command, which may run to its end."""
        if self.beside is None:
            self.beside = self.sweep.start(output=ASIDE)

    def damage_cursor(self) -> None:
        (self.sweep.results / "mlflow_cursor.json").write_text(self.draw.choice(["", "{", "[]", '{"uri": 5}']))

    def remove_database(self) -> None:
        for path in self.sweep.folder.glob("store.db*"):
            path.unlink(missing_ok=True)

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

    def spoil_network(self) -> None:
        """From now on: every third call to the server fails in one of three ways, or takes nine seconds."""
        self.network.bad = True

    def fill(self, write_one) -> None:
        """No room on the disk for a while: for bytes, or for files."""
        ballast = self.disk / "ballast"
        ballast.mkdir()
        with suppress(OSError):
            for number in range(10**6):
                write_one(ballast / str(number))
        self._wait(self.draw.uniform(1, 10))
        for path in ballast.iterdir():
            path.unlink()
        ballast.rmdir()


ANYWHERE = {
    "worker killed": lambda faults: faults.send("Trainable", signal.SIGKILL),
    "worker aborted": lambda faults: faults.send("Trainable", signal.SIGABRT),  # as CUDA does
    "worker stopped": lambda faults: faults.send("Trainable", signal.SIGSTOP),
    "some process of Ray killed": lambda faults: faults.send("ray", signal.SIGKILL),
    "raylet killed": lambda faults: faults.send("raylet/raylet", signal.SIGKILL),
    "head killed": lambda faults: faults.send("gcs_server", signal.SIGKILL),
    "driver killed": Faults.end_driver,
    "driver and all its processes killed": lambda faults: faults.end_driver(all_of_it=True),
    "driver killed in its first second": Faults.kill_young,
    "driver killed while it publishes": Faults.kill_publishing,
    "driver killed while it draws": Faults.kill_drawing,
    "driver interrupted": Faults.interrupt,
    "driver paused": Faults.pause,
    "clock set": Faults.set_clock,
    "the same sweep started beside it": Faults.sweep_beside,
    "cursor damaged": Faults.damage_cursor,
}
OF_A_SERVER = {
    "server killed": Faults.restart_server,
    "server emptied": Faults.empty_server,
    "server lies": Faults.lie,
    "network flaky": Faults.spoil_network,
}
OF_A_FILE = {
    "driver killed in a commit to SQLite": Faults.kill_committing,
    "database removed": Faults.remove_database,
}
OF_A_DISK = {
    "disk full": lambda faults: faults.fill(lambda path: path.write_bytes(bytes(2**16))),
    "out of inodes": lambda faults: faults.fill(lambda path: path.touch()),
}
KINDS = ANYWHERE | OF_A_SERVER | OF_A_FILE | OF_A_DISK
