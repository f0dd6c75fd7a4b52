"""Runs a suite's trials on Ray, and prints its ranked table:  python -m lmsa_bench.sweep [SUITE]"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from lmsa_bench import plan, pretrain, provenance, suite
from lmsa_bench.errors import UserError, exit_status
from lmsa_bench.methods import METHODS
from lmsa_bench.progress import Progress
from lmsa_bench.report import report
from lmsa_bench.results import figures, tables
from lmsa_bench.results.journal import DEFAULT_RESULTS, Journal
from lmsa_bench.results.store import ResultStore, StoreUnavailable, default_uri
from lmsa_bench.suite import Suite
from lmsa_bench.tasks import build
from lmsa_bench.tasks.published import DEFAULT_DATA
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value

STEP_SECONDS = 1.0  # epochs shorter than this are reported to Ray together: a report costs milliseconds
PUBLISH_SECONDS = 5.0
RETRIES = 2  # of a trial whose worker or node dies, each from its last epoch
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def set_up(plugins: Iterable[str], cpus: float, gpus: float) -> torch.device:
    """Makes a worker's process ready: the user's modules, threads as many as its CPUs, repeatable kernels."""
    for plugin in plugins:
        suite.import_plugin(plugin)
    torch.set_num_threads(max(1, int(cpus)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


class TrialTrainable(tune.Trainable):
    """One trial in a Ray actor, which is used again for the next: the trial's own folder is its whole state."""

    def setup(self, config: dict[str, Any]) -> None:
        """See tune.Trainable."""
        self.device = set_up(config["plugins"], config["cpus"], config["gpus"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drops the last trial and takes up this one."""
        self.asked: dict[str, Any] = new_config
        self.run: Run | None = None
        self.epochs: Iterator[EpochRecord] = iter(())
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def step(self) -> dict[str, Any]:
        """Runs an epoch, or as many as a second holds; the first step also loads all that the trial needs."""
        trial, journal = Trial(**self.asked["trial"]), Journal(Path(self.asked["results"]))
        try:
            if self.run is None:
                self.run = self._start(trial, journal.folder(trial))
                self.epochs = self.run.epochs()
            started = time.monotonic()
            for record in self.epochs:
                journal.append(record)
                if self.asked["report_each_epoch"] or time.monotonic() - started > STEP_SECONDS:
                    return {"val_accuracy": record.val_accuracy, "epoch": record.epoch, "done": False}
            result = self.run.result()
        except (UserError, ValueError) as error:  # the same again however often it is tried
            result = TrialResult(trial.id, "failed", f"{type(error).__name__}: {error}")
        journal.finish(result)
        checkpoint.remove(journal.folder(trial))
        self.run = None
        return {"val_accuracy": result.val_accuracy or 0.0, "epoch": trial.epochs, "done": True}

    def _start(self, trial: Trial, folder: Path) -> Run:
        data, facts = Path(self.asked["data"]), self.asked["facts"]
        task = build(trial.task, trial.options, trial.weights)
        model = pretrain.load(task, data, facts["source"], self.device)
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        method = METHODS.get(trial.method)(**trial.hparams)
        splits = task.splits(data, trial.variant, trial.seed)
        return Run(trial, task, model, method, splits, folder, self.device, facts | {"device": name})


class OneASHAEach(FIFOScheduler):
    """ASHA among the configurations of one method on one task and seed, whose accuracies alone compare."""

    def __init__(self) -> None:
        super().__init__()
        self.asha = defaultdict[tuple[Any, ...], AsyncHyperBandScheduler](
            lambda: AsyncHyperBandScheduler(time_attr="epoch", metric="val_accuracy", mode="max", grace_period=2)
        )

    def _of(self, trial: Any) -> AsyncHyperBandScheduler:
        spec = trial.config["trial"]
        return self.asha[spec["task"], spec["variant"], spec["method"], spec["seed"]]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """See TrialScheduler."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """See TrialScheduler."""
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))


class Ended(tune.Callback):
    """Tells the progress of every trial that ends."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See tune.Callback."""
        self.progress.add(Trial(**trial.config["trial"]).label)

    on_trial_error = on_trial_complete


@contextmanager
def cluster(address: str | None, cpus: int | None) -> Iterator[int]:
    """A connection to the Ray cluster of that address, else a Ray of this machine's own; yields its number of CPUs."""
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
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


@contextmanager
def publishing(store: ResultStore, journal: Journal, name: str, ids: Collection[str]) -> Iterator[None]:
    """Mirrors these trials into the store while the block runs, and at its end; a store that is down loses nothing."""
    ended = threading.Event()

    def publish() -> str | None:
        try:
            store.publish(journal, name, [trial for trial in ids if (journal.trials / trial).exists()])
        except StoreUnavailable as error:
            return str(error)
        return None

    def keep_publishing() -> None:
        while not ended.wait(PUBLISH_SECONDS):
            publish()

    thread = threading.Thread(target=keep_publishing, name="publisher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if trouble := publish():
            print(
                f"warning: {trouble}; all records wait in {journal.root}, the same command publishes them", flush=True
            )


def prepare(trials: Iterable[Trial], data: Path) -> dict[str, str]:
    """Makes ready the data and weights of these trials; by Trial.setting, why that of some cannot be had."""
    failed = dict[str, str]()
    for setting, trial in {trial.setting: trial for trial in trials}.items():
        try:
            pretrain.prepare(build(trial.task, trial.options, trial.weights), data)
        except UserError as error:
            failed[setting] = str(error)
    return failed


def sources(
    trials: Iterable[Trial], data: Path, plugins: Sequence[str], gpus: float
) -> dict[str, dict[str, Value] | str]:
    """Makes the trials' source models, each once; by trial id its facts, or why there is no model."""

    @ray.remote(num_cpus=1, num_gpus=gpus)
    def make(first: Sequence[Trial]) -> list[dict[str, Value]]:
        device = set_up(plugins, 1, gpus)
        found = [(trial, build(trial.task, trial.options, trial.weights)) for trial in first]
        return [{"data": t.fingerprint(data), **pretrain.ensure(t, data, device, trial.seed)} for trial, t in found]

    groups = defaultdict[tuple[Any, ...], dict[str, list[Trial]]](lambda: defaultdict(list))
    for trial in trials:
        task = build(trial.task, trial.options, trial.weights)
        groups[pretrain.group(task, trial.seed)][trial.setting].append(trial)
    facts: dict[str, dict[str, Value] | str] = {}
    started = [(alike, make.remote([same[0] for same in alike.values()])) for alike in groups.values()]
    for alike, reference in started:
        found: list[dict[str, Value] | str]
        try:
            found = [*ray.get(reference)]
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if error.cause is not None else error
            found = [f"source model: {type(cause).__name__}: {cause}"] * len(alike)
        except ray.exceptions.RayError as error:
            found = [f"source model: {type(error).__name__}: {str(error).splitlines()[0]}"] * len(alike)
        for same, own in zip(alike.values(), found, strict=True):
            facts |= {trial.id: own for trial in same}
    return facts


def _told(trial: Trial, facts: dict[str, Value] | str) -> str:
    if isinstance(facts, str):
        return f"{trial.task}: {facts}"
    return pretrain.judgement(build(trial.task, trial.options, trial.weights), facts)


def run(asked: Suite, pending: Sequence[Trial], journal: Journal, data: Path, options: argparse.Namespace) -> None:
    """Trains the source models and runs these trials; those that cannot be run end as failed, with the reason."""
    unready = prepare(pending, data)
    ready = [trial for trial in pending if trial.setting not in unready]
    if not ready:
        raise UserError(next(iter(unready.values())))
    with cluster(options.address, options.cpus) as cpus:
        tasks = len({trial.task for trial in pending})
        print(f"source models of {tasks} tasks, then {len(pending)} trials on {cpus} CPUs", flush=True)
        known = provenance.of_process()
        facts = sources(ready, data, asked.plugins, asked.gpus)
        facts |= {trial.id: unready[trial.setting] for trial in pending if trial.setting in unready}
        print("\n".join(dict.fromkeys(_told(trial, facts[trial.id]) for trial in pending)), flush=True)
        configs = []
        for trial in pending:
            own = facts[trial.id]
            if isinstance(own, str):
                journal.folder(trial)
                journal.finish(TrialResult(trial.id, "failed", own))
                continue
            configs.append(
                {
                    "trial": trial.to_json(),
                    "facts": known | own,
                    "data": str(data),
                    "results": str(journal.root),
                    "plugins": list(asked.plugins),
                    "cpus": asked.cpus,
                    "gpus": asked.gpus,
                    "report_each_epoch": options.asha,
                }
            )
        if configs:
            slots = max(1, int(cpus / asked.cpus)) if asked.cpus else len(configs)
            os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(slots))
            _fit(configs, journal, asked, options)


def _fit(configs: list[dict[str, Any]], journal: Journal, asked: Suite, options: argparse.Namespace) -> None:
    scratch = journal.root / f".ray-{os.getpid()}"  # Tune's own state: nothing is ever read back from it
    progress = Progress(len(configs), options.plain or None)
    scheduler: TrialScheduler = OneASHAEach() if options.asha else FIFOScheduler()
    tuner = tune.Tuner(
        tune.with_resources(TrialTrainable, {"cpu": asked.cpus, "gpu": asked.gpus}),
        param_space=tune.grid_search(configs),
        tune_config=tune.TuneConfig(reuse_actors=True, scheduler=scheduler),
        run_config=tune.RunConfig(
            storage_path=str(scratch.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[Ended(progress)],
        ),
    )
    try:
        results = tuner.fit()
    finally:
        progress.close()
        shutil.rmtree(scratch, ignore_errors=True)
    for ended in (results[i] for i in range(len(results))):
        if ended.error is not None and ended.config is not None:
            trial = Trial(**ended.config["trial"])
            if journal.result(trial.id) is None:
                reason = str(ended.error).strip().splitlines()[-1]
                journal.finish(TrialResult(trial.id, "failed", f"after {RETRIES + 1} tries: {reason}"))


def conclude(asked: Suite, journal: Journal, store: ResultStore, fresh: bool) -> int:
    """Prints the table and what is missing from it; exit status 0 where nothing is."""
    results = {trial.id: journal.result(trial.id) for trial in asked.trials}
    failed = [(trial, result) for trial in asked.trials if (result := results[trial.id]) and result.status == "failed"]
    missing = sum(result is None for result in results.values())
    found = report(asked, journal.table())
    text = tables.render(found, "table")
    summary = journal.root / "summary" / asked.name
    if fresh or not summary.exists():
        summary.mkdir(parents=True, exist_ok=True)
        for form, suffix in (("table", "txt"), ("json", "json"), ("csv", "csv"), ("latex", "tex")):
            (summary / f"table.{suffix}").write_bytes(tables.render(found, form))
        figures.draw(found, summary)
        try:
            store.publish_summary(asked.name, sorted(summary.iterdir()))
        except StoreUnavailable as error:
            print(f"warning: {error}", flush=True)
    print(text.decode(), flush=True)
    for trial, result in failed[:10]:
        print(f"failed: {trial.label}: {result.reason}")
    if len(failed) > 10:
        print(f"and {len(failed) - 10} more failed trials")
    if missing:
        print(f"{missing} of {len(asked.trials)} trials have not ended: the same command goes on with them")
    print(f"MLflow: mlflow ui --backend-store-uri {store.uri}")
    return 1 if failed or missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lmsa_bench.sweep", description=__doc__)
    add = parser.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite of tune_configs/ or a YAML file (default: quickstart)")
    add("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the results folder (default: %(default)s)")
    add("--data", type=Path, default=Path(DEFAULT_DATA), help="data and source models (default: %(default)s)")
    add("--tracking-uri", help="MLflow store (default: $MLFLOW_TRACKING_URI, else a SQLite file in the results folder)")
    add("--only", default="", metavar="KEY=VALUE,…", help="a part: task=NAME and method=NAME, each as often as needed")
    add("--seeds", type=int, metavar="N", help="the first N seeds in place of the suite's")
    add("--dry-run", action="store_true", help="print the plan and an estimate of time, and run nothing")
    add("--asha", action="store_true", help="stop unpromising trials early: not comparable with a full grid")
    add("--address", help="a Ray cluster's address (default: $RAY_ADDRESS, else a Ray of this machine)")
    add("--cpus", type=int, help="CPUs of a local Ray (default: all)")
    add("--plain", action="store_true", help="progress in plain lines, also on a terminal")
    return parser.parse_args(arguments)


def select(text: str) -> tuple[list[str], list[str]]:
    """The tasks and methods of an --only argument; raises UserError."""
    kept: dict[str, list[str]] = {"task": [], "method": []}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key not in kept or not equals or not value:
            raise UserError(f"--only {part!r}: expected task=NAME or method=NAME")
        kept[key].append(value)
    return kept["task"], kept["method"]


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status is 0, 1 where trials failed or are left, 2 after a user's error."""
    options = parse(arguments)
    if options.seeds is not None and options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: expected at least 1")
    asked = suite.load(options.suite, options.seeds).only(*select(options.only))
    if asked.rows and not asked.trials:
        raise UserError(f"--only {options.only}: no trial of suite {asked.name!r} is left")
    journal = Journal(options.results.absolute())
    finished = journal.finished()
    seen = plan.seconds_seen(journal)
    pending = [trial for trial in asked.trials if trial.id not in finished]
    pending.sort(key=lambda trial: seen.get(plan.kind(trial), float("inf")), reverse=True)
    data = options.data.absolute()
    if options.dry_run:
        slots = max(1, int((options.cpus or os.cpu_count() or 1) / (asked.cpus or 1)))
        print("\n".join(plan.describe(asked, journal, pending, data, slots)))
        return 0
    store = ResultStore(options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(journal.root))
    with publishing(store, journal, asked.name, [trial.id for trial in asked.trials]):
        if pending:
            run(asked, pending, journal, data, options)
        else:
            print(f"all {len(asked.trials)} trials are done: nothing to run", flush=True)
    if options.asha:
        print("ASHA stopped trials early: this table is not comparable with one of a full grid")
    return conclude(asked, journal, store, fresh=bool(pending))


if __name__ == "__main__":
    sys.exit(exit_status(main))
