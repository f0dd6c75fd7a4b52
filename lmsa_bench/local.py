"""One trial here and now, without Ray: what raises ends in its own traceback, and a breakpoint works."""

import gc
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from lmsa_bench.errors import UserError
from lmsa_bench.models.weights import content_of
from lmsa_bench.results.journal import ERROR
from lmsa_bench.results.place import Place, fail, why
from lmsa_bench.sources import SourceFacts, SourceModel
from lmsa_bench.sources.needs import prepare
from lmsa_bench.suites.plugins import import_plugin
from lmsa_bench.tasks import build
from lmsa_bench.tasks.task import Splits
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.code import code_of_states, modules_of
from lmsa_bench.trial.names import method_of, task_of
from lmsa_bench.trial.provenance import of_machine
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.shared import Shared
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, canonical, hash_of


def set_up(plugins: Iterable[str], cpus: float, gpus: float) -> torch.device:
    """Makes this process ready: the user's modules, threads as many as the CPUs, repeatable kernels."""
    for plugin in plugins:
        import_plugin(plugin)
    torch.set_num_threads(max(1, int(cpus)))
    gc.set_threshold(700, 10, 10)  # Python's own: garbage may hold tensors
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms imports the compiler: 200 MiB, 2 s
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


@contextmanager
def ready(plugins: Iterable[str] = (), cpus: float = 1, gpus: float = 0) -> Iterator[torch.device]:
    """The same while the block runs, in a process that has other things to do as well."""
    threads, strict, garbage = torch.get_num_threads(), torch.get_deterministic_debug_mode(), gc.get_threshold()
    try:
        yield set_up(plugins, cpus, gpus)
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(strict)
        gc.set_threshold(*garbage)


def unready(trials: Iterable[Trial], data: Path) -> dict[str, str]:
    """Makes ready the data and weights of these trials; by Trial.setting, why that of some cannot be had."""
    failed = dict[str, str]()
    for setting, trial in {trial.setting: trial for trial in trials}.items():
        try:
            prepare(task_of(trial), data)
        except UserError as error:
            failed[setting] = str(error)
    return failed


def run(trial: Trial, place: Place, source: SourceModel) -> Iterator[EpochRecord | TrialResult]:
    """Runs a trial from its start or its last checkpoint: its records, each in the journal first, then its result.

    The source model is there, and the caller holds the trial's lock. Whatever raises passes through as it is.
    """
    journal = place.journal
    folder = journal.folder(trial)
    (folder / ERROR).unlink(missing_ok=True)
    device = torch.device(place.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    modules = modules_of(trial)
    journal.add_code(code := hash_of(modules), modules)
    facts = place.knowing({**of_machine(name), "trial_code": code}).provenance
    if trial.weights_sha256 and content_of(trial.weights) != trial.weights_sha256:
        raise UserError(f"weights {trial.weights}: the file has changed since the suite was read; run it again")

    machine = [*(facts[name] for name in ("device", "cpu", "instructions")), torch.get_num_threads(), torch.__version__]
    machine.append(trial.arithmetic)
    split = [trial.setting, trial.variant, trial.seed, facts.get("data"), code_of_states(trial)]
    shared = Shared.of(place.data, canonical([*split, *machine]), canonical([code, *machine]))

    def start() -> Run:
        model, method = source.load(device), method_of(trial)
        named = (trial.task, canonical(dict(trial.options)), trial.variant, trial.seed)
        splits = _splits(place.data, *named, str(facts.get("data")))
        return Run(trial, source.task, model, method, splits, folder, device, facts, shared, source.held_out)

    training = start()
    if training.state.epoch > len(journal.records(trial.id)):
        checkpoint.remove(folder)  # it is ahead of the records, such as another node's
        training = start()
    if journal.records(trial.id):
        training.was_interrupted()
    for record in training.epochs():
        journal.append(record)
        yield record
    result = training.result()
    journal.finish(result, training.outcomes)
    checkpoint.remove(folder)
    yield result


@lru_cache(maxsize=4)  # a process's trials come by task
def _splits(data: Path, task: str, options: str, variant: str, seed: int, fingerprint: str) -> Splits:
    """The splits of a task's data with this fingerprint, which nobody may change."""
    return build(task, json.loads(options)).splits(data, variant, seed)


def run_all(
    trials: Iterable[Trial],
    place: Place,
    ended: Callable[[Trial, TrialResult], None] = lambda trial, result: None,
) -> None:
    """Runs these trials here, one after the other; those that have ended are left as they are.

    A mistake in the suite's values ends its trial as failed. Any other error passes through with its traceback.
    """
    sources: dict[str, tuple[SourceModel, SourceFacts] | UserError] = {}
    for trial in trials:
        with place.journal.lock(trial.id) as lock:
            place.journal.pull(trial.id)
            result = place.journal.result(trial.id)
            if result is None or result.status == "failed":
                try:
                    source, facts = _source(trial, place, sources)
                    *_, last = run(trial, place.knowing(facts.provenance()), source)
                    assert isinstance(last, TrialResult)
                    result = last
                except UserError as error:
                    result = fail(trial, place, why(error))
                place.journal.push(trial.id)
            place.journal.unlock(trial.id, lock)
        ended(trial, result)


def _source(
    trial: Trial, place: Place, known: dict[str, tuple[SourceModel, SourceFacts] | UserError]
) -> tuple[SourceModel, SourceFacts]:
    """The trial's source model, made where it is missing, and remembered, as is that it cannot be made."""
    source = SourceModel(task_of(trial), place.data, trial.seed, place.journal.storage)
    key = f"{trial.setting} {source.group}"
    if key not in known:
        try:
            prepare(source.task, place.data)
            known[key] = source, source.ensure(torch.device(place.device))
        except UserError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, UserError):
        raise found
    return found
