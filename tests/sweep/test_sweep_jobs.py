"""Short trials go to a worker several at a time: what a job holds, and whose failure a dead worker is."""

import pytest
from sweeps import Sweep

from lmsa_bench.suites.load import load
from lmsa_bench.sweep.job import Job, Orders
from lmsa_bench.sweep.queue import Queue

RATES = [round(1e-4 * 1.2**i, 7) for i in range(24)]
FATAL = RATES[17]
SUITE = f"""
suite: jobs
tasks: [digits_flip]
seeds: 1
sources: one
epochs: 3
plugins: [PLUGIN]
rows:
  quits: {{grid: {{lr: {RATES}, fatal: {FATAL}}}}}
"""


def handed(queue, name):
    """The trials of the next job."""
    return Job.from_config(queue.suggest(name)).trials


def test_a_job_holds_two_seconds_of_short_trials_of_one_setting(tmp_path):
    suite = load("quickstart", 8).only(["digits_flip", "digits_super"], ["full"])
    flips, supers = ([t for t in suite.trials if t.task == task] for task in ("digits_flip", "digits_super"))
    seconds = {flips[0].task: 0.45, supers[0].task: 3.0}
    orders = Orders(str(tmp_path), str(tmp_path), None, (), 1, 0, 0, peers=2)
    mixed = [trial for pair in zip(flips, supers, strict=True) for trial in pair]
    queue = Queue([Job(t, {"commit": "c0ffee"}, orders) for t in mixed], list, orders, lambda t: seconds.get(t.task))
    assert len(flips) >= 16
    for name in ("a", "b"):  # whose source model nobody has made yet
        assert len(handed(queue, name)) == 1
        queue.on_trial_complete(name)
    queue.made |= {queue.source(job) for job in queue.waiting}
    job = Job.from_config(queue.suggest("c"))
    assert job.trials == tuple(flips[1:5]) and job.facts == {"commit": "c0ffee"}  # 4 x 0.45 s: a fifth ends after 2.25
    assert handed(queue, "d") == (supers[1],)  # takes longer by itself
    seconds[flips[0].task] = 0.01
    left = len(queue.waiting)
    held = [len(handed(queue, f"e{i}")) for i in range(4)]
    assert 1 < max(held) <= 1 + left // 4  # of what is left, two jobs more for each of two workers
    while queue.waiting:
        held.append(len(handed(queue, f"f{len(held)}")))
    assert held[-1] == 1
    assert sorted(t.id for job in queue.out for t in job.trials) == sorted(t.id for t in mixed)


def test_trials_of_which_none_has_ended_go_alone(tmp_path):
    trials = [trial for trial in load("quickstart", 1).trials if trial.task == "digits_flip"][:9]
    orders = Orders(str(tmp_path), str(tmp_path), None, (), 1, 0, 0)
    queue = Queue([Job(trial, {}, orders) for trial in trials], list, orders)
    queue.made = {queue.source(job) for job in queue.waiting}
    assert [len(handed(queue, str(i))) for i in range(9)] == [1] * 9


@pytest.mark.slow
def test_a_worker_that_dies_costs_the_trial_that_ran_alone(data, tmp_path):
    sweep = Sweep(tmp_path, data, SUITE)
    assert sweep.run("--cpus", "2") == 1, sweep.output
    found = {sweep.journal.trial(name).hparams["lr"]: sweep.journal.result(name) for name in sweep.journal.ids()}
    assert {lr: result.status for lr, result in found.items()} == {
        lr: "failed" if lr == FATAL else "finished" for lr in RATES
    }
    assert found[FATAL].reason.startswith("after 3 tries: The actor") and "died" in found[FATAL].reason
    assert (tmp_path / "started").read_text().count("\n") == len(RATES) + 2  # of the others none ran twice
    assert sweep.output.count("24/24 trials, 1 failed") == 1 and "Traceback" not in sweep.output
