"""Runs trials on Ray or in this process: what a sweep that has something to do needs beside its command."""

import importlib
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from lmsa_bench.errors import UserError, importing
from lmsa_bench.report import figures
from lmsa_bench.results import tracking
from lmsa_bench.results.place import Failure, Place, fail
from lmsa_bench.suites.spec import Suite
from lmsa_bench.sweep import start
from lmsa_bench.sweep.progress import Progress, in_order, seconds_seen
from lmsa_bench.sweep.ready import Needs, Ready
from lmsa_bench.sweep.start import Cluster
from lmsa_bench.sweep.until import Grow
from lmsa_bench.trial.spec import Trial, TrialResult, Value


def run_local(suite: Suite, pending: Sequence[Trial], place: Place, progress: Progress) -> None:
    """Runs these trials in this process, one after the other."""
    from lmsa_bench import local  # imports torch

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
    needs: Needs,
    progress: Progress,
    last: ExitStack,
) -> bool:
    """Runs these trials; those that cannot be run end as failed, with the reason.

    What ``grow`` adds meanwhile, of the same tasks, runs on the same workers. Returns False if interrupted.

    Ray is left with ``last``: where another thread collects its objects while it shuts down, it ends the process.
    """
    if known := needs.coming is None:
        pending = able(pending, needs.wait(), place, progress)
    progress.now("starting Ray" if start.is_own(cluster.address) else "connecting to Ray")
    start.set_environment(cluster.address)
    from lmsa_bench.sweep.cluster import connected  # Ray takes seconds, and most mistakes show before
    from lmsa_bench.sweep.job import Job, Orders

    journal = place.journal
    tuned = threading.Event()
    threading.Thread(target=import_ahead, args=(tuned,)).start()  # while Ray's processes start
    alone = last.enter_context(connected(cluster.address, cluster.cpus))
    found = needs.wait()
    progress.show()
    pending = pending if known else able(pending, found, place, progress)
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
    for setting in dict.fromkeys(trial.setting for trial in pending):
        # Without a shared disk each node has data of its own, which must be the same.
        data: dict[str, Value] = {"data": found.data[setting]} if journal.storage else {}
        facts[setting] = {**place.provenance, **data}
    print(f"{len(pending)} trials, {at_once or 1} at a time", flush=True)
    progress.now(f"{at_once or 1} at a time")

    def more() -> list[Job]:
        grown = grow(lambda trial: trial.setting in facts)
        progress.expect(*grown)
        return [Job(trial, facts[trial.setting], orders) for trial in grown.trials]

    jobs = [Job(trial, facts[trial.setting], orders) for trial in pending]
    return tuning.fit(jobs, journal, cluster.asha, progress, more, found.sources)


def able(pending: Sequence[Trial], found: Ready, place: Place, progress: Progress) -> list[Trial]:
    """The trials whose data and weights can be had; the others end as failed; raises UserError where none can run."""
    lost = [trial for trial in pending if trial.setting in found.unready]
    if len(lost) == len(pending):
        raise UserError(found.unready[pending[0].setting])
    for trial in lost:
        reason = found.unready[trial.setting]
        print(f"{trial.task}: {reason}", flush=True)
        fail(trial, place, Failure(reason))
        place.journal.push(trial.id)
        progress.add(trial, failure=reason)
    return [trial for trial in pending if trial.setting not in found.unready]


def run(
    suite: Suite,
    pending: Sequence[Trial],
    grow: Grow,
    place: Place,
    cluster: Cluster | None,
    needs: Needs,
    plain: bool,
    last: ExitStack,
) -> bool:
    """Runs the trials whose data and weights can be had, on Ray or here; the others end as failed, with the reason.

    Those come first whose kind tells the time that is left. Returns False if interrupted.
    """
    settings = {trial.setting for trial in pending}
    needs.begin((trial for trial in (*pending, *suite.trials) if trial.setting in settings), here=cluster is None)
    pending = in_order(pending, seconds_seen(place.journal))
    rows = {configuration: row.name for row in suite.rows for configuration in row.configurations}
    progress = Progress(pending, rows, plain or None)
    progress.expect(*grow(lambda trial: False))
    if needs.coming is None:  # else it may show how much has been downloaded
        progress.show()
    try:
        if cluster is not None:
            return run_on_ray(suite, pending, grow, place, cluster, needs, progress, last)
        run_local(suite, able(pending, needs.wait(), place, progress), place, progress)
        return True
    finally:
        progress.close()
