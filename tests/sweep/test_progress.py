"""What a sweep says of its progress."""

from lmsa_bench.sweep import progress
from lmsa_bench.sweep.progress import Progress, clock


def test_the_time_left_counts_from_the_first_trial_and_waits_until_it_is_known(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(41, plain=True)
    for i in range(41):
        now[0] = 60.0 + 4 * i  # a minute until the first has ended, then 4 s each
        shown.add(f"trial {i}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1/41 trials; last: trial 0" and lines[1] == "4/41 trials; last: trial 3"
    # After 7 trials, 6 in 24 s: 34 more at 0.25 a second take 136 s.
    assert lines[2] == "7/41 trials, 0.25 trials/s, 2 min 16 s left; last: trial 6"
    assert lines[-1] == "41/41 trials, 0.25 trials/s, 0 s left; last: trial 40"


def test_a_duration_is_short():
    assert [clock(seconds) for seconds in (59, 61, 3900)] == ["59 s", "1 min 01 s", "1 h 05 min"]
