"""Values that no trial can have left are refused where they are read, from a folder and from MLflow alike."""

import json
from typing import get_args, get_type_hints

import pytest
from hand_made import entry, write

from lmsa_bench.errors import UserError
from lmsa_bench.results import run_tags
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.trial.spec import PROTOCOL, EpochRecord, TrialResult, canonical

NAN, INF = float("nan"), float("inf")
RECORD = {
    "val_accuracy": (2.0, -5.0, NAN, INF, None),
    "val_loss": (-0.1, NAN, INF, None),
    "train_loss": (-0.1, NAN, INF),
    "test_accuracy": (1.01, NAN),
    "test_loss": (-1.0, -INF),
    "step_losses": ([-1.0], [NAN], [None]),
    "seconds": (-1.0, NAN, INF, None),
    "kept_bytes": (-1, None),
    "layers": ([-1], [0.5], None),
    "epoch": (-1, 1),  # the first is 1, so that another 1 is doubled
    "time": (NAN, -1.0),
}
RESULT = {
    "val_accuracy": (2.0, NAN, None),
    "test_accuracy": (1.076, -0.1, NAN, INF, None),
    "val_loss": (-0.1, NAN, INF, None),
    "test_loss": (-0.1, NAN, INF, None),
    "best_epoch": (-1, None),
    "test_size": (-7, None),
    "seconds": (-1.0, NAN),
    "scores": ({"scores of rgn": [0.5, NAN]},),
}
CASES = [("records", name, value) for name, values in RECORD.items() for value in values]
CASES += [("result", name, value) for name, values in RESULT.items() for value in values]
# No number of either may be negative, and no other than a loss nan.
for where, kind in (("records", EpochRecord), ("result", TrialResult)):
    for name, hint in get_type_hints(kind).items():
        if {int, float} & {hint, *get_args(hint)} and name not in (RECORD if where == "records" else RESULT):
            CASES += [(where, name, -1), (where, name, NAN)]


def made():
    return entry("t", "m", {}, 0, [0.5, 0.7])


def damaged(text: str, where: str, name: str, value: object) -> str:
    """The tag's or file's text with one value changed, in the last record or in the result."""
    found = json.loads(text)
    (found[-1] if where == "records" else found)[name] = value
    return canonical(found)


@pytest.mark.parametrize(("where", "name", "value"), CASES, ids=str)
def test_a_value_that_cannot_be_is_one_line_that_names_it(where, name, value, tmp_path):
    journal, trial = Journal(tmp_path, make=True), made().trial.id
    write(journal, made())
    folder = tmp_path / "trials" / trial
    if where == "records":
        lines = (folder / "records.jsonl").read_text().splitlines()
        changed = json.loads(damaged(f"[{','.join(lines)}]", where, name, value))
        (folder / "records.jsonl").write_text("".join(canonical(line) + "\n" for line in changed))
    else:
        (folder / "result.json").write_text(damaged((folder / "result.json").read_text(), where, name, value))
    tags = run_tags.tags(made(), "s") | {run_tags.KEY: trial, "mlflow.runName": "t m seed=0"}
    tag = f"{run_tags.DOCUMENTS}.{where}.0"
    for read, names in (
        (journal.table, f"{trial}: cannot be read"),
        (
            lambda: run_tags.entry_of(tags | {tag: damaged(tags[tag], where, name, value)}),
            f"MLflow run 't m seed=0' of trial {trial}",
        ),
    ):
        with pytest.raises(UserError) as error:
            read()
        assert names in str(error.value) and name.removesuffix("_losses") in str(error.value)
        assert "unknown keys" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("status", ["diverged", None])
def test_losses_need_not_be_finite_where_a_trial_diverges(status, tmp_path):
    journal = Journal(tmp_path, make=True)
    one = entry("t", "m", {}, 0, [(0.5, 1.0), (0.1, NAN)], status=status)
    write(journal, one)
    assert repr(journal.entry(one.trial.id)) == repr(one)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    journal, one = Journal(tmp_path, make=True), entry("t", "m", {}, 0, [(0.5, -1.0)])
    journal.folder(one.trial)
    with pytest.raises(UserError, match=r"val_loss: -1.0: Input should be at least 0"):
        journal.append(one.records[0])


def test_trials_of_another_protocol_are_counted_and_not_used(tmp_path):
    journal = Journal(tmp_path, make=True)
    before = [entry("t", "m", {}, seed, protocol=1) for seed in range(3)]
    for one in [*before, entry("t", "m", {}, 0)]:
        write(journal, one)
    (tmp_path / "trials" / before[0].trial.id / "result.json").write_text('{"another": "version\'s"}')
    again = Journal(tmp_path)
    assert again.finished() == {entry("t", "m", {}, 0).trial.id} and len(list(again.entries())) == 1
    assert again.others() == [
        f"3 finished trials of protocol 1 are in this folder; this version runs protocol {PROTOCOL}"
    ]


def test_a_damaged_run_is_refused_and_then_written_anew(tmp_path):
    journal, store = Journal(tmp_path, make=True), ResultStore(default_uri(tmp_path))
    write(journal, made())
    store.publish(journal, "s")
    client, _ = store._connected()
    (run,) = [run for run in store._runs() if run_tags.KEY in run.data.tags]
    tag = "mlflow.lmsa.result.0"
    client.set_tag(run.info.run_id, tag, damaged(run.data.tags[tag], "result", "test_accuracy", 2.0))
    with pytest.raises(UserError, match=f"MLflow run 't m seed=0' of trial {made().trial.id}: .*test_accuracy: 2.0"):
        store.table()
    store.publish(journal, "s", anew=True)
    assert store.table().equals(journal.table())
