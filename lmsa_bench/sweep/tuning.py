"""The driver's side of Ray Tune: a run over trials, whose own state is disposable."""

import errno
import logging
import math
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from lmsa_bench.atomic import scratch_folder
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.place import Failure, Place, fail
from lmsa_bench.sweep import nodes
from lmsa_bench.sweep.job import HANG, RETRIES, Job, why_it_hung
from lmsa_bench.sweep.progress import Progress
from lmsa_bench.sweep.queue import Queue, Sources
from lmsa_bench.sweep.trainable import TrialTrainable
from lmsa_bench.sweep.watch import Watch

NO_ROOM = (EOFError, UnpicklingError)  # how it shows that Tune's file of a reason was written on a full disk
LOOK_SECONDS = 1.0  # between two looks for workers that have fallen silent


class OneASHAEach(FIFOScheduler):
    """ASHA among the configurations of one method on one task and seed, whose accuracies alone compare."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asha = defaultdict[tuple[Any, ...], AsyncHyperBandScheduler](
            lambda: AsyncHyperBandScheduler(time_attr="epoch", metric="val_accuracy", mode="max", grace_period=2)
        )

    def _of(self, trial: Any) -> AsyncHyperBandScheduler:
        one = Job.from_config(trial.config).trial
        return self.asha[one.task, one.variant, one.method, one.seed]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """See TrialScheduler."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """See TrialScheduler."""
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))


def _last_line(error: object) -> str:
    """What went wrong, of a text that may open with where; without Ray's list of what may have killed a worker."""
    last = (str(error).strip().splitlines() or ["no reason was given"])[-1]
    return last.partition(" Some common causes")[0]


class Ended(tune.Callback):
    """Reports the progress of every trial that ends, counts the failed tries of the others, and ends silent workers."""

    def __init__(self, progress: Progress, folders: Path, timeout: float) -> None:
        self.progress, self.doing, self.folders = progress, progress.doing, folders  # of all trials
        self.sources = {""}  # what was said of them
        self.watch, self.looked = Watch(timeout), time.monotonic()
        self.results: Counter[str] = Counter()  # by Tune's id of a job
        self.failures: Counter[str] = Counter()  # the same: those that are counted in ``tries``
        self.silent: dict[str, str] = {}  # by Tune's id, what is said of a worker that had to be ended
        self.told = set[str]()  # ids of trials that have ended
        self.tries: Counter[str] = Counter()  # failed ones, by trial id
        self.died: dict[str, str] = {}  # by trial id, why its job was given up in this fit
        self.count = 0  # of all jobs that ended in this fit

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """See tune.Callback."""
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        self.looked = time.monotonic()
        if not trials:
            return
        orders = Job.from_config(trials[0].config).orders
        running = {trial.trial_id: trial for trial in trials if trial.status == "RUNNING"}
        making = {name: pulse for name, pulse in nodes.pulses(nodes.making(orders.scratch)).items() if name in running}
        epoch = max(map(nodes.epochs, making.values()), default=0)
        self.progress.now(f"{self.doing}, a source model at epoch {epoch}" if epoch else self.doing)
        if math.isinf(self.watch.limit):
            return
        waiting = {trial.trial_id for trial in trials if trial.status == "PENDING"}  # those that start as well
        starting = nodes.pulses(nodes.starting(orders.scratch))
        pulses: dict[str, object] = {name: starting[name] for name in waiting & starting.keys()}
        pulses |= {name: (one.num_failures, self.results[name], making.get(name)) for name, one in running.items()}
        for name in self.watch.silent(pulses):
            if name in running:
                self.silent[name] = f"no epoch within {orders.timeout:g} s, and its worker did not end by itself"
                nodes.end(f"{orders.scratch}/{running[name].temporary_state.ray_actor._actor_id.hex()}")
            else:
                self.silent[name] = f"its worker stood still for {orders.timeout:g} s while it started"
                nodes.end(nodes.starting(orders.scratch, name))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """See tune.Callback."""
        self.results[trial.trial_id] += 1
        self.silent.pop(trial.trial_id, None)
        ended = result.pop("ended")  # so that Tune does not keep it
        known = {one.id: one for one in Job.from_config(trial.config).trials} if ended else {}
        for one in ended:
            if (line := one["source"]) not in self.sources:
                self.sources.add(line)
                print(line, flush=True)
            if (name := one["trial"]) not in self.told:  # by a worker that died then
                self.told.add(name)
                self.progress.add(known[name], **{key: one[key] for key in ("seconds", "accuracy", "failure")})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See tune.Callback."""
        self.count += 1
        trial.run_metadata.metric_analysis.clear()  # 22 KiB that nobody reads
        trial.run_metadata.metric_n_steps.clear()
        if (first := Job.from_config(trial.config).trial).id not in self.told:  # stopped by ASHA
            self.progress.add(first, accuracy=trial.last_result["val_accuracy"])

    def _blame(self, trial: Any, least: int = 0) -> str:
        """Counts a job's new failures as those of the trial that ran, whose id it returns: it left its lock."""
        job = Job.from_config(trial.config)
        untold = [one.id for one in job.trials if one.id not in self.told] or [job.trial.id]
        ran = next((name for name in untold if (self.folders / name / "lock").exists()), untold[0])
        self.tries[ran] += max(least, trial.num_failures - self.failures[trial.trial_id])
        self.failures[trial.trial_id] = trial.num_failures
        return ran

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See tune.Callback."""
        self._blame(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See tune.Callback."""
        self.count += 1
        died = self._blame(trial, least=1)
        try:
            # Tune looks for it where it goes later, which may be too early.
            told = trial.get_pickled_error() or trial.get_error() or Path(trial.error_file or "").read_text()
            self.died[died] = self.silent.pop(trial.trial_id, _last_line(told))
        except (OSError, *NO_ROOM):
            self.died[died] = "its worker failed, and the reason could not be written"


def fit(
    jobs: Sequence[Job],
    journal: Journal,
    asha: bool,
    progress: Progress,
    more: Callable[[], list[Job]] = list,
    sources: Sources | None = None,
) -> bool:
    """Runs these trials of one sweep and those that ``more`` adds as they end; each that dies too often has failed.

    ``sources`` tells which share a source model (see Queue). Returns whether all have ended, which they have not where
    the sweep was interrupted.
    """
    ended = Ended(progress, journal.trials, jobs[0].orders.timeout if jobs else 0)

    def give_up(job: Job, reason: str) -> None:
        fail(job.trial, Place(journal, Path(job.orders.data), provenance=job.facts), Failure(reason))
        journal.push(job.trial.id)
        progress.add(job.trial, failure=reason)

    while jobs:
        ended.died, ended.count = {}, 0
        queue = _fit(jobs, journal, asha, ended, more, sources or {})
        if ended.count < len(queue.out) or not all(queue.source(job) in queue.lethal for job in queue.waiting):
            return False
        finished, again, lethal = journal.finished(), list[Job](), dict[Hashable, str]()
        lost = [job for job in queue.out if any(trial.id in ended.died for trial in job.trials)]
        for trial, whole in ((trial, job) for job in lost for trial in job.trials):
            job = replace(whole, trial=trial, then=())
            if trial.id in ended.told:
                continue
            if trial.id in finished:  # by a worker that died before it told
                ended.told.add(trial.id)
                progress.add(trial)
                continue
            # Tune gives a job up at once where its worker's death shows twice, or between two jobs; and of its trials
            # those after the one that ran have done nothing.
            if trial.id not in ended.died or ended.tries[trial.id] <= RETRIES:
                again.append(job)
                continue
            hung = why_it_hung(journal.trials / trial.id / HANG, job.orders.timeout)
            reason = f"after {ended.tries[trial.id]} tries: {hung or ended.died[trial.id]}"
            if (source := queue.source(job)) in queue.lethal:
                lethal[source] = reason = f"source model: {reason}"
            give_up(job, reason)
        for job in queue.waiting:
            if (source := queue.source(job)) in lethal:
                give_up(job, lethal[source])
            else:
                again.append(job)
        jobs = again
    return True


def _fit(
    jobs: Sequence[Job],
    journal: Journal,
    asha: bool,
    ended: Ended,
    more: Callable[[], list[Job]],
    sources: Sources,
) -> Queue:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it prints tracebacks about its own state
    at_once = max(1, nodes.slots(jobs[0].orders.cpus, jobs[0].orders.gpus))
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(at_once))
    with scratch_folder(journal.root) as scratch:
        orders = replace(jobs[0].orders, scratch=str(scratch), peers=min(at_once, len(jobs)))
        typical = (lambda trial: None) if asha else ended.progress.typical  # it judges trials one by one
        queue = Queue(jobs, more, orders, typical, sources)
        try:
            _tune(queue, scratch, asha, ended)
        finally:
            nodes.forget(str(scratch))
    return queue


def _tune(queue: Queue, scratch: Path, asha: bool, ended: Ended) -> None:
    orders = queue.orders
    scheduler: TrialScheduler = OneASHAEach() if asha else FIFOScheduler()
    tuner = tune.Tuner(
        tune.with_resources(TrialTrainable, {"cpu": orders.cpus, "gpu": orders.gpus}),
        param_space={"job": None},
        tune_config=tune.TuneConfig(reuse_actors=True, scheduler=scheduler, search_alg=queue, num_samples=-1),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[ended],
        ),
    )
    try:
        with suppress(*NO_ROOM), stoppable():  # the former for a reason that it reads back once more, at its end
            tuner.fit()
    except (tune.TuneError, OSError) as error:  # of its own state: a full disk, most often
        full = os.strerror(errno.ENOSPC)
        reason = full if full in str(error) else _last_line(error)
        raise UserError(f"Ray Tune gave up: {reason}: fix that and run the same command again to resume") from None


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, Ctrl-C has Tune stop in order, and says so; a second one does not wait for that."""
    pressed = list[bool]()

    def stop(*_: object) -> None:
        if pressed or signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:  # Tune's own signal, which it listens to late
            raise KeyboardInterrupt
        pressed.append(True)
        print("interrupted: stopping the workers; the same command resumes. Ctrl-C again stops at once", flush=True)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
