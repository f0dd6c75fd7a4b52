"""What several test files share: an undisturbed sweep, with which they compare theirs."""

import os
import socket
import time

import pytest
from sweeps import ONE, Sweep

os.environ.setdefault("RAY_worker_niceness", "0")  # as nice as Ray makes them, workers would starve beside other tests


def pytest_make_parametrize_id(config, val, argname):
    """Refuses tests that are named after bytes: those of an archive hold the time of its making."""
    if isinstance(val, bytes):
        raise pytest.UsageError(f"{argname}: give ids by name where a parameter is bytes")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, data):
    """The sweep of ONE that nothing happened to, but that no store was there; its seconds."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), data, ONE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sweep.uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    sweep.status = sweep.run()
    return sweep, time.monotonic() - started
