"""Runs trials on Ray or in this process: what a sweep that has something to do needs beside its command."""

import importlib
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from lmsa_bench import local
from lmsa_bench.errors import UserError, importing
from lmsa_bench.local import Failure, Place
from lmsa_bench.report import figures
from lmsa_bench.results import tracking
from lmsa_bench.suites.spec import Suite
from lmsa_bench.sweep import start
from lmsa_bench.sweep.plan import seconds_seen
from lmsa_bench.sweep.progress import Progress, in_order
from lmsa_bench.sweep.start import Cluster
from lmsa_bench.sweep.until import Grow
from lmsa_bench.trial.names import task_of
from lmsa_bench.trial.spec import Trial, TrialResult, Value


def run_local(suite: Suite, pending: Sequence[Trial], place: Place, progress: Progress) -> None:
    """Runs these trials in this process, one after the other."""
    with local.ready(suite.plugins, suite.cpus, suite.gpus) as device:
        here = Place(place.journal, place.data, device, place.provenance)
        progress.now("running in this process")

        def ended(trial: Trial, result: TrialResult) -> None:
            failure = result.reason if result.status == "failed" else ""
            progress.add(trial, accuracy=result.val_accuracy, failure=failure)

        local.run_all(pending, here, ended)


def import_ahead(tuned: threading.Event) -> None:
    """Imports what runs trials, then tells of it, and then what comes later; what fails is told where it is used."""
    later = tracking.import_mlflow, figures.import_matplotlib
    with importing():
        for step in (partial(importlib.import_module, "lmsa_bench.sweep.tuning"), *later):
            with suppress(Exception):
                step()
            tuned.set()


def run_on_ray(
    suite: Suite,
    pending: Sequence[Trial],
    grow: Grow,
    place: Place,
    cluster: Cluster,
    progress: Progress,
    last: ExitStack,
) -> bool:
    """Runs these trials; those that cannot be run end as failed, with the reason.

    What ``grow`` adds meanwhile, of the same tasks, runs on the same workers. Returns False if interrupted.

    Ray is left with ``last``: where another thread collects its objects while it shuts down, it ends the process.
    """
    progress.now("starting Ray" if start.is_own(cluster.address) else "connecting to Ray")
    start.set_environment(cluster.address)
    from lmsa_bench.sweep.cluster import connected  # Ray takes seconds, and most mistakes show before
    from lmsa_bench.sweep.job import Job, Orders

    journal = place.journal
    tuned = threading.Event()
    threading.Thread(target=import_ahead, args=(tuned,)).start()  # while Ray's processes start
    alone = last.enter_context(connected(cluster.address, cluster.cpus))
    tuned.wait()
    from lmsa_bench.sweep import nodes, tuning

    at_once = nodes.slots(suite.cpus, suite.gpus)
    nodes.refuse_unshared({} if journal.storage else {"--results": journal.root, "--data": place.data})
    if not at_once:
        takes = f"a trial takes {suite.cpus:g} CPUs and {suite.gpus:g} GPUs"
        if alone:
            raise UserError(f"suite {suite.name}: resources: {takes}, more than this machine has")
        print(f"{takes}, more than a node of the cluster has: waiting for one that has", flush=True)
    orders = Orders.of(suite, journal, place.data, report_each_epoch=cluster.asha)
    facts = dict[str, dict[str, Value]]()
    for setting, trial in {trial.setting: trial for trial in pending}.items():
        # Without a shared disk each node has data of its own, which must be the same.
        data: dict[str, Value] = {"data": task_of(trial).fingerprint(place.data)} if journal.storage else {}
        facts[setting] = {**place.provenance, **data}
    print(f"{len(pending)} trials, {at_once or 1} at a time", flush=True)
    progress.now(f"{at_once or 1} at a time")

    def more() -> list[Job]:
        grown = grow(lambda trial: trial.setting in facts)
        progress.expect(*grown)
        return [Job(trial, facts[trial.setting], orders) for trial in grown.trials]

    jobs = [Job(trial, facts[trial.setting], orders) for trial in pending]
    return tuning.fit(jobs, journal, cluster.asha, progress, more)


def run(
    suite: Suite,
    pending: Sequence[Trial],
    grow: Grow,
    place: Place,
    cluster: Cluster | None,
    plain: bool,
    last: ExitStack,
) -> bool:
    """Runs the trials whose data and weights can be had, on Ray or here; the others end as failed, with the reason.

    Those come first whose kind tells the time that is left. Returns False if interrupted.
    """
    pending = in_order(pending, seconds_seen(place.journal))
    unready = local.unready(pending, place.data)
    able = [trial for trial in pending if trial.setting not in unready]
    if not able:
        raise UserError(next(iter(unready.values())))
    rows = {configuration: row.name for row in suite.rows for configuration in row.configurations}
    progress = Progress(pending, rows, plain or None)
    progress.expect(*grow(lambda trial: False))
    try:
        for trial in pending:
            if trial.setting in unready:
                print(f"{trial.task}: {unready[trial.setting]}", flush=True)
                local.fail(trial, place, Failure(unready[trial.setting]))
                place.journal.push(trial.id)
                progress.add(trial, failure=unready[trial.setting])
        if cluster is not None:
            return run_on_ray(suite, able, grow, place, cluster, progress, last)
        run_local(suite, able, place, progress)
        return True
    finally:
        progress.close()
