"""Packs a suite's results into one archive, or verifies one:  python -m lmsa_bench.bundle quickstart"""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lmsa_bench import local
from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.report import Report
from lmsa_bench.bundle.archive import Unpacked, pack, unpacked
from lmsa_bench.bundle.arguments import parser
from lmsa_bench.errors import UserError
from lmsa_bench.report.tables import render
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.place import Place
from lmsa_bench.suites.load import load
from lmsa_bench.trial.outcomes import unpacked as bits
from lmsa_bench.trial.provenance import of_machine
from lmsa_bench.trial.spec import Trial

CLOSE = 1e-9  # by which another machine's sums may differ; the table's own numbers are exact
SHARE = 0.05  # of the test images, by which another kind of machine may differ in the mean over all reruns


class Rerun(NamedTuple):
    """How far a trial that was run again is off."""

    trial: Trial
    accuracy: float  # of the test, a fraction: again minus before
    images: float | None  # share of test images that came out otherwise; None where outcomes were not kept
    same_machine: bool  # the same kind, and the same torch


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, or 1 where reruns are off, 2 after a user's error (see errors.exit_status)."""
    options = parser().parse_args(arguments)
    if options.verify is not None:
        return verify(options.verify, options.rerun, options.data.absolute(), options.lot)
    suite = load(options.suite, options.seeds)
    suite.refuse_missing_weights()
    output = options.output or Path(f"{suite.name}.bundle.zip")
    count = pack(suite, options.seeds, opened(options.results, options.storage), output)
    print(f"{output}: {count} trials; verify it with: python -m lmsa_bench.bundle --verify {output}")
    return 0


def verify(path: Path, count: int, data: Path, lot: int | None) -> int:
    """Checks an archive, recomputes its table and runs trials of it again; 0 where all holds, else 1."""
    with unpacked(path) as bundle:
        suite = bundle.suite()
        suite.refuse_missing_weights()
        journal = bundle.journal
        print("every file is as it was made", flush=True)
        table = journal.table()
        now = reached(suite, table)
        if {trial.id for trial in now.needed} != set(journal.ids()):
            raise UserError(f"bundle {path}: its suite's file does not give the trials that it holds")
        if off := compare(report(suite, table), bundle):
            print(f"the table is not what the records give: {off}")
            return 1
        print(f"every number of the table follows from the records of {len(now.needed)} trials", flush=True)
        if count < 1:
            return 0
        draw = random.Random(lot)
        able = [trial for trial in now.needed if (found := journal.result(trial.id)) and found.status == "finished"]
        reruns = [rerun(trial, suite.plugins, journal, data) for trial in draw.sample(able, min(count, len(able)))]
    for one in reruns:
        images = "" if one.images is None else f", {one.images:.2%} of its test images came out otherwise"
        kind = "the same kind of machine" if one.same_machine else "another kind of machine"
        print(f"{one.trial.label}: test accuracy {100 * one.accuracy:+.2f} points{images} ({kind})")
    good = judge(reruns)
    print("the reruns are what they should be" if good else "the reruns are further off than they should be")
    return 0 if good else 1


def compare(made: Report, bundle: Unpacked) -> str:
    """Where the report made anew differs from the bundle's; "" where it does not.

    The cells must be equal bit by bit; what is drawn or summed by a library for linear algebra, to CLOSE.
    """
    summary = bundle.folder / "summary"
    if render(made, "csv") != (summary / "table.csv").read_bytes():
        return "its cells differ"
    return _differing(json.loads(render(made, "json")), json.loads((summary / "table.json").read_text()), "")


def _differing(one: object, other: object, where: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return next((told for key in one if (told := _differing(one[key], other[key], f"{where}.{key}"))), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((told for i, (a, b) in pairs if (told := _differing(a, b, f"{where}[{i}]"))), "")
    if isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE):
        return ""
    return "" if one == other else f"{where.lstrip('.')}: {one!r:.40} and {other!r:.40}"


def rerun(trial: Trial, plugins: Sequence[str], journal: Journal, data: Path) -> Rerun:
    """Runs a trial of a bundle again, in a folder of its own; raises UserError where it cannot be run here."""
    before = journal.entry(trial.id)
    assert before.result is not None and before.result.test_accuracy is not None
    with TemporaryDirectory() as folder, local.ready(plugins) as device:
        fresh = Journal(Path(folder), make=True)
        local.run_all([trial], Place(fresh, data, device))
        after = fresh.entry(trial.id)
    if after.result is None or after.result.test_accuracy is None:
        raise UserError(f"{trial.label}: cannot be run again: {after.result.reason if after.result else 'no result'}")
    images = None
    if before.outcomes is not None and after.outcomes is not None:
        size = before.result.test_size
        images = float((bits(before.outcomes, size) != bits(after.outcomes, size)).mean())
    here = after.result.provenance
    names = (*of_machine("cpu"), "torch")
    same = all(before.result.provenance.get(name) == here.get(name) for name in names if name in here)
    return Rerun(trial, after.result.test_accuracy - before.result.test_accuracy, images, same)


def judge(reruns: Sequence[Rerun]) -> bool:
    """Whether the reruns are what they should be: equal on the same kind of machine, else close in the mean."""
    exact = all(one.accuracy == 0 and not one.images for one in reruns if one.same_machine)
    others = [one.accuracy for one in reruns if not one.same_machine]
    return exact and (not others or abs(sum(others) / len(others)) <= SHARE)
