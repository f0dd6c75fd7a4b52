"""Training of source models: killed, resumed, and waited for."""

from pathlib import Path

import pytest
import torch
from filelock import FileLock
from toy import net, same, task

from lmsa_bench.errors import UserError
from lmsa_bench.sources import SourceModel
from lmsa_bench.sources import model as source_model
from lmsa_bench.tasks.task import Stage
from lmsa_bench.trial import checkpoint

CPU = torch.device("cpu")


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4, 9, 15])
def test_a_killed_training_resumes_to_the_same_model(after, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    stages = (Stage("head", 3, 1e-3), Stage("all", 12, 3e-3))
    torch.save(net(1000, seed=3).state_dict(), tmp_path / "weights.pt")
    tuned = task(weights=str(tmp_path / "weights.pt"), stages=stages)
    epochs, uninterrupted, killed = [], tmp_path / "uninterrupted", tmp_path / "killed"

    def die():
        epochs.append(1)
        if len(epochs) == after:
            raise Killed

    with pytest.raises(Killed):
        SourceModel(tuned, killed, 0).ensure(CPU, die)
    assert (SourceModel(tuned, killed).training_folder / checkpoint.NAME).exists()
    facts = SourceModel(tuned, killed, 0).ensure(CPU, die)
    assert len(epochs) == 15 and facts == SourceModel(tuned, uninterrupted).ensure(CPU)
    states = [SourceModel(tuned, root).load(CPU).source.state_dict() for root in (killed, uninterrupted)]
    assert same(*states) and not SourceModel(tuned, killed).training_folder.exists()


def test_waiting_for_another_processs_training_calls_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(source_model, "WAIT_SECONDS", 0.05)
    lock = FileLock(SourceModel(task(), tmp_path).path.with_suffix(".lock"))
    Path(lock.lock_file).parent.mkdir()
    lock.acquire()
    calls = []

    def alive():
        calls.append(lock.is_locked)
        if len(calls) == 3:
            lock.release()

    SourceModel(task(), tmp_path, 0).ensure(CPU, alive)
    assert calls == [True] * 3 + [False] * 2  # and after each of the 2 epochs


def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path):
    folder = SourceModel(task(), tmp_path).training_folder
    folder.mkdir(parents=True)
    state = net().state_dict()
    wrong = ({}, {"stage": 0, "model": {}}, {"stage": 0, "epoch": 1, "model": state, "optimizer": {}, "schedule": {}})
    for content in wrong:
        checkpoint.save(folder, content)
        with pytest.raises(UserError, match=f"{folder.name}: its checkpoint does not fit") as error:
            SourceModel(task(), tmp_path).ensure(CPU)
        assert "\n" not in str(error.value)
