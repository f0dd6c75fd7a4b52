"""Sweeps that are killed at random moments and go on, and end as if nothing had happened: real processes, real kills.

The environment variable LMSA_KILLS says how many sweeps (1). In the first worker, server and driver die, in others one.
"""

import os
import random
import signal
import time
from contextlib import suppress

import psutil
import pytest
from sweeps import ONE, Server, Sweep, ended

KILLS = int(os.environ.get("LMSA_KILLS", "1"))
VICTIMS = ("worker", "server", "driver")

pytestmark = pytest.mark.slow


def assert_same(sweep: Sweep, undisturbed: Sweep, before: dict[str, int]) -> None:
    """The same table and records, bit for bit, and no trial run again that had finished."""
    assert "Traceback" not in sweep.output
    assert sweep.rows() == undisturbed.rows()
    assert sweep.files() == undisturbed.files()
    assert before.items() <= sweep.stamps().items()
    assert not list(sweep.results.glob(".ray-*"))


def kill_worker(driver: psutil.Process) -> bool:
    """Kills one of the processes in which trials run."""
    with suppress(psutil.Error):  # one that ends just now
        for process in driver.children(recursive=True):
            if "TrialTrainable" in " ".join(process.cmdline()):
                process.kill()
                return True
    return False


def damage_checkpoints(sweep: Sweep, draw: random.Random) -> None:
    """The last one of each trial, and sometimes the one before it as well."""
    for path in sorted(sweep.journal.trials.glob("*/checkpoint*.pt")):
        if path.name == "checkpoint.pt" or draw.random() < 0.5:
            path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_moment_changes_nothing(number, undisturbed, data, tmp_path):
    whole, seconds = undisturbed
    draw, victims = random.Random(number), (VICTIMS if number == 0 else VICTIMS[number % 3 :][:1])
    moments = sorted(draw.uniform(0.1, 0.95) * seconds for _ in victims)
    sweep, own = Sweep(tmp_path / "sweep", data, ONE), None
    if "server" in victims:
        own = Server(tmp_path)  # a store of its own, on a server of its own
        own.start()
        sweep.uri = own.uri
    started, before = time.monotonic(), {}
    driver = sweep.start()
    try:
        for victim, at in zip(victims, moments, strict=True):
            while time.monotonic() < started + at and driver.poll() is None:
                time.sleep(0.05)
            before |= sweep.stamps()
            print(f"{victim} killed after {at:.1f} s, {len(before)} trials had finished")
            if victim == "driver":
                with suppress(ProcessLookupError):  # it may have ended
                    alone = draw.random() < 0.5  # or with all its children
                    (os.kill if alone else os.killpg)(driver.pid, signal.SIGKILL)
                driver.wait()
                before |= sweep.stamps()
                damage_checkpoints(sweep, draw)
                driver = sweep.start()
            elif victim == "worker":
                while driver.poll() is None and not kill_worker(psutil.Process(driver.pid)):
                    time.sleep(0.05)
            else:
                own.kill()
                time.sleep(draw.uniform(0, 10))
                own.start()
        status = ended(driver)
        assert status == 0 or (status == 3 and own is not None), sweep.output
        if status == 3:  # the server was away when the sweep ended
            assert sweep.sync().returncode == 0
        assert_same(sweep, whole, before)
        sweep.assert_mirrored()
    finally:
        ended(driver)
        if own is not None:
            own.kill()
