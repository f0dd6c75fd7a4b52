"""The cluster's nodes: how many trials they take, and whether they see the folders that a sweep writes to."""

import importlib.util
import os
import time
import uuid
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lmsa_bench.errors import UserError

NAMESPACE = "lmsa_bench"  # in Ray's store
START_SECONDS = 60.0  # that a worker waits for those that start beside it
SHOWN_SECONDS = 5.0  # within which the other nodes must see a new file: network file systems may take a while


def slots(cpus: float, gpus: float) -> int:
    """How many trials of these resources the nodes that are up run at a time, 0 where none has enough for one."""
    return sum([_fitting(node["Resources"], cpus, gpus) for node in ray.nodes() if node["Alive"]])


def _fitting(there: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many such trials one node holds: a trial lies on one node, and a fraction of a GPU on one GPU."""
    takes = []
    if cpus:
        takes.append(_whole(there.get("CPU", 0.0), cpus))
    if gpus:
        takes.append(int(there.get("GPU", 0.0)) * _whole(1, gpus) if gpus < 1 else _whole(there.get("GPU", 0.0), gpus))
    return min(takes, default=1)


def _whole(amount: float, part: float) -> int:
    return int(amount / part + 1e-6)


def starting(sweep: str, trial: str = "") -> str:
    """The name of the worker that starts for this trial of Tune, or what all such names begin with."""
    return f"{sweep}.starting/{trial}"


def making(sweep: str, trial: str = "") -> str:
    """The name of the worker that may be making this trial's source model, or what all such names begin with."""
    return f"{sweep}.making/{trial}"


def unmade(sweep: str, source: Hashable) -> str:
    """Where a sweep keeps why this source model cannot be made."""
    return f"{sweep}.unmade/{source}"


def tell(name: str, text: str) -> None:
    """Leaves a text for all processes of the cluster, until ``forget``."""
    _internal_kv_put(name, text.encode(), namespace=NAMESPACE)


def told(name: str) -> str:
    """The text under that name, "" where there is none."""
    return (_internal_kv_get(name, namespace=NAMESPACE) or b"").decode()


def wait_for_peers(sweep: str, peers: int, cpus: float, gpus: float, own: str) -> None:
    """Returns when so many workers of this sweep have started, or all that the nodes hold, or after START_SECONDS.

    Tune hands the trial of an actor that is still starting to one that is free, and kills the starting one: with trials
    shorter than a start, the first actor would run them all alone. They meet in Ray's own store: a network file
    system may show a new file half a minute late. Meanwhile this one shows its own name to be alive.
    """
    beat(f"{sweep}/{ray.get_runtime_context().get_actor_id()}")
    deadline = time.monotonic() + START_SECONDS
    while len(_internal_kv_list(f"{sweep}/", namespace=NAMESPACE)) < peers and time.monotonic() < deadline:
        time.sleep(0.1)
        beat(own)
        peers = min(peers, slots(cpus, gpus))  # a node may have died, and its workers with it


def beat(worker: str, done: int = 0) -> None:
    """A sign of life of this process, which also says how it can be ended, and how many epochs it has done."""
    tell(worker, f"{ray.get_runtime_context().get_node_id()} {os.getpid()} {time.monotonic()} {done}")


def epochs(pulse: str) -> int:
    """How many epochs a sign of life tells of."""
    return int(pulse.split()[-1])


def pulses(start: str) -> dict[str, str]:
    """The last sign of life of each worker whose name starts so, by the rest of its name."""
    names = [key.decode() for key in _internal_kv_list(start, namespace=NAMESPACE)]
    found = {name.removeprefix(start): told(name) for name in names}
    return {name: pulse for name, pulse in found.items() if pulse}  # others were forgotten meanwhile


def end(worker: str) -> None:
    """Has the node of a worker end it: one that is stopped hears nothing itself."""

    @ray.remote(num_cpus=0, max_retries=0)
    def kill(pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if "ray::" in " ".join(process.cmdline()):  # else it has ended, and the number is another's now
                process.kill()

    if last := told(worker):
        node, pid, *_ = last.split()
        kill.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(int(pid))


def forget(worker: str) -> None:
    """Drops what was told under this name, and under all that begin with it: those of a worker, or of a sweep."""
    _internal_kv_del(worker, del_by_prefix=True, namespace=NAMESPACE)


@contextmanager
def _tokens(folders: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """A new file in each folder while the block runs; by option its path."""
    name = f".seen-{uuid.uuid4().hex}"
    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        yield {option: str(folder / name) for option, folder in folders.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror}); name another folder") from None
    finally:
        for folder in folders.values():
            (folder / name).unlink(missing_ok=True)


def refuse_unshared(folders: Mapping[str, Path]) -> None:
    """Raises UserError where a node that can run trials has other folders than the driver (by option, such as --data).

    Each node checks for itself: a path does not say what is mounted there.
    """

    @ray.remote(num_cpus=0)
    def trouble(tokens: dict[str, str], patience: float) -> str | None:
        if importlib.util.find_spec("lmsa_bench") is None:
            return "cannot import lmsa_bench: install it there, or submit the job with --working-dir"
        for option, token in tokens.items():
            folder, deadline = os.path.dirname(token), time.monotonic() + patience
            while not os.path.exists(token):
                if time.monotonic() > deadline:
                    return f"does not see {option} {folder} of the driver: name a folder that all nodes share"
                time.sleep(0.2)
            if not os.access(folder, os.W_OK):
                return f"cannot write to {option} {folder}"
        return None

    context = ray.get_runtime_context()
    for option, folder in folders.items():
        if context.runtime_env.get("working_dir") and folder.is_relative_to(Path.cwd()):
            raise UserError(
                f"{option} {folder} lies in the job's copy of its working directory, which Ray deletes with the job: "
                "name a folder outside of it, by its absolute path"
            )
    others = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != context.get_node_id() and {"CPU", "GPU"} & node["Resources"].keys()
    ]
    with _tokens(folders) as tokens:
        checks: list[tuple[dict[str, Any], Any]] = []
        for node in others:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            checks.append((node, trouble.options(scheduling_strategy=there).remote(tokens, SHOWN_SECONDS)))
        for node, reference in checks:
            try:
                found = ray.get(reference)
            except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
                continue  # it has died meanwhile, and no trial will run there
            if found is not None:
                raise UserError(f"node {node['NodeManagerAddress']} {found}")
