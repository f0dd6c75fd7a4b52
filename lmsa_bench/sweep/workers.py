"""What runs on Ray's workers: source models and trials."""

import faulthandler
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray import tune

from lmsa_bench import pretrain
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.plugins import import_plugin
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.storage import PATIENCE, Storage
from lmsa_bench.suite import Suite
from lmsa_bench.sweep.nodes import wait_for_peers
from lmsa_bench.tasks import build
from lmsa_bench.tasks.task import Task
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value

RETRIES = 2  # of a trial or source model whose worker or node dies, each from its last epoch
HANG = "hang.txt"  # in a trial's folder: where its threads were when its worker was taken to hang
STEP_SECONDS = 1.0  # epochs shorter than this are reported to Ray together: a report costs milliseconds


def set_up(plugins: Iterable[str], cpus: float, gpus: float) -> torch.device:
    """Makes a worker's process ready: the user's modules, threads as many as its CPUs, repeatable kernels."""
    for plugin in plugins:
        import_plugin(plugin)
    torch.set_num_threads(max(1, int(cpus)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


@contextmanager
def watchdog(told: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Ends this process where the block takes longer (0: however long), and leaves a file of where its threads were.

    What it gives starts the time anew. It needs no Python to run, so it ends a process that hangs in a kernel as well.
    """
    if not seconds:
        yield lambda: None
        return
    with open(told, "w") as file:
        start = partial(faulthandler.dump_traceback_later, seconds, exit=True, file=file)
        start()
        try:
            yield start
        finally:
            faulthandler.cancel_dump_traceback_later()
            told.unlink(missing_ok=True)


def why_it_hung(told: Path, seconds: float) -> str | None:
    """What is said of a process that ``watchdog`` ended, None where it did not."""
    hung = told.exists() and told.stat().st_size
    return f"no epoch within {seconds:g} s, {told} tells where" if hung else None


class TrialTrainable(tune.Trainable):
    """One trial in a Ray actor, which is used again for the next: the trial's own folder is its whole state."""

    run: Run | None = None
    lock: FileLock | None = None  # of the trial's folder, while it runs here

    def setup(self, config: dict[str, Any]) -> None:
        """See tune.Trainable."""
        self.device = set_up(config["plugins"], config["cpus"], config["gpus"])
        # A node that joined the cluster after the driver asked them all.
        if not config["storage"] and not Path(config["scratch"]).is_dir():
            raise UserError(f"node {ray.util.get_node_ip_address()} does not see the results folder of the driver")
        wait_for_peers(config["scratch"], config["peers"], config["cpus"], config["gpus"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drops the last trial and takes up this one."""
        self._leave()
        self.asked: dict[str, Any] = new_config
        self.epochs: Iterator[EpochRecord] = iter(())
        self.storage = Storage(new_config["storage"], PATIENCE) if new_config["storage"] else None
        self.journal = Journal(Path(new_config["results"]), self.storage)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def cleanup(self) -> None:
        """See tune.Trainable."""
        self._leave()

    def step(self) -> dict[str, Any]:
        """Runs an epoch, or as many as a second holds; the first step also loads all that the trial needs."""
        trial, journal = Trial(**self.asked["trial"]), self.journal
        folder = journal.folder(trial)
        if self.lock is None:
            lock = journal.lock(trial.id)
            try:
                lock.acquire(timeout=STEP_SECONDS)
            except Timeout:  # another sweep runs it: its result will be ours, or our turn comes when it dies
                return {"val_accuracy": 0.0, "epoch": 0, "done": False}
            self.lock = lock
            journal.take(trial.id)
            before = journal.result(trial.id)
            if before is not None and before.status != "failed":  # the other's, or one that died before it told
                return self._end(trial, before.val_accuracy)
        with watchdog(folder / HANG, self.asked["timeout"]):
            try:
                came = self._go_on(trial, folder)
            except (UserError, ValueError) as error:  # the same again however often it is tried
                reason = f"{type(error).__name__}: {error}"
                came = TrialResult(trial.id, "failed", reason, provenance=self._facts())
        if isinstance(came, TrialResult):
            journal.finish(came)
            checkpoint.remove(folder)
        journal.keep(trial.id)
        if isinstance(came, TrialResult):
            return self._end(trial, came.val_accuracy)
        return {"val_accuracy": came.val_accuracy, "epoch": came.epoch, "done": False}

    def _go_on(self, trial: Trial, folder: Path) -> EpochRecord | TrialResult:
        """How the trial ended, or the record of its last epoch within a second."""
        if self.run is None:
            self.run = self._start(trial, folder)
            if self.run.state["epoch"] > len(self.journal.entry(trial.id).records):
                checkpoint.remove(folder)  # it is ahead of the records, such as another node's
                self.run = self._start(trial, folder)
            self.epochs = self.run.epochs()
        started = time.monotonic()
        for record in self.epochs:
            self.journal.append(record)
            if self.asked["report_each_epoch"] or time.monotonic() - started > STEP_SECONDS:
                return record
        return self.run.result()

    def _end(self, trial: Trial, val_accuracy: float | None) -> dict[str, Any]:
        self._leave()
        return {"val_accuracy": val_accuracy or 0.0, "epoch": trial.epochs, "done": True}

    def _leave(self) -> None:
        self.run = None
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _facts(self) -> dict[str, Value]:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return self.asked["facts"] | {"device": name}

    def _start(self, trial: Trial, folder: Path) -> Run:
        data = Path(self.asked["data"])
        task = build(trial.task, trial.options, trial.weights)
        source = self.asked["facts"]["source"]
        if self.storage is not None:
            _prepare(task, data)
            if task.fingerprint(data) != self.asked["facts"]["data"]:
                raise UserError(f"node {ray.util.get_node_ip_address()} has other data in {data} than the driver")
            _fetch_source(self.storage, data, source)
        model = pretrain.load(task, data, source, self.device)
        method = METHODS.get(trial.method)(**trial.hparams)
        splits = task.splits(data, trial.variant, trial.seed)
        return Run(trial, task, model, method, splits, folder, self.device, self._facts())


def _prepare(task: Task, data: Path) -> None:
    """Makes the task's data on this node too, where it may share no disk with the driver."""
    data.mkdir(parents=True, exist_ok=True)
    with FileLock(data / ".lock"):
        pretrain.prepare(task, data)


def _fetch_source(storage: Storage, data: Path, name: str) -> None:
    """Takes a source model from the storage, or how far its training is."""
    path, training = pretrain.source_path(data, name), pretrain.training_folder(data, name) / checkpoint.NAME
    if not path.exists() and not storage.pull(f"sources/{path.name}", path):
        storage.pull(f"sources/{name}/{checkpoint.NAME}", training)


def _make_source(
    trial: Trial, data: Path, device: torch.device, storage: Storage | None, restart: Callable[[], None]
) -> dict[str, Value]:
    """Makes a trial's source model, with an epoch each in the storage and for the watchdog; its facts."""
    task = build(trial.task, trial.options, trial.weights)
    if storage is None:
        return {"data": task.fingerprint(data), **pretrain.ensure(task, data, device, trial.seed, restart)}
    _prepare(task, data)
    name = pretrain.fingerprint(task, data, trial.seed)
    _fetch_source(storage, data, name)
    path, training = pretrain.source_path(data, name), pretrain.training_folder(data, name) / checkpoint.NAME

    def alive() -> None:
        restart()
        if training.exists():
            storage.push(training, f"sources/{name}/{checkpoint.NAME}")

    facts = pretrain.ensure(task, data, device, trial.seed, alive)
    storage.push(path, f"sources/{path.name}")
    storage.remove(f"sources/{name}/{checkpoint.NAME}", training)
    return {"data": task.fingerprint(data), **facts}


def sources(trials: Iterable[Trial], data: Path, asked: Suite, uri: str | None) -> dict[str, dict[str, Value] | str]:
    """Makes the trials' source models, each once; by trial id its facts, or why there is no model."""

    @ray.remote(num_cpus=1, num_gpus=asked.gpus, max_retries=RETRIES)
    def make(first: Sequence[Trial], told: Path) -> list[dict[str, Value]]:
        device = set_up(asked.plugins, 1, asked.gpus)
        storage = Storage(uri, PATIENCE) if uri else None
        told.parent.mkdir(parents=True, exist_ok=True)
        with watchdog(told, asked.timeout) as restart:
            return [_make_source(trial, data, device, storage, restart) for trial in first]

    groups = defaultdict[tuple[Any, ...], dict[str, list[Trial]]](lambda: defaultdict(list))
    for trial in trials:
        task = build(trial.task, trial.options, trial.weights)
        groups[pretrain.group(task, trial.seed)][trial.setting].append(trial)
    facts: dict[str, dict[str, Value] | str] = {}
    started = []
    for alike in groups.values():
        told = data / "sources" / f"{uuid.uuid4().hex}.{HANG}"
        started.append((alike, told, make.remote([same[0] for same in alike.values()], told)))
    for alike, told, reference in started:
        found: list[dict[str, Value] | str]
        try:
            found = [*ray.get(reference)]
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if error.cause is not None else error
            found = [f"source model: {type(cause).__name__}: {cause}"] * len(alike)
        except ray.exceptions.RayError as error:
            reason = why_it_hung(told, asked.timeout) or f"{type(error).__name__}: {str(error).splitlines()[0]}"
            found = [f"source model: {reason}"] * len(alike)
        for same, own in zip(alike.values(), found, strict=True):
            facts |= {trial.id: own for trial in same}
    return facts
