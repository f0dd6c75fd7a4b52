"""What trials need is made ready by a process of its own where this one has no torch, and is the same as here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from lmsa_bench.suites import known
from lmsa_bench.sweep.ready import Needs, make

PROGRAM = """
import json, multiprocessing, sys
from pathlib import Path
from lmsa_bench.errors import UserError
from lmsa_bench.suites import known
from lmsa_bench.sweep.ready import Needs

suite = known.load("quickstart", 2)
needs = Needs(Path(sys.argv[1]), fingerprints=True)
needs.begin(suite.trials, here=False)
(other,) = multiprocessing.active_children()
if sys.argv[2] == "kill":
    other.kill()
try:
    found = needs.wait()
    needs.begin(suite.trials, here=False)  # nothing is new
    more = {*multiprocessing.active_children()} - {other}
    told = [[*map(list, found.sources.items())], found.data, found.unready, len(more)]
except UserError as error:
    told = str(error)
print(json.dumps([told, "torch" in sys.modules]))
"""


def elsewhere(folder: Path, how: str):
    known.load("quickstart", 2)  # so that the program reads it from the cache, without torch
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), how], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_process_makes_ready_what_this_one_would(tmp_path):
    trials = known.load("quickstart", 2).trials
    here = make(trials, tmp_path / "here", fingerprints=True)
    (sources, data, unready, more), torch = elsewhere(tmp_path / "there", "leave")
    assert not torch and not more
    assert {tuple(key): group for key, group in sources} == here.sources
    assert (data, unready) == (here.data, here.unready) and not unready
    corruptions = {key[0] for key in here.sources if '"digits_c"' in key[0]}
    assert len(corruptions) == 2  # which share a source model, of which each seed has its own
    assert all(len({here.sources[setting, seed] for setting in corruptions}) == 1 for seed in (0, 1))
    assert len(set(here.sources.values())) == 2 * 3  # digits_flip starts from the digits of digits_c
    for trial in trials:  # asked one at a time, as a sweep meets them, they are named the same
        assert make([trial], tmp_path / "here", fingerprints=False).sources.items() <= here.sources.items()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(
        path.name for path in (tmp_path / "here").iterdir()
    )


def test_where_that_process_is_killed_one_line_says_so(tmp_path):
    told, torch = elsewhere(tmp_path, "kill")
    assert told == "the process that makes data and weights ready has ended; run it again" and not torch


def test_ctrl_c_while_it_works_is_one_line_of_the_driver(tmp_path):
    known.load("quickstart", 2)
    asked = [sys.executable, "-m", "lmsa_bench.sweep", "quickstart", "--seeds", "2", "--plain"]
    asked += ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    sweep = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    while not any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(sweep.pid).children()):
        assert sweep.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)  # it imports torch, for a second or more
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
    said = sweep.communicate(timeout=60)[0]
    assert sweep.returncode == 130 and "Traceback" not in said, said
    assert said.splitlines()[-1] == "interrupted: run the same command again to resume"


def test_what_cannot_be_had_is_told_by_setting(tmp_path, monkeypatch):
    from lmsa_bench.tasks import fashion

    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "nothing")
    trials = known.load("fashion", 1).trials[:1]
    needs = Needs(tmp_path, fingerprints=False)
    needs.begin(trials, here=True)
    found = needs.wait()
    assert found.sources == {} and "Fashion-MNIST" in found.unready[trials[0].setting]
