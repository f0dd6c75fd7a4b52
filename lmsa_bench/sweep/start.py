"""What must be so before Ray starts; imports Ray late, since that reads its environment."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import psutil

from lmsa_bench.errors import UserError

PATIENCE = 240  # seconds for which a slow machine's own Ray is waited for
SLOW = 30  # seconds after which that is said
LONGEST_TMPDIR = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")  # of a socket's path
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**6),  # Tune's own state is disposable: it is written at the end alone
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: see tuning.stoppable
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there, it listens on the loopback interface alone
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE),
    "RAY_worker_register_timeout_seconds": str(PATIENCE),
}


@dataclass(frozen=True)
class Cluster:
    """The Ray that a sweep runs on, and how."""

    address: str | None = None  # None: $RAY_ADDRESS, else a Ray of this machine
    cpus: int | None = None  # of a local Ray; None: all
    asha: bool = False


def is_own(address: str | None) -> bool:
    """Whether a sweep without that address starts a Ray of this machine."""
    return address is None and "RAY_ADDRESS" not in os.environ


def cpus() -> int:
    """How many CPUs this process may use: ``taskset`` may have left it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_environment(address: str | None) -> None:
    """Sets what Ray reads from the environment, where the user has not."""
    for name, value in (ENVIRONMENT | (OWN if is_own(address) else {})).items():
        os.environ.setdefault(name, value)


def refuse_places() -> None:
    """Raises UserError where a Ray of this machine could not keep its sockets or its token."""
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "TMPDIR")
    folder = os.environ.get(variable) or "/tmp"
    try:
        os.makedirs(os.path.join(folder, "ray"), exist_ok=True)
        writable = os.access(os.path.join(folder, "ray"), os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"{variable} {folder}: cannot be written, and Ray needs it; name another folder")
    if (length := len(os.fsencode(os.path.abspath(folder)))) > LONGEST_TMPDIR:
        too_long = f"{length} characters are too long for Ray's sockets, at most {LONGEST_TMPDIR}"
        raise UserError(f"{variable} {folder}: {too_long}; name another folder")
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        home = Path.home()
        if not os.access(home / ".ray" if (home / ".ray").exists() else home, os.W_OK | os.X_OK):
            raise UserError(f"HOME {home}: cannot be written, and Ray keeps its token there; name another folder")


class Ended(Exception):
    """A process of our own Ray has ended while Ray started: a raylet does where its agent takes more than 15 s."""


def patiently(begin: Callable[[], object]) -> None:
    """Begins our own Ray also on a slow machine, for as long as PATIENCE; raises Ended where it never starts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        before = psutil.Process().children()
        try:
            with _waiting(deadline, before):
                begin()
            return
        except Ended:
            left = _children(before)
            for child in left:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(left)
            if time.monotonic() > deadline:
                raise
            print("Ray is slow to start here: starting it again", flush=True)


@contextmanager
def last_word() -> Iterator[None]:
    """Has another process say what to do where Ray's own code ends this one: its raylet may end as we register."""
    told = "Ray ended while it started; run the same command again to resume"
    say = f"import sys; sys.stdin.read(1) and (sys.stdin.read(1) or print('error: {told}'))"
    # In a session of its own, as Ctrl-C is for all processes of this one.
    other = subprocess.Popen([sys.executable, "-ISc", say], stdin=subprocess.PIPE, start_new_session=True)
    assert other.stdin is not None
    try:
        other.stdin.write(b"1")  # Ctrl-C before it leaves nothing to say
        other.stdin.flush()
        yield
    finally:
        other.communicate(b"11")


def _children(before: Collection[Any]) -> list[Any]:
    return [child for child in psutil.Process().children() if child not in before]


def _ended(before: Collection[Any]) -> str | None:
    """The name of a process of Ray that has ended, None while all run."""
    with suppress(psutil.NoSuchProcess):
        ours = [child for child in _children(before) if child.name() in ("gcs_server", "raylet")]
        return next((child.name() for child in ours if child.status() == psutil.STATUS_ZOMBIE), None)
    return None


@contextmanager
def _waiting(deadline: float, before: Collection[Any]) -> Iterator[None]:
    """Has Ray wait for its own processes: by itself it gives up after 30 s, and does not see that one has ended."""
    node, services = cast(Any, import_module("ray._private.node")), cast(Any, import_module("ray._private.services"))

    def patient(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            started, told = time.monotonic(), False
            while True:
                try:
                    return ask(*arguments)
                except RuntimeError:
                    if (name := _ended(before)) is not None:
                        raise Ended(f"its {name} has ended while it started") from None
                    if time.monotonic() > deadline:
                        raise
                if not told and (told := time.monotonic() - started > SLOW):
                    print("Ray is slow to start here: waiting for it", flush=True)
                time.sleep(1.0)

        return asked

    get_node, wait_for_port = services.get_node, node.wait_for_persisted_port
    port = patient(partial(wait_for_port, timeout_ms=1000))
    services.get_node = patient(get_node)
    node.wait_for_persisted_port = lambda *place, timeout_ms: port(*place)
    try:
        yield
    finally:
        services.get_node, node.wait_for_persisted_port = get_node, wait_for_port
