"""Runs a suite's trials on Ray, and prints its ranked table:  python -m lmsa_bench.sweep [SUITE]"""

import argparse
import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lmsa_bench import plan, pretrain, provenance, suite
from lmsa_bench.atomic import drop_scratch, write_whole
from lmsa_bench.errors import UserError
from lmsa_bench.report import report
from lmsa_bench.results import figures, tables
from lmsa_bench.results.journal import DEFAULT_RESULTS, Journal, opened
from lmsa_bench.results.store import ResultStore, chosen_uri
from lmsa_bench.suite import Suite
from lmsa_bench.sweep.publisher import Publisher
from lmsa_bench.tasks import build
from lmsa_bench.tasks.published import DEFAULT_DATA
from lmsa_bench.trial.spec import Trial, TrialResult, Value

UNPUBLISHED = 3  # the exit status where all trials have ended and the store lacks some


def prepare(trials: Iterable[Trial], data: Path) -> dict[str, str]:
    """Makes ready the data and weights of these trials; by Trial.setting, why that of some cannot be had."""
    failed = dict[str, str]()
    for setting, trial in {trial.setting: trial for trial in trials}.items():
        try:
            pretrain.prepare(build(trial.task, trial.options, trial.weights), data)
        except UserError as error:
            failed[setting] = str(error)
    return failed


def _told(trial: Trial, facts: dict[str, Value] | str) -> str:
    if isinstance(facts, str):
        return f"{trial.task}: {facts}"
    return pretrain.judgement(build(trial.task, trial.options, trial.weights), facts)


def run(
    asked: Suite, pending: Sequence[Trial], journal: Journal, data: Path, options: argparse.Namespace, last: ExitStack
) -> None:
    """Trains the source models and runs these trials; those that cannot be run end as failed, with the reason.

    Ray is left with ``last``: where another thread collects its objects while it shuts down, it ends the process.
    """
    from lmsa_bench.sweep import nodes, tuning, workers  # Ray takes seconds to import, and most mistakes show before

    unready = prepare(pending, data)
    ready = [trial for trial in pending if trial.setting not in unready]
    if not ready:
        raise UserError(next(iter(unready.values())))
    alone = last.enter_context(tuning.cluster(options.address, options.cpus))
    nodes.refuse_unshared({} if journal.storage else {"--results": journal.root, "--data": data})
    tasks, at_once = len({trial.task for trial in pending}), nodes.slots(asked.cpus, asked.gpus)
    if not at_once:
        takes = f"a trial takes {asked.cpus:g} CPUs and {asked.gpus:g} GPUs"
        if alone:
            raise UserError(f"suite {asked.name}: resources: {takes}, more than this machine has")
        print(f"{takes}, more than a node of the cluster has: waiting for one that has", flush=True)
    print(f"source models of {tasks} tasks, then {len(pending)} trials, {at_once} at a time", flush=True)
    known = provenance.of_process() | {"config": asked.config}
    uri = journal.storage.uri if journal.storage else None
    facts = workers.sources(ready, data, asked, uri)
    facts |= {trial.id: unready[trial.setting] for trial in pending if trial.setting in unready}
    print("\n".join(dict.fromkeys(_told(trial, facts[trial.id]) for trial in pending)), flush=True)
    configs = []
    for trial in pending:
        own = facts[trial.id]
        if isinstance(own, str):
            journal.folder(trial)
            journal.finish(TrialResult(trial.id, "failed", own, provenance=known))
            journal.keep(trial.id)
            continue
        configs.append(
            {
                "trial": trial.to_json(),
                "facts": known | own,
                "data": str(data),
                "results": str(journal.root / "node" if uri else journal.root),  # the driver's copy is its own
                "storage": uri,
                "plugins": list(asked.plugins),
                "cpus": asked.cpus,
                "gpus": asked.gpus,
                "timeout": asked.timeout,
                "report_each_epoch": options.asha,
            }
        )
    if configs:
        tuning.fit(configs, journal, asked, options.asha, options.plain)


def conclude(asked: Suite, journal: Journal, store: ResultStore, fresh: bool, trouble: str | None) -> int:
    """Prints the table and what is missing from it, or from the store in trouble; exit status 0 where nothing is."""
    journal.refresh()
    results = {trial.id: journal.result(trial.id) for trial in asked.trials}
    failed = [(trial, result) for trial in asked.trials if (result := results[trial.id]) and result.status == "failed"]
    missing = sum(result is None for result in results.values())
    found = report(asked, journal.table())
    text = tables.render(found, "table")
    summary = journal.root / "summary" / asked.name
    told = summary / "table.json"  # other rows of trials that another suite ran change it as well
    if fresh or not told.exists() or told.read_bytes() != tables.render(found, "json"):
        summary.mkdir(parents=True, exist_ok=True)
        figures.draw(found, summary)
        for form, suffix in (("table", "txt"), ("csv", "csv"), ("latex", "tex"), ("json", "json")):  # last what tells
            write_whole(summary / f"table.{suffix}", tables.render(found, form))
        for file in summary.iterdir():
            journal.keep_file(str(file.relative_to(journal.root)))
    if trouble is None:
        try:
            store.publish_summary(journal, asked.name)
        except UserError as error:
            trouble = str(error)
    print(text.decode(), flush=True)
    for trial, result in failed[:10]:
        print(f"failed: {trial.label}: {result.reason}")
    if len(failed) > 10:
        print(f"and {len(failed) - 10} more failed trials")
    if missing:
        print(f"{missing} of {len(asked.trials)} trials have not ended: the same command goes on with them")
    if trouble is None:
        print(f"MLflow: {store.shown if store.is_server else f'mlflow ui --backend-store-uri {store.shown}'}")
    else:
        options = shlex.join(["--results", str(journal.root), "--tracking-uri", store.shown])
        print(f"warning: {trouble}")
        print(f"all results are safe on disk; publish them with: python -m lmsa_bench.results sync {options}")
    return 1 if failed or missing else 0 if trouble is None else UNPUBLISHED


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lmsa_bench.sweep", description=__doc__)
    add = parser.add_argument
    add("suite", nargs="?", default="quickstart", help="a suite of tune_configs/ or a YAML file (default: quickstart)")
    add("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the results folder (default: %(default)s)")
    add("--storage", metavar="URI", help="keep results in an object store too, such as s3://BUCKET/FOLDER")
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
    """The command; its exit status is 0, 1 where trials failed or are left, 2 after a user's error, or UNPUBLISHED."""
    options = parse(arguments)
    if options.seeds is not None and options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: expected at least 1")
    asked = suite.load(options.suite, options.seeds).only(*select(options.only))
    if asked.rows and not asked.trials:
        raise UserError(f"--only {options.only}: no trial of suite {asked.name!r} is left")
    journal = opened(options.results, options.storage)
    drop_scratch(journal.root)
    finished = journal.finished()
    seen = plan.seconds_seen(journal)
    pending = [trial for trial in asked.trials if trial.id not in finished]
    pending.sort(key=lambda trial: seen.get(plan.kind(trial), float("inf")), reverse=True)
    data = options.data.absolute()
    if options.dry_run:
        slots = max(1, int((options.cpus or os.cpu_count() or 1) / (asked.cpus or 1)))
        print("\n".join(plan.describe(asked, journal, pending, data, slots)))
        return 0
    for trial_id in finished:  # what ended before there was a storage
        journal.keep(trial_id)
    store = ResultStore(chosen_uri(options.tracking_uri, journal.root))
    ids = [trial.id for trial in asked.trials]
    with ExitStack() as last, Publisher(store, journal, asked.name, ids) as publisher:
        if pending:
            run(asked, pending, journal, data, options, last)
        else:
            print(f"all {len(asked.trials)} trials are done: nothing to run", flush=True)
    if options.asha:
        print("ASHA stopped trials early: this table is not comparable with one of a full grid")
    return conclude(asked, journal, store, bool(pending), publisher.trouble)
