"""Before Ray starts, and the driver's watch over it."""

import subprocess
import sys
import time

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.sweep import start, watch
from lmsa_bench.sweep.watch import Watch


def test_a_folder_of_a_short_path_will_do(tmp_path, monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    start.refuse_places()
    monkeypatch.setenv("HOME", "/proc/none")
    with pytest.raises(UserError, match=r"^HOME /proc/none: cannot be written, and Ray keeps its token there"):
        start.refuse_places()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "elsewhere")
    start.refuse_places()


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_that_ray_cannot_use_is_one_line(tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("")
    for folder in ("/proc/none", str(tmp_path / "file")):
        monkeypatch.setenv(name, folder)
        with pytest.raises(UserError, match=f"^{name} {folder}: cannot be written, and Ray needs it"):
            start.refuse_places()
    folder = tmp_path / ("x" * 100)
    monkeypatch.setenv(name, str(folder))
    with pytest.raises(UserError, match=f"^{name} {folder}: {len(str(folder))} characters are too long for Ray's sock"):
        start.refuse_places()


def test_a_node_that_comes_late_is_waited_for(monkeypatch, capsys):
    from ray._private import services

    answers, now = [RuntimeError("not yet")] * 40 + [{"labels": {}}], [0.0]

    def get_node(*_):
        now[0] += 1
        if isinstance(answer := answers.pop(0), RuntimeError):
            raise answer
        return answer

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    start.patiently(lambda: services.get_node("address", "id"))
    assert services.get_node is get_node and not answers
    assert capsys.readouterr().out == "Ray is slow to start here: waiting for it\n"
    answers += [RuntimeError("not yet")] * 300
    with pytest.raises(RuntimeError):
        start.patiently(lambda: services.get_node("address", "id"))


LAST_WORD = """
import os, signal, sys, time
from lmsa_bench.sweep import start

signal.signal(signal.SIGINT, lambda *_: None)
with start.last_word():
    if sys.argv[1] == "ended":
        os._exit(1)
    time.sleep(1)
    os.killpg(0, signal.SIGINT)  # as Ctrl-C does
"""


def test_a_process_that_ray_ends_while_it_starts_has_a_last_word():
    told = "error: Ray ended while it started; run the same command again to resume\n"
    for case, expected in (("ended", told), ("interrupted", "")):
        command = [sys.executable, "-c", LAST_WORD, case]
        done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
        assert (done.stdout, done.stderr) == (expected, "")


STARTED = """
import sys, threading, time
import psutil
from ray._private import node
from lmsa_bench.sweep.cluster import connected

victims = sys.argv[1:]

def kill(name):
    while not (found := [child for child in psutil.Process().children() if child.name() == name]):
        time.sleep(0.01)
    found[0].kill()

def wait(*arguments, **named):
    if victims == ["gcs_server"]:  # after Ray has looked whether it runs, and before it has its port
        kill(victims.pop())
    return ask(*arguments, **named)

ask, node.wait_for_persisted_port = node.wait_for_persisted_port, wait
if victims == ["raylet"]:
    threading.Thread(target=kill, args=victims).start()
with connected(None, 1):
    import ray
    print("nodes", len(ray.nodes()), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", ["gcs_server", "raylet"])
def test_a_process_of_ray_that_ends_while_it_starts_is_started_again(process):
    done = subprocess.run([sys.executable, "-c", STARTED, process], capture_output=True, text=True, timeout=500)
    assert done.stdout == "Ray is slow to start here: starting it again\nnodes 1\n", done.stdout + done.stderr


def test_a_worker_is_silent_when_its_pulse_has_stood_still_while_the_driver_looked(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    watching = Watch(10)

    def look(seconds: float, **pulses: int) -> list[str]:
        now[0] += seconds
        return watching.silent(pulses)

    assert look(0, a=1, b=1) == []
    for _ in range(6):  # 24 s, within 10 and the grace of 15
        assert look(4, a=1, b=now[0]) == []
    assert look(4, a=1, b=0) == ["a"]
    assert look(4, a=1, b=0) == []  # it was told; the next time after another limit
    assert look(10_000, a=1, b=0) == []  # the driver itself was stopped, and heard nobody
    for _ in range(3):
        assert look(4, b=0) == []
    assert "b" in look(5, b=0)


def test_without_a_limit_nobody_is_silent():
    watching = Watch(0)
    assert not any(watching.silent({"a": 1}) for _ in range(3)) and watching.limit == float("inf")
