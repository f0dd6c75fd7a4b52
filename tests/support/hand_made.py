"""Journal entries and suites written by hand, for the tests of analysis, report and tracking."""

from collections.abc import Mapping, Sequence

from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import Entry
from lmsa_bench.suites.spec import Row, Suite
from lmsa_bench.trial.spec import PROTOCOL, EpochRecord, Trial, TrialResult, Value


def entry(
    task: str,
    method: str,
    hparams: Mapping[str, Value],
    seed: int,
    val: Sequence[float | tuple[float, float]] = (0.5,),  # an epoch's accuracy, or its accuracy and loss
    test: float | None = 0.5,
    *,
    variant: str = "",
    status: str | None = "finished",
    reason: str = "",
    layers: tuple[int, ...] = (0,),
    data: str = "data",
    source: str | None = None,
    facts: Mapping[str, Value] | None = None,
    protocol: int = PROTOCOL,
    remarks: tuple[str, ...] = (),
) -> Entry:
    trial = Trial(task, variant, method, hparams, seed, len(val), protocol=protocol)
    pairs = [value if isinstance(value, tuple) else (value, 1.0) for value in val]
    records = [
        EpochRecord(trial.id, i, 0.7, loss, accuracy, 2.0, 100, layers, 1.7e9 + 10 * i + 0.123456)
        for i, (accuracy, loss) in enumerate(pairs, 1)
    ]
    if status is None:
        return Entry(trial, records, None)
    best = min(records, key=lambda record: record.stopping_key)
    metrics = (best.epoch, best.val_accuracy, best.val_loss, test, 0.9) if status == "finished" else ()
    result = TrialResult(
        trial.id,
        status,
        reason,
        *metrics,
        provenance={"data": data} | ({"source": source} if source else {}) | dict(facts or {}),
        remarks=remarks,
    )  # type: ignore[arg-type]
    return Entry(trial, records, result)


def suite_of(
    rows: Mapping[str, Sequence[Entry]],
    *,
    unranked: Sequence[str] = (),
    averaged: Mapping[str, tuple[str, ...]] | None = None,
    each: Mapping[str, tuple[tuple[str, Value], ...]] | None = None,
    truths: Sequence[str] = (),
) -> Suite:
    """A suite whose rows have these trials."""
    trials = {e.trial.id: e.trial for entries in rows.values() for e in entries}
    return Suite(
        "hand_made",
        tuple(dict.fromkeys(trial.task for trial in trials.values())),
        tuple(
            Row(
                name,
                name not in unranked,
                (averaged or {}).get(name, ()),
                frozenset(e.trial.configuration for e in es),
                (each or {}).get(name, ()),
                name in truths,
            )
            for name, es in rows.items()
        ),
        tuple(trials.values()),
    )


def write(journal: Journal, entry: Entry) -> None:
    """Writes an entry to a results folder as a sweep does."""
    journal.folder(entry.trial)
    for record in entry.records:
        journal.append(record)
    if entry.result is not None:
        journal.finish(entry.result)
