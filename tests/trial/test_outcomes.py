"""Which test images a trial got right: packed, kept through a kill, and checked when they are read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

import lmsa_bench as lb
from lmsa_bench.errors import UserError
from lmsa_bench.library import Results
from lmsa_bench.results import run_tags
from lmsa_bench.results.journal import Journal
from lmsa_bench.trial import checkpoint, outcomes


def test_bits_and_margins_by_hand():
    # images 0, 1, 3 and 8 right: 1101 0000 | 1000 0000
    correct = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0, 1], dtype=torch.bool)
    assert outcomes.of(correct, None) == outcomes.Outcomes(bytes([0b11010000, 0b10000000]))
    assert outcomes.unpacked(bytes([0b11010000, 0b10000000]), 9).tolist() == correct.tolist()
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 1.0, 2.0], [1e9, 0.0, 0.0]])
    margins = outcomes.margins_of(logits, torch.tensor([0, 1, 0]))
    assert margins.tolist() == [0.5, -1.0, 1e9]  # 3 - 2.5, 1 - 2, 1e9 - 0
    assert np.frombuffer(outcomes.of(margins > 0, margins).margins, "<f2").tolist() == [0.5, -1.0, 65504.0]


@pytest.mark.parametrize("curves", [False, True])
def test_a_trial_keeps_what_it_got_right_through_a_kill(curves, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    asked = replace(toy.trial("full", epochs=3, curves=curves), logit_margins=True)
    folders = [tmp_path / name for name in ("whole", "part")]
    for folder in folders:
        folder.mkdir()
    whole = toy.run(asked, folders[0])
    list(whole.epochs())
    result = whole.result()
    x, y = whole.test.take(torch.arange(len(whole.test)))
    if not curves:  # the best epoch's parameters are in the model
        right = whole.model.run(x, whole.test.start).argmax(1) == y
        assert outcomes.unpacked(whole.outcomes.correct, len(y)).tolist() == right.tolist()
    outcomes.check(whole.outcomes.correct, len(y), result.test_accuracy)
    margins = np.frombuffer(whole.outcomes.margins, "<f2")
    assert ((margins > 0) == outcomes.unpacked(whole.outcomes.correct, len(y))).all()
    epochs = toy.run(asked, folders[1]).epochs()
    for _ in range(3):
        next(epochs)
    resumed = toy.run(asked, folders[1])
    assert resumed.state.epoch == 2
    list(resumed.epochs())
    resumed.result()
    assert resumed.outcomes == whole.outcomes


def test_they_are_kept_read_mirrored_and_checked(tmp_path):
    journal = Journal(tmp_path / "results", make=True)
    trials = [toy.trial("full", epochs=1, seed=seed) for seed in (0, 1)]
    for asked in trials:
        journal.folder(asked)
        made = toy.run(asked, journal.trials / asked.id)
        for record in made.epochs():
            journal.append(record)
        journal.finish(made.result(), made.outcomes)
    entries = {trial.id: journal.entry(trial.id) for trial in trials}
    found = Results(journal).outcomes("toy")
    for trial, row in zip(found.trials, found.correct, strict=True):
        result = entries[trial.id].result
        assert len(row) == result.test_size and row.mean() == pytest.approx(result.test_accuracy, abs=1e-12)
    for entry in entries.values():  # through MLflow's tags, which the table is made of
        tags = run_tags.tags(entry, "s") | {run_tags.KEY: entry.trial.id}
        assert run_tags.entry_of(tags) == entry
        del tags["mlflow.lmsa.outcomes.0"]  # written by an older version
        assert run_tags.entry_of(tags) == entry._replace(outcomes=None)
    path = journal.trials / trials[0].id / "outcomes.bin"
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 0b10000000]) + good[1:])
    with pytest.raises(UserError, match=r"outcomes: \d+ of \d+ images are right, the result's test accuracy is"):
        lb.open_results(journal.root).outcomes("toy")
    path.write_bytes(good[:-1])
    with pytest.raises(UserError, match="bytes are not those of"):
        lb.open_results(journal.root).outcomes("toy")
    path.unlink()  # a folder of an older version
    assert [trial.id for trial in lb.open_results(journal.root).outcomes("toy").trials] == [trials[1].id]
