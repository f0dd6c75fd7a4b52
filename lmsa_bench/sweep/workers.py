"""What runs on Ray's workers: trials, and the source models that they start from."""

import errno
import faulthandler
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout

from lmsa_bench.errors import UserError
from lmsa_bench.local import run, set_up
from lmsa_bench.object_store import PATIENCE, Storage
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.place import Failure, Place, fail, why
from lmsa_bench.sources import SourceFacts, SourceModel
from lmsa_bench.sources.needs import prepare
from lmsa_bench.sweep import nodes
from lmsa_bench.sweep.job import HANG, Job
from lmsa_bench.trial.names import task_of
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult

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


class Unmade(Exception):
    """A source model could not be made, here or by another worker of the sweep, and why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Worker:
    """Runs the trials of one job after the other; their own folders are all their state.

    ``name`` is the job's in Ray Tune. Raises UserError on a node that does not see the driver's results folder.
    """

    left: deque[Trial]  # of the job, the one that runs first
    here: Place  # of which the results of the trial that runs say more than ``place``
    judgement = ""  # of the trial's source model
    steps: Iterator[EpochRecord | TrialResult] | None = None
    started = 0.0  # when the trial's source model was there
    lock: FileLock | None = None  # of the trial's folder, while it runs here

    def __init__(self, job: Job, name: str) -> None:
        orders = job.orders
        nodes.beat(own := nodes.starting(orders.scratch, name))
        self.device = set_up(orders.plugins, orders.cpus, orders.gpus)
        self.known = dict[str, SourceFacts]()  # of the source models that this process has met
        # A node that joined the cluster after the driver had checked them all.
        if not orders.storage and not Path(orders.scratch).is_dir():
            raise UserError(f"node {ray.util.get_node_ip_address()} does not see the results folder of the driver")
        nodes.wait_for_peers(orders.scratch, orders.peers, orders.cpus, orders.gpus, own)
        self.begin(job, name)
        nodes.forget(own)

    def begin(self, job: Job, name: str) -> None:
        """Starts a job."""
        self.job, self.name, self.left = job, name, deque(job.trials)
        orders = job.orders
        journal = Journal(Path(orders.results), _storage(orders.storage), make=True)
        self.place = self.here = Place(journal, Path(orders.data), self.device, job.facts)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def leave(self) -> None:
        """Stops the trial that runs, where it has come to."""
        if self.lock is not None:
            self.place.journal.unlock(self.left[0].id, self.lock)
            self.lock = None
        self.steps, self.judgement = None, ""

    def step(self) -> dict[str, Any]:
        """Runs an epoch, or as many as a second holds, and tells how the trials ended that have meanwhile."""
        began, ended, accuracy, epoch = time.monotonic(), list[dict[str, Any]](), 0.0, 0
        while self.left:
            trial = self.left[0]
            came = self._run(trial, began)
            if came is None:
                self.left.rotate(-1)  # another sweep runs it: its result will be ours, or our turn comes when it dies
                break
            accuracy = came.val_accuracy or 0.0
            if isinstance(came, EpochRecord):
                epoch = came.epoch
                break
            epoch = trial.epochs
            ended.append(self._told(came))
            self.leave()
            self.left.popleft()
            self.here = self.place
            if time.monotonic() - began > STEP_SECONDS:
                break
        return {"val_accuracy": accuracy, "epoch": epoch, "ended": ended, "done": not self.left}

    def _run(self, trial: Trial, began: float) -> EpochRecord | TrialResult | None:
        """How the trial ended, or its last epoch's record in this step, None while another sweep runs it."""
        journal = self.place.journal
        folder = journal.folder(trial)
        if self.lock is None:
            lock = journal.lock(trial.id)
            try:
                lock.acquire(timeout=STEP_SECONDS)
            except Timeout:
                return None
            self.lock, self.started = lock, time.monotonic()
            journal.pull(trial.id)
            before = journal.result(trial.id)
            if before is not None and before.status != "failed":  # another sweep's, or a dead worker's
                return before
        with watchdog(folder / HANG, self.job.orders.timeout) as restart:
            try:
                came = self._go_on(trial, began, restart)
            except Unmade as error:
                came = fail(trial, self.here, error.failure)
            except Exception as error:
                if passes(error):
                    raise
                came = fail(trial, self.here, why(error))
        journal.push(trial.id)
        return came

    def _go_on(self, trial: Trial, began: float, restart: Callable[[], None]) -> EpochRecord | TrialResult:
        """How the trial ended, or the record of its last epoch within a second of the step's beginning."""
        if self.steps is None:
            source, facts = self._source(trial, restart)
            self.judgement, self.started = facts.judgement(source.task), time.monotonic()
            self.here = self.place.knowing(facts.provenance())
            self.steps = run(trial, self.here, source)
            restart()
        for came in self.steps:
            waits = self.job.orders.report_each_epoch or time.monotonic() - began > STEP_SECONDS
            if isinstance(came, TrialResult) or waits:
                return came
        raise RuntimeError("a trial ends with its result")

    def _source(self, trial: Trial, restart: Callable[[], None]) -> tuple[SourceModel, SourceFacts]:
        """The trial's source model, on this node, made where it is missing; raises Unmade where it cannot be.

        ``restart`` is called after each epoch of its training, and while another worker makes it.
        """
        data, orders = self.place.data, self.job.orders
        source = SourceModel(task_of(trial), data, trial.seed, self.place.journal.storage)
        if source.storage is not None:
            prepare(source.task, data)
            if source.task.fingerprint(data) != self.job.facts["data"]:
                raise UserError(f"node {ray.util.get_node_ip_address()} has other data in {data} than the driver")
            source.pull()
        if (key := f"{trial.setting} {source.group}") not in self.known:
            own, unmade = nodes.making(orders.scratch, self.name), nodes.unmade(orders.scratch, source.group)
            epochs = itertools.count()

            def alive() -> None:
                restart()
                nodes.beat(own, next(epochs))
                if told := nodes.told(unmade):
                    raise Unmade(Failure(*json.loads(told)))

            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # whatever a trial takes, since its numbers depend on them
            try:
                alive()
                self.known[key] = source.ensure(self.device, alive)
            except Unmade:
                raise
            except Exception as error:
                if passes(error):
                    raise  # and leave the sign of life, which tells where the worker was
                failure = why(error)
                failure = Failure(f"source model: {failure.reason}", failure.traceback)
                nodes.tell(unmade, json.dumps(failure))
                raise Unmade(failure) from error
            finally:
                torch.set_num_threads(threads)
            nodes.forget(own)
        return source, self.known[key]

    def _told(self, result: TrialResult) -> dict[str, Any]:
        return {
            "trial": result.trial,
            "seconds": time.monotonic() - self.started,
            "failure": result.reason if result.status == "failed" else "",
            "accuracy": result.val_accuracy or 0.0,
            "source": self.judgement,
        }


def _storage(uri: str | None) -> Storage | None:
    return Storage(uri, PATIENCE) if uri else None
