"""What tuning loses elsewhere: accuracy on held-out images of the source, before and after."""

import json
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from lmsa_bench.analysis.selection import choose, of_suite, outcomes
from lmsa_bench.trial.spec import Trial

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs


class Kept(NamedTuple):
    """Accuracies on held-out images of the source, fractions, means over the chosen trials of a row on a task."""

    before: float | None  # of the source models
    after: float


def kept(suite: "Suite", table: pa.Table) -> Mapping[tuple[str, str], Kept]:
    """By row and task; without those of which no chosen trial tells it, as of older versions."""
    table = of_suite(suite, table)
    ends, after, before = outcomes(table), dict[str, float](), dict[str, float]()
    for one in table.select(["trial", "source_accuracy", "provenance"]).to_pylist():
        if one["source_accuracy"] is not None and one["trial"] not in after:
            after[one["trial"]] = one["source_accuracy"]
            known = json.loads(one["provenance"] or "{}").get("source_accuracy")
            if isinstance(known, float):
                before[one["trial"]] = known
    found = {}
    for row in suite.rows:
        own = defaultdict[str, dict[str, list[Trial]]](lambda: defaultdict(list))
        for trial in suite.trials:
            if trial.configuration in row.configurations:
                own[trial.task][trial.configuration].append(trial)
        for task, configurations in own.items():
            chosen = [t.id for ts in choose(configurations, row.averaged, ends).values() for t in ts]
            if values := [after[trial] for trial in chosen if trial in after]:
                known = [before[trial] for trial in chosen if trial in before]
                found[row.name, task] = Kept(fmean(known) if known else None, fmean(values))
    return found
