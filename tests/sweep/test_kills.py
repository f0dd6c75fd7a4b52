"""Sweeps that meet random faults at random moments and go on, and end as if nothing had happened: real processes.

The environment variable LMSA_KILLS says which sweeps, as N for the first N (1) or FIRST:END, each of which is drawn by
its own number: the first meets the same faults every time, each of the others up to ten of all kinds.
"""

import os
import random
from pathlib import Path

import pytest
from faults import Faults
from raylets import wait_until
from sweeps import ONE, Server, Sweep, disk

NUMBERS = range(*map(int, os.environ.get("LMSA_KILLS", "1").split(":")))
FIRST = ("worker killed", "server killed", "driver killed", "raylet killed")
SUITE = ONE.replace("epochs: 6", "epochs: 6\nresources: {timeout: 15}")  # in which a worker that is stopped is missed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", NUMBERS)
def test_faults_at_any_moment_change_nothing(number, undisturbed, data, tmp_path):
    with disk(tmp_path / "disk", "size=64m,nr_inodes=4000") as small:
        disturb(number, undisturbed[0], data, tmp_path, small)


def disturb(number: int, whole: Sweep, data: Path, tmp_path: Path, small_disk: Path | None) -> None:
    draw = random.Random(number)
    sweep = Sweep(tmp_path / "sweep", data, SUITE, None if small_disk is None else small_disk / "results")
    server = Server(tmp_path) if number % 2 == 0 else None
    if server is not None:
        server.start()
    faults = Faults(sweep, draw, server, small_disk)
    try:
        kinds = FIRST if number == 0 else draw.choices(faults.kinds(), k=10)
        met = [kind for kind in kinds if faults.meet(kind, max(0.0, draw.uniform(-10, 10)))]  # half of them at once
        status = faults.end()
        assert status in (0, 3), sweep.output
        if status == 3 or number:  # the server was away when the sweep ended, or what it had was lost after that
            wait_until(lambda: sweep.sync().returncode == 0, 200)  # a busy machine's server answers late
        assert "Traceback" not in sweep.output
        assert sweep.rows() == whole.rows() and sweep.files() == whole.files()
        assert faults.finished.items() <= sweep.stamps().items(), "a trial that had finished ran again"
        assert not list(sweep.results.glob(".ray-*"))
        sweep.assert_mirrored()
        print(f"recovered from {len(met)} faults", flush=True)
    finally:
        faults.stop()
