"""What runs on Ray's workers: source models and trials."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from lmsa_bench import pretrain
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.plugins import import_plugin
from lmsa_bench.results.journal import Journal
from lmsa_bench.sweep.nodes import wait_for_peers
from lmsa_bench.tasks import build
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value

STEP_SECONDS = 1.0  # epochs shorter than this are reported to Ray together: a report costs milliseconds


def set_up(plugins: Iterable[str], cpus: float, gpus: float) -> torch.device:
    """Makes a worker's process ready: the user's modules, threads as many as its CPUs, repeatable kernels."""
    for plugin in plugins:
        import_plugin(plugin)
    torch.set_num_threads(max(1, int(cpus)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


class TrialTrainable(tune.Trainable):
    """One trial in a Ray actor, which is used again for the next: the trial's own folder is its whole state."""

    def setup(self, config: dict[str, Any]) -> None:
        """See tune.Trainable."""
        self.device = set_up(config["plugins"], config["cpus"], config["gpus"])
        if not Path(config["scratch"]).is_dir():  # a node that joined the cluster after the driver asked them all
            raise UserError(f"node {ray.util.get_node_ip_address()} does not see the results folder of the driver")
        wait_for_peers(config["scratch"], config["peers"], config["cpus"], config["gpus"])
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
        if self.run is None and (before := journal.result(trial.id)) is not None and before.status != "failed":
            # Its worker died after it had ended and before it could say so.
            return {"val_accuracy": before.val_accuracy or 0.0, "epoch": trial.epochs, "done": True}
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
