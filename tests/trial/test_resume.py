"""What an update carries from step to step survives a resume, or there is none, and that is said."""

import lora
import pytest
import torch
import toy

import lmsa_bench as lb
from lmsa_bench import local
from lmsa_bench.control.updates import MSA, Adam, unsaved
from lmsa_bench.methods import METHODS
from lmsa_bench.results.journal import Journal
from lmsa_bench.sources.needs import prepare
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.run import Run


@pytest.fixture(autouse=True)
def checkpoint_each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    torch.set_num_threads(1)


def run(factory, folder, **facts) -> Run:
    folder.mkdir(exist_ok=True)
    asked = toy.trial("single_layer", epochs=4, n=3, lr=0.01)
    parts = toy.splits(folder, "", 0)
    return Run(asked, toy.task(), toy.source_model(), factory(), parts, folder, toy.CPU, facts)


def interrupted(factory, folder, epochs=2):
    """The records of a run that is killed after so many epochs."""
    records = run(factory, folder).epochs()
    done = [next(records) for _ in range(epochs + 1)]  # the last one's checkpoint is not written any more
    return toy.untimed(done[:epochs])


def test_which_updates_can_be_resumed():
    class Own(Adam):
        def step(self, x, target, layers, start=0):
            return super().step(x, target, layers, start)

    class Below(Own):
        def state_dict(self):
            return super().state_dict()

    class Renamed(lora.Complete):
        pass

    assert [unsaved(kind) for kind in (Adam, MSA, lora.Complete, Renamed)] == [None] * 4
    assert unsaved(lora.Lora) == "Lora.step has no state_dict and no load_state_dict of its own"
    assert unsaved(Below) == "Own.step has no load_state_dict of its own"
    assert unsaved(object) == "object has no step"


def test_a_whole_state_resumes_exactly(tmp_path):
    expected = toy.untimed(run(lora.complete_head, tmp_path / "whole").epochs())
    done = interrupted(lora.complete_head, tmp_path / "part")
    resumed = run(lora.complete_head, tmp_path / "part")
    assert resumed.state.epoch == 2
    assert done + toy.untimed(resumed.epochs()) == expected
    # The state matters: without the part that the optimiser does not know, the records are others.
    interrupted(lora.forgetful_head, tmp_path / "lost")
    assert toy.untimed(run(lora.forgetful_head, tmp_path / "lost").epochs()) != expected[2:]


def test_a_state_that_is_not_kept_is_not_resumed(tmp_path):
    expected = toy.untimed(run(lora.lora_head, tmp_path / "whole").epochs())
    interrupted(lora.lora_head, tmp_path / "part")
    assert not list((tmp_path / "part").iterdir())
    again = run(lora.lora_head, tmp_path / "part")
    assert toy.untimed(again.epochs()) == expected


def test_a_trial_that_starts_anew_says_so(tmp_path, monkeypatch, data):
    monkeypatch.setitem(METHODS._factories, "lora_head", lora.lora_head)
    trial = lb.Trial("digits_flip", "", "lora_head", {"lr": 0.01}, 0, 2)
    for killed in (False, True):
        journal = Journal(tmp_path / str(killed), make=True)
        place = local.Place(journal, data)
        task = local.task_of(trial)
        prepare(task, data)
        source = local.SourceModel(task, data, 0, None)
        source.ensure(toy.CPU)
        if killed:
            next(local.run(trial, place, source))
        *_, result = local.run(trial, place, source)
        expected = ("cannot resume: Lora.step has no state_dict and no load_state_dict of its own",)
        assert result.remarks == (expected if killed else ())


# Others have the update and the schedule of one that is checked; test_run kills and resumes every method.
ALIKE = (
    "bitfit",
    "fisher_top",
    "full_msa",
    "lmsa_adam",
    "lmsa_top",
    "lora_plus",
    "random_layer",
    "spectrum_top",
    "subtuning",
)


@pytest.mark.parametrize("method", [m for m in METHODS.names() if m not in ALIKE])
def test_our_methods_pass_the_check_that_authors_call(method):
    lb.check_resume(METHODS.get(method), **toy.hparams(method))


def test_the_check_says_what_is_wrong():
    lb.check_resume(lora.complete_head, lr=0.02)
    with pytest.raises(AssertionError, match=r"cannot resume: Lora\.step has no state_dict"):
        lb.check_resume(lora.lora_head)
    with pytest.raises(AssertionError, match=r"resumed after epoch 1, epoch 2: train_loss is .*, undisturbed "):
        lb.check_resume(lora.forgetful_head)
