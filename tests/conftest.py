"""Shared by several test files: an undisturbed sweep, to compare theirs with."""

import os
import time

import pytest
from raylets import free_ports
from sweeps import ONE, Sweep

os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's default niceness, workers would starve beside other tests


def pytest_make_parametrize_id(config, val, argname):
    """Refuses test ids made from bytes, as an archive's contain its creation time."""
    if isinstance(val, bytes):
        raise pytest.UsageError(f"{argname}: give ids by name where a parameter is bytes")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, data):
    """An undisturbed sweep of ONE, though with an unreachable tracking server, and its duration in seconds."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), data, ONE)
    sweep.uri = f"http://127.0.0.1:{free_ports(1)[0]}"
    started = time.monotonic()
    sweep.status = sweep.run()
    return sweep, time.monotonic() - started
