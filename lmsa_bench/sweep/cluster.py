"""A connection to Ray, or a Ray of our own; without Tune and torch, which can be imported while it starts."""

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from lmsa_bench.errors import UserError

ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[bool]:
    """A connection to the Ray cluster of that address, else a Ray of its own, while the block runs; whether own."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        options |= {"num_cpus": cpus, "include_dashboard": False, "address": "local"}
    elif address is not None:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"Ray cluster {address or os.environ.get('RAY_ADDRESS', 'local')}: {error}") from None
    # Tune finishes in order on SIGUSR1 and would lose its workers on SIGTERM.
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        yield options.get("address") == "local"
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def warm_up(workers: int, cpus: float) -> None:
    """Lets so many of the cluster's idle processes import what a trial needs, while the driver gets ready.

    Their actors take such a process where there is one; on a GPU each gets a new one, so this would be for nothing.
    """

    @ray.remote(num_cpus=cpus, max_retries=0)
    def imports() -> None:
        for name in ("lmsa_bench.sweep.workers", "torch._dynamo"):  # the latter by an optimizer's first step
            importlib.import_module(name)

    for _ in range(workers):
        imports.remote()
