"""What runs on Ray's workers: source models and trials."""

import errno
import faulthandler
import itertools
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray import tune

from lmsa_bench.errors import UserError
from lmsa_bench.local import Failure, Place, fail, run, set_up, why
from lmsa_bench.object_store import PATIENCE, Storage
from lmsa_bench.results.journal import Journal
from lmsa_bench.sources import SourceFacts, SourceModel
from lmsa_bench.sources.needs import prepare
from lmsa_bench.sweep import nodes
from lmsa_bench.sweep.job import Job, Orders
from lmsa_bench.sweep.watch import Watch
from lmsa_bench.trial.names import task_of
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult

RETRIES = 2  # of a trial or source model whose worker or node dies, each from its last epoch
HANG = "hang.txt"  # in a trial's folder: where its threads were when its worker was considered hung
STEP_SECONDS = 1.0  # epochs shorter than this are reported to Ray together: a report costs milliseconds
# What another try, or another worker, may not meet again; all else is the same however often it is tried.
PASSING = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
PASSING_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EAGAIN)


def passes(error: BaseException) -> bool:
    """Whether a trial that raised this is worth another try."""
    return isinstance(error, PASSING) or (isinstance(error, OSError) and error.errno in PASSING_CODES)


@contextmanager
def watchdog(dump: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Ends this process where the block takes longer (0: however long), and leaves a dump of its threads.

    The function it yields restarts the clock. It runs without Python, so it ends a process that hangs in a kernel too.
    """
    if not seconds:
        yield lambda: None
        return
    with open(dump, "w") as file:
        start = partial(faulthandler.dump_traceback_later, seconds, exit=True, file=file)
        start()
        try:
            yield start
        finally:
            faulthandler.cancel_dump_traceback_later()
            dump.unlink(missing_ok=True)


def why_it_hung(dump: Path, seconds: float) -> str | None:
    """What is said of a process that ``watchdog`` ended, None where it did not."""
    hung = dump.exists() and dump.stat().st_size
    return f"no epoch within {seconds:g} s; its threads were at {dump}" if hung else None


class TrialTrainable(tune.Trainable):
    """One trial in a Ray actor, which is used again for the next: the trial's own folder is its whole state."""

    job: Job
    place: Place
    steps: Iterator[EpochRecord | TrialResult] | None = None
    started = 0.0  # when its source model was there
    lock: FileLock | None = None  # of the trial's folder, while it runs here

    def setup(self, config: dict[str, Any]) -> None:
        """See tune.Trainable."""
        orders = Job.from_config(config).orders
        nodes.beat(own := nodes.starting(orders.scratch, self.trial_id))
        self.device = set_up(orders.plugins, orders.cpus, orders.gpus)
        # A node that joined the cluster after the driver had checked them all.
        if not orders.storage and not Path(orders.scratch).is_dir():
            raise UserError(f"node {ray.util.get_node_ip_address()} does not see the results folder of the driver")
        nodes.wait_for_peers(orders.scratch, orders.peers, orders.cpus, orders.gpus, own)
        self.reset_config(config)
        nodes.forget(own)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leaves the last trial and starts this one."""
        self._leave()
        self.job, self.started = Job.from_config(new_config), time.monotonic()
        orders = self.job.orders
        journal = Journal(Path(orders.results), _storage(orders.storage), make=True)
        self.place = Place(journal, Path(orders.data), self.device, self.job.facts)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def cleanup(self) -> None:
        """See tune.Trainable."""
        self._leave()

    def step(self) -> dict[str, Any]:
        """Runs an epoch, or as many as a second holds; the first step also loads all that the trial needs."""
        trial, journal = self.job.trial, self.place.journal
        folder = journal.folder(trial)
        if self.lock is None:
            lock = journal.lock(trial.id)
            try:
                lock.acquire(timeout=STEP_SECONDS)
            except Timeout:  # another sweep runs it: its result will be ours, or our turn comes when it dies
                return {"val_accuracy": 0.0, "epoch": 0, "done": False}
            self.lock = lock
            journal.pull(trial.id)
            before = journal.result(trial.id)
            if before is not None and before.status != "failed":  # another sweep's, or a dead worker's
                return self._end(before)
        with watchdog(folder / HANG, self.job.orders.timeout):
            try:
                came = self._go_on()
            except Exception as error:
                if passes(error):
                    raise
                came = fail(trial, self.place, why(error))
        journal.push(trial.id)
        if isinstance(came, TrialResult):
            return self._end(came)
        return {"val_accuracy": came.val_accuracy, "epoch": came.epoch, "done": False}

    def _go_on(self) -> EpochRecord | TrialResult:
        """How the trial ended, or the record of its last epoch within a second."""
        if self.steps is None:
            source = self._source()
            self.started = time.monotonic()
            self.steps = run(self.job.trial, self.place, source)
        started = time.monotonic()
        for came in self.steps:
            waits = self.job.orders.report_each_epoch or time.monotonic() - started > STEP_SECONDS
            if isinstance(came, TrialResult) or waits:
                return came
        raise RuntimeError("a trial ends with its result")

    def _source(self) -> SourceModel:
        """The trial's source model, on this node."""
        data, trial = self.place.data, self.job.trial
        source = SourceModel(task_of(trial), data, trial.seed, self.place.journal.storage)
        if source.storage is not None:
            prepare(source.task, data)
            if source.task.fingerprint(data) != self.job.facts["data"]:
                raise UserError(f"node {ray.util.get_node_ip_address()} has other data in {data} than the driver")
            source.pull()
        return source

    def _end(self, result: TrialResult) -> dict[str, Any]:
        self._leave()
        return {
            "val_accuracy": result.val_accuracy or 0.0,
            "epoch": self.job.trial.epochs,
            "seconds": time.monotonic() - self.started,
            "failure": result.reason if result.status == "failed" else "",
            "done": True,
        }

    def _leave(self) -> None:
        self.steps = None
        if self.lock is not None:
            self.place.journal.unlock(self.job.trial.id, self.lock)
            self.lock = None


def _storage(uri: str | None) -> Storage | None:
    return Storage(uri, PATIENCE) if uri else None


def _known(first: Sequence[Trial], orders: Orders) -> list[SourceFacts] | None:
    """The facts of these trials' source models where they are all there and whole; a worker costs seconds to start."""
    if orders.storage is not None:
        return None
    try:
        found = [SourceModel(task_of(one), Path(orders.data), one.seed).facts() for one in first]
    except UserError:
        return None  # for a worker to say so
    return None if None in found else [one for one in found if one is not None]


def sources(trials: Iterable[Trial], orders: Orders, now: Callable[[str], None]) -> dict[str, SourceFacts | Failure]:
    """Makes the trials' source models that are missing, each once; by trial id its facts, or why there is none.

    ``now`` is called with how far it has come.
    """

    @ray.remote(num_cpus=1, num_gpus=orders.gpus, max_retries=RETRIES, retry_exceptions=True)
    def make(first: Sequence[Trial], dump: Path) -> list[SourceFacts] | Failure:
        try:
            device = set_up(orders.plugins, 1, orders.gpus)
            data, storage = Path(orders.data), _storage(orders.storage)
            dump.parent.mkdir(parents=True, exist_ok=True)
            epochs = itertools.count()
            with watchdog(dump, orders.timeout) as restart:

                def alive() -> None:
                    restart()
                    nodes.beat(dump.name, next(epochs))

                alive()
                return [SourceModel(task_of(one), data, one.seed, storage).ensure(device, alive) for one in first]
        except Exception as error:
            if passes(error):
                raise
            # Returned with its file and line, which Ray would lose.
            failure = why(error)
            return Failure(f"source model: {failure.reason}", failure.traceback)

    groups = defaultdict[tuple[Any, ...], dict[str, list[Trial]]](lambda: defaultdict(list))
    for trial in trials:
        groups[SourceModel(task_of(trial), Path(orders.data), trial.seed).group][trial.setting].append(trial)
    facts: dict[str, SourceFacts | Failure] = {}
    started = dict[Any, tuple[dict[str, list[Trial]], Path]]()
    for alike in groups.values():
        if (known := _known([same[0] for same in alike.values()], orders)) is not None:
            facts |= {trial.id: one for same, one in zip(alike.values(), known, strict=True) for trial in same}
            continue
        dump = Path(orders.data) / "sources" / f"{uuid.uuid4().hex}.{HANG}"
        started[make.remote([same[0] for same in alike.values()], dump)] = alike, dump
    if started:
        now(f"making {len(started)} source models")
    for reference in _ended(started, Watch(orders.timeout), now):
        alike, dump = started[reference]
        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            hung = why_it_hung(dump, orders.timeout)
            found = Failure(f"source model: {hung or f'{type(error).__name__}: {str(error).splitlines()[0]}'}")
        nodes.forget(dump.name)
        own: Sequence[SourceFacts | Failure] = found if isinstance(found, list) else [found] * len(alike)
        for same, one in zip(alike.values(), own, strict=True):
            facts |= {trial.id: one for trial in same}
    return facts


def _ended(started: Mapping[Any, tuple[object, Path]], watch: Watch, now: Callable[[str], None]) -> Iterator[Any]:
    """These tasks, each as it ends; the processes of those that give no sign of life are ended.

    ``now`` is called with how many have ended, and the epoch of the one that has come furthest.
    """
    waiting = list(started)
    while waiting:
        ended, waiting = ray.wait(waiting, timeout=0.5)
        yield from ended
        names = [started[reference][1].name for reference in waiting]
        pulses = {name: last for name in names if (last := nodes.pulse(name))}
        if pulses:
            epoch = max(map(nodes.epochs, pulses.values()))
            now(f"source model {len(started) - len(waiting) + 1} of {len(started)} at epoch {epoch}")
        for name in watch.silent(pulses):
            nodes.end(name)
