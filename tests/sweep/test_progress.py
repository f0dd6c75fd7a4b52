"""What a sweep says of its progress."""

import io
import pickle

import pytest
from hand_made import entry

from lmsa_bench.sweep import progress
from lmsa_bench.sweep.progress import Progress, clock, in_order, kind


def trials(methods: int, each: int, tasks: int = 1) -> list:
    """Trials method by method, as a suite has them."""
    return [
        entry(f"task{task}", f"method{method}", {"lr": 0.1}, seed).trial
        for method in range(methods)
        for task in range(tasks)
        for seed in range(each)
    ]


@pytest.fixture
def now(monkeypatch):
    """The clock, in a list."""
    time = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_the_time_left_counts_from_the_first_trial_and_waits_until_it_is_known(now, capsys):
    some = trials(1, 41)
    shown = Progress(some, {}, plain=True)
    for i, trial in enumerate(some):
        now[0] = 60.0 + 4 * i  # a minute until the first has ended, then 4 s each
        shown.add(trial, seconds=4.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1/41 trials; last: task0 method0 lr=0.1 seed=0"
    assert lines[1] == "4/41 trials; last: task0 method0 lr=0.1 seed=3"
    assert lines[2] == "7/41 trials, 0.25 trials/s, 2 min 16 s left; last: task0 method0 lr=0.1 seed=6"  # 34 x 4 s
    assert lines[-1] == "41/41 trials, 0.25 trials/s, 0 s left; last: task0 method0 lr=0.1 seed=40"


def test_the_time_left_is_known_as_soon_as_each_kind_of_trial_has_ended_once(now):
    some = trials(4, 10, tasks=2)
    took = {method: 2.0 * 3**i for i, method in enumerate(f"method{i}" for i in range(4))}  # 2 s to 54 s
    order = in_order(some, {})
    assert sorted(trial.id for trial in order) == sorted(trial.id for trial in some)
    assert {kind(trial) for trial in order[:8]} == {kind(trial) for trial in some}
    shown, left = Progress(order[:60], {}, plain=True), []
    shown.expect([], order[60:])  # as of grids that go on
    total = sum(took[trial.method] for trial in order) / 2  # on two workers
    for i, trial in enumerate(order):
        if i == 50:
            shown.expect(order[60:], [])
        now[0] += took[trial.method] / 2
        shown.add(trial, seconds=took[trial.method])
        left.append((shown.left(), total - now[0]))
    assert [told for told, _ in left[:7]] == [None] * 7
    assert all(true / 1.5 <= told <= 1.5 * true for told, true in left[7:-1]) and left[-1][0] == 0


def test_what_took_long_before_comes_first():
    some = trials(3, 4)
    order = in_order(some, {kind(some[0]): 1.0, kind(some[-1]): 5.0})
    assert [trial.method[-1] for trial in order] == [*"012", *"111", *"222", *"000"]  # one of each, then the unknown


def test_a_terminal_shows_what_happens_and_the_table_so_far(now, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    some = trials(2, 2, tasks=2)
    shown = Progress(some, {trial.configuration: f"row {trial.method}" for trial in some})
    shown.now("2 at a time")
    assert not terminal.getvalue()  # which shows how much is downloaded
    shown.show()
    now[0] = 65.0
    shown.add(some[0], seconds=1.0, accuracy=0.5)
    shown.add(some[1], seconds=1.0, accuracy=0.75)
    shown.add(some[2], failure="KeyError: 'momentum' (mine.py:8)")
    assert pickle.loads(pickle.dumps(shown)).done == 3  # as Tune keeps it
    shown.close()
    view = terminal.getvalue()
    assert "2 at a time · 3 of 8 trials · 1 failed · 1 min 05 s" in view
    assert "Best validation accuracy so far" in view
    assert "row method0" in view and "75.0" in view and "row method1" not in view


def test_a_reason_to_fail_is_told_at_once_and_once(now, capsys):
    some = trials(1, 30)
    shown = Progress(some, {}, plain=True)
    shown.add(some[0], failure="KeyError: 'momentum' (mine.py:8)")
    assert capsys.readouterr().out == "failed: task0 method0 lr=0.1 seed=0: KeyError: 'momentum' (mine.py:8)\n"
    for trial in some[1:15]:
        shown.add(trial, failure=f"KeyError: 'other' (mine.py:8); its traceback: results/trials/{trial.id}/error.txt")
    now[0] += progress.SECONDS
    for i, trial in enumerate(some[15:]):
        shown.add(trial, failure=f"OSError: number {i} (mine.py:9)")
    out = capsys.readouterr().out
    assert out.count("'other'") == 1 and "16/30 trials, 16 failed; last: " in out
    assert out.count("failed: ") == progress.MOST_FAILURES - 1


def test_a_duration_is_short():
    assert [clock(seconds) for seconds in (59, 61, 3900)] == ["59 s", "1 min 01 s", "1 h 05 min"]
