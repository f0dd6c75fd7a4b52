"""Source models, each made by the worker of the first trial that starts from it."""

import pytest
from sweeps import Sweep

from lmsa_bench.suites.load import load
from lmsa_bench.sweep.job import Job, Orders
from lmsa_bench.sweep.queue import Queue

PLUGIN = '''
import os
import sys
from dataclasses import replace
from pathlib import Path

from lmsa_bench.tasks import TASKS
from lmsa_bench.tasks.digits import digits_flip


def end(how):
    """Fails as asked, with a trace in a file."""
    with open(Path(os.environ["FAULTS"]) / "made", "a") as file:
        file.write("x")
    if how == "raises":
        raise ValueError("no such images")
    os._exit(1)


def task(name, how, often):
    """digits_flip, whose source model's first tries to be made fail."""
    whole = digits_flip()

    def images(root):
        made = Path(os.environ["FAULTS"]) / "made"
        if len(made.read_text() if made.exists() else "") < often:
            end(how)
        return whole.source.load(root)

    return replace(whole, name=name, source=replace(whole.source, data=name, load=images, fingerprint=lambda _: name))


@TASKS.register
def raising():
    """Its source model cannot be made."""
    return task("raising", "raises", 1000)


@TASKS.register
def lethal():
    """Its source model kills its worker."""
    return task("lethal", "exits", 1000)


@TASKS.register
def lethal_once():
    """Its source model kills its worker the first time."""
    return task("lethal_once", "exits", 1)
'''
SUITE = """
suite: sources
tasks: [TASK]
seeds: [0, 1, 2, 3, 4, 5]
sources: one
epochs: 1
plugins: [tasks_that_fail.py]
rows:
  full: {grid: {lr: [1e-2, 1e-3]}}
"""


def sweep_of(task, folder, data):
    sweep = Sweep(folder, data, SUITE.replace("TASK", task))
    (folder / "tasks_that_fail.py").write_text(PLUGIN)
    return sweep


def results(sweep):
    return [sweep.journal.result(trial) for trial in sweep.journal.ids()]


@pytest.mark.slow
def test_a_source_model_that_cannot_be_made_fails_its_trials_in_one_line(data, tmp_path):
    sweep = sweep_of("raising", tmp_path, data)
    assert sweep.run("--cpus", "2") == 1, sweep.output
    reasons = {result.reason.partition("; its traceback")[0] for result in results(sweep)}
    assert len(results(sweep)) == 12 and len(reasons) == 1
    assert reasons.pop().startswith("source model: ValueError: no such images (")
    assert sweep.output.count("no such images") == 2  # as it happens, and at the end
    assert "Traceback" not in sweep.output
    assert len((tmp_path / "made").read_text()) <= 2  # by each of two workers at most


@pytest.mark.slow
def test_a_source_model_that_kills_its_worker_is_given_up_for_all_its_trials(data, tmp_path):
    sweep = sweep_of("lethal", tmp_path, data)
    assert sweep.run("--cpus", "2") == 1, sweep.output
    assert len(results(sweep)) == 12
    assert all(result.reason.startswith("source model: after 3 tries: The ") for result in results(sweep))
    assert len((tmp_path / "made").read_text()) <= 12  # by two trials that ran, and two that Tune had taken out
    assert "Traceback" not in sweep.output


@pytest.mark.slow
def test_a_worker_that_dies_over_a_source_model_costs_nothing(data, tmp_path):
    sweep = sweep_of("lethal_once", tmp_path, data)
    assert sweep.run("--cpus", "2") == 0, sweep.output
    assert {result.status for result in results(sweep)} == {"finished"}
    assert sweep.output.count("source model of lethal_once: wrn_10_1") == 1


def test_source_models_are_made_side_by_side(tmp_path):
    trials = [trial for trial in load("quickstart", 2).trials if trial.task == "digits_flip"][:6]
    orders = Orders(str(tmp_path), str(tmp_path), None, (), 1, 0, 0)
    queue = Queue([Job(trial, {}, orders) for trial in sorted(trials, key=lambda one: one.seed)], list, orders)

    def handed(name):
        return Job.from_config(queue.suggest(name)).trial.seed

    assert [trial.seed for trial in trials] == [0, 1] * 3
    assert [handed("a"), handed("b")] == [0, 1]
    assert handed("c") == 0  # all are in the making: it waits for its own
    queue.on_trial_result("b", {})
    assert handed("d") == 1
    queue.on_trial_complete("a", {})
    assert [handed("e"), handed("f")] == [0, 1]
    assert queue.suggest("g") is None  # results may add more
    for name in "bcdef":
        queue.on_trial_complete(name, {})
    assert queue.suggest("g") == "FINISHED"
