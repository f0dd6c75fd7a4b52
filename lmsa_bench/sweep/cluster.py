"""A connection to Ray, or a Ray of our own; without Tune and torch, which can be imported while it starts."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel

from lmsa_bench.errors import UserError, one_line
from lmsa_bench.sweep import start
from lmsa_bench.sweep.watch import over_ray

ANSWER_SECONDS = 10.0  # for a cluster to accept a connection

_OPEN: list[bool] = []  # whether the connection that this process has is to a Ray of its own


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[bool]:
    """A connection to the Ray cluster of that address, else a Ray of its own, while the block runs; whether own."""
    if _OPEN:  # by an earlier step of a sweep that adds replications
        yield _OPEN[0]
        return
    start.set_environment(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if own := start.is_own(address):
        start.refuse_places()
        cpus = cpus or (start.cpus() if start.cpus() < (os.cpu_count() or 1) else None)  # Ray looks at quotas alone
        options |= {"num_cpus": cpus, "include_dashboard": False, "address": "local"}
    else:
        _refuse_unreachable(address or os.environ["RAY_ADDRESS"])
        options |= {"address": address} if address else {}
    try:
        with start.last_word():
            start.patiently(lambda: ray.init(**options))
    except Exception as error:  # noqa: BLE001 - whatever the parts of Ray raise, it has not started
        place = "does not start on this machine" if own else f"cluster {address or os.environ['RAY_ADDRESS']}"
        raise UserError(f"Ray {place}: {one_line(error)}") from None
    # Tune finishes in order on SIGUSR1 and would lose its workers on SIGTERM.
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    _OPEN.append(own)
    try:
        with over_ray():
            yield own
    finally:
        _OPEN.clear()
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _refuse_unreachable(address: str) -> None:
    """Raises UserError where no cluster answers: Ray itself would try for minutes, and then end the process."""
    if address in ("auto", "local"):
        return
    channel = init_grpc_channel(address.removeprefix("ray://"))
    try:
        grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
    except grpc.FutureTimeoutError:
        told = f"nothing answers there within {ANSWER_SECONDS:g} s; expected HOST:PORT of one that is up, or auto"
        raise UserError(f"Ray cluster {address}: {told}") from None
    finally:
        channel.close()
