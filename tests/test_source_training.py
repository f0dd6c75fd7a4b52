"""The training of source models: killed, waited for, and taken up."""

from pathlib import Path

import pytest
import torch
from filelock import FileLock
from shades import net, same, task

from lmsa_bench import pretrain
from lmsa_bench.errors import UserError
from lmsa_bench.tasks.task import Stage
from lmsa_bench.trial import checkpoint

CPU = torch.device("cpu")


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4, 9, 15])
def test_a_training_that_was_killed_goes_on_to_the_same_model(after, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    stages = (Stage("head", 3, 1e-3), Stage("all", 12, 3e-3))
    torch.save(net(1000, seed=3).state_dict(), tmp_path / "weights.pt")
    tuned = task(weights=str(tmp_path / "weights.pt"), stages=stages)
    epochs, whole, own = [], tmp_path / "whole", tmp_path / "own"

    def die():
        epochs.append(1)
        if len(epochs) == after:
            raise Killed

    with pytest.raises(Killed):
        pretrain.ensure(tuned, own, CPU, 0, die)
    name = pretrain.fingerprint(tuned, own)
    assert (pretrain.training_folder(own, name) / checkpoint.NAME).exists()
    facts = pretrain.ensure(tuned, own, CPU, 0, die)
    assert len(epochs) == 15 and facts == pretrain.ensure(tuned, whole, CPU)
    states = [pretrain.load(tuned, root, name, CPU).source.state_dict() for root in (own, whole)]
    assert same(*states) and not pretrain.training_folder(own, name).exists()


def test_who_waits_for_another_processs_training_shows_that_it_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "WAIT_SECONDS", 0.05)
    lock = FileLock(pretrain.source_path(tmp_path, pretrain.fingerprint(task(), tmp_path)).with_suffix(".lock"))
    Path(lock.lock_file).parent.mkdir()
    lock.acquire()
    calls = []

    def alive():
        calls.append(lock.is_locked)
        if len(calls) == 3:
            lock.release()

    pretrain.ensure(task(), tmp_path, CPU, 0, alive)
    assert calls == [True] * 3 + [False] * 2  # and after each of the two epochs


def test_a_checkpoint_of_another_training_is_one_line(tmp_path):
    name = pretrain.fingerprint(task(), tmp_path)
    folder = pretrain.training_folder(tmp_path, name)
    folder.mkdir(parents=True)
    state = net().state_dict()
    wrong = ({}, {"stage": 0, "model": {}}, {"stage": 0, "epoch": 1, "model": state, "optimizer": {}, "schedule": {}})
    for content in wrong:
        checkpoint.save(folder, content)
        with pytest.raises(UserError, match=f"{folder.name}: its checkpoint does not fit") as error:
            pretrain.ensure(task(), tmp_path, CPU)
        assert "\n" not in str(error.value)
