"""Runs a suite's trials on Ray, and prints its ranked table:  python -m lmsa_bench.sweep [SUITE]"""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lmsa_bench.analysis import codes
from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.endings import failures
from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.sequential import Look, Standing, looks
from lmsa_bench.atomic import drop_scratch
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.report import figures, tables
from lmsa_bench.report.write import write
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.place import Place
from lmsa_bench.results.tracking import ResultStore, chosen_uri
from lmsa_bench.suites import known
from lmsa_bench.suites.spec import Suite
from lmsa_bench.sweep import running, start
from lmsa_bench.sweep.arguments import parser
from lmsa_bench.sweep.progress import MOST_FAILURES
from lmsa_bench.sweep.publisher import Publisher
from lmsa_bench.sweep.ready import Needs
from lmsa_bench.sweep.start import Cluster
from lmsa_bench.sweep.until import Steps
from lmsa_bench.trial import provenance

OFFERED = "--changed rerun runs them anew, --changed keep keeps them and says so below the table"
UNPUBLISHED = 3  # the exit status where all trials have ended and the store lacks some


def conclude(
    suite: Suite,
    journal: Journal,
    store: ResultStore,
    command: str,
    fresh: bool,
    trouble: str | None,
    standing: Standing | None = None,
    stopped: bool = False,
) -> int:
    """Prints what failed, the table, and what is missing from it or from MLflow; exit status 0 where nothing is.

    With ``stopped``, ASHA has stopped the trials without an end, as it was asked to.
    """
    journal.refresh()
    ends, needed = {end.trial: end for end in journal.ends()}, suite.needed
    failed = [(t, end) for t in needed if (end := ends.get(t.id)) and end.status == "failed"]
    link = page = None
    missing = sum(trial.id not in ends for trial in needed)
    reasons = failures((trial, end.reason) for trial, end in failed)
    print(*reasons[:MOST_FAILURES], sep="\n", end="\n" * bool(failed))
    if len(reasons) > MOST_FAILURES:
        print(f"and {len(reasons) - MOST_FAILURES} more reasons of failed trials")
    if failed:
        print(f"try them again: {command}")
    if len(failed) + missing < len(needed) or not needed:
        table = journal.table()
        found = report(suite, table, codes.footnotes(suite, table), standing)
        page = write(found, journal, anew=fresh)
        print(tables.render(found, "table").decode(), flush=True)
        if trouble is None and not suite.part:
            try:
                link = store.publish_summary(journal, suite.name)
            except UserError as error:
                trouble = str(error)
    else:
        print("no trial has finished, so there is no table")
    if missing and stopped:
        print(f"ASHA stopped {missing} of {len(needed)} trials: without --asha the command runs them to their ends")
        missing = 0
    elif missing:
        print(f"{missing} of {len(needed)} trials have not ended: run the same command again to resume")
    if missing == len(needed) > 0:
        return 1
    if page is not None:
        print(f"page: {page}")
    if trouble is None:
        ui = shlex.join(["mlflow", "ui", "--backend-store-uri", store.shown])
        print(f"MLflow: {store.shown if store.is_server else ui}")
        if link is not None:
            print(f"there, the methods by test accuracy: {link}")
    else:
        options = shlex.join(["--results", str(journal.root), "--tracking-uri", store.shown])
        print(f"warning: {trouble}")
        print(f"all results are safe on disk; publish them with: python -m lmsa_bench.results sync {options}")
    return 1 if failed or missing else 0 if trouble is None else UNPUBLISHED


def show_plan(suite: Suite, results: Path, storage: str | None, data: Path, slots: int) -> None:
    """Prints what a sweep would do, and makes no results folder."""
    with TemporaryDirectory() as empty:
        journal = opened(results if results.exists() else Path(empty), storage, make=True)
        for line in journal.others():
            print(line, flush=True)
        ends = journal.ends()
        if (changed := codes.changed_trials(suite, journal, ends)) is not None:
            print(f"{changed.text}: {OFFERED}")
        now = reached(suite, journal.table()) if suite.grows else suite  # of extended grids what they have come to
        finished = {end.trial for end in ends if end.lasts}
        pending = [trial for trial in now.needed if trial.id not in finished]
        from lmsa_bench.sweep import plan  # imports torch, as running does

        print("\n".join(plan.describe(now, journal, pending, data, slots)))


def select(text: str) -> tuple[list[str], list[str]]:
    """The tasks and methods of an --only argument; raises UserError."""
    kept: dict[str, list[str]] = {"task": [], "method": []}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key not in kept or not equals or not value:
            raise UserError(f"--only {part!r}: expected task=NAME or method=NAME")
        kept[key].append(value)
    return kept["task"], kept["method"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, 1 where trials failed or are left, 2 after a user's error, or UNPUBLISHED."""
    options = parser().parse_args(arguments)
    if options.until and options.asha:
        raise UserError("--asha stops trials early, and --until decides by whole ones")
    if options.local and (options.address or options.asha or options.cpus):
        raise UserError("--local runs in this process, where --address, --asha and --cpus mean nothing")
    if options.seeds is not None and options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: expected at least 1")
    if options.margin is not None and not 0 <= options.margin <= 100:
        raise UserError(f"--margin {options.margin:g}: expected 0 to 100 points")
    whole, planned = known.load(options.suite, options.seeds), list[Look]()
    if options.until:
        first = len({trial.seed for trial in whole.trials})
        if not 2 <= first <= options.most:
            raise UserError(f"--until decided: starts at {first} seeds: expected 2 to {options.most} (--most)")
        whole, planned = known.load(options.suite, options.most), looks(first, options.most)
    if options.margin is not None:
        whole = replace(whole, margin=options.margin / 100)
    figures.check(whole)
    try:
        suite = whole.only(*select(options.only))
    except UserError as error:
        raise UserError(f"--only {options.only}: {one_line(error)}") from None
    if suite.rows and not suite.trials:
        raise UserError(f"--only {options.only}: no trial of suite {suite.name!r} is left")
    data = options.data.absolute()
    if options.dry_run:
        slots = 1 if options.local else max(1, int((options.cpus or start.cpus()) / (suite.cpus or 1)))
        show_plan(suite, options.results, options.storage, data, slots)
        return 0
    journal = opened(options.results, options.storage, make=True)
    drop_scratch(journal.root)
    for line in journal.others():
        print(line, flush=True)
    suite.refuse_missing_weights()
    finished = codes.ended(suite, journal, options.changed, OFFERED)
    for trial_id in finished:  # what ended before there was a storage
        journal.push(trial_id)
    store = ResultStore(chosen_uri(options.tracking_uri, journal.root))
    facts = provenance.of_process() | {"config": suite.config}
    place, needs = Place(journal, data, provenance=facts), Needs(data, fingerprints=journal.storage is not None)
    cluster = None if options.local else Cluster(options.address, options.cpus, options.asha)
    ids, found, complete = [trial.id for trial in suite.trials], Steps(suite, planned, journal), True
    with ExitStack() as last, Publisher(store, journal, suite.name, ids) as publisher:
        while some := found.pending():
            tasks = len({trial.task for trial in some})
            where = "in this process" if cluster is None else "on Ray"
            starting = ", which is starting" * (cluster is not None and start.is_own(cluster.address))
            told = f"{len(some)} trial{'s' * (len(some) > 1)} of {tasks} task{'s' * (tasks > 1)} {where}{starting}"
            print(f"suite {suite.title}: {told}", flush=True)
            if not (complete := running.run(suite, some, found.grow, place, cluster, needs, options.plain, last)):
                break
        if not found.handed:
            print(f"all {len(found.suite.needed)} trials are done: nothing to run", flush=True)
    if options.asha:
        print("ASHA stops trials early: this table is not comparable with one of a full grid")
    command, fresh, stopped = str(facts["command"]), bool(found.handed), options.asha and complete
    return conclude(found.suite, journal, store, command, fresh, publisher.trouble, found.standing, stopped)
