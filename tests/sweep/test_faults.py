"""What a sweep does when memory, a worker, the disk or the store fails, and when another sweep is beside it."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from hand_made import entry, write
from sweeps import ONE, Sweep, disk, ended

from lmsa_bench.errors import StoreUnavailable, UserError, exit_status
from lmsa_bench.results.command import main as results_command
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore, default_uri
from lmsa_bench.sweep import publisher
from lmsa_bench.sweep.job import why_it_hung
from lmsa_bench.sweep.publisher import Publisher

FAULTS = """
suite: faults
tasks: [digits_flip]
seeds: 1
epochs: 4
plugins: [PLUGIN]
resources: {timeout: 6}
rows:
  hangs: {grid: {lr: 1e-2}}
  slow: {grid: {lr: 1e-2, pause: 0.3}}
  oom_once: {grid: {lr: 1e-2}}
  stops_once: {grid: {lr: 1e-2}}
"""
OTHER = ONE.replace("suite: one", "suite: other").replace("[0, 1, 2]", "[1, 2, 3]")


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "results", make=True)
    for seed in range(3):
        write(made, entry("t", "m", {"lr": 0.1}, seed, [0.5, 0.6]))
    return made


def by_method(sweep):
    return {one.trial.method: one for one in sweep.journal.entries()}


@pytest.mark.slow
def test_memory_and_hangs_cost_an_epoch_or_their_own_trial_alone(data, tmp_path):
    sweep = Sweep(tmp_path, data, FAULTS)
    sweep.environment["STOP_IN_START"] = str(stopped := tmp_path / "stopped")
    assert sweep.run() == 1, sweep.output
    assert stopped.exists()  # a worker of the first two rows, which stood still before its trial ran
    found = by_method(sweep)
    assert {name: one.result.status for name, one in found.items()} == {
        "slow": "finished",
        "oom_once": "finished",
        "hangs": "failed",
        "stops_once": "finished",
    }
    reason = found["hangs"].result.reason
    assert reason.startswith("after 3 tries: no epoch within 6 s") and reason[:60] in sweep.output
    hang = sweep.journal.trials / found["hangs"].trial.id / "hang.txt"
    assert 'faulty.py", line' in hang.read_text() and hang.name in reason
    assert [r.epoch for r in found["hangs"].records] == [1, 2]  # what was finished is kept

    def numbers(name):
        return [(r.epoch, r.train_loss, r.val_loss, r.val_accuracy) for r in found[name].records]

    assert numbers("oom_once") == numbers("stops_once") == numbers("slow")
    assert found["hangs"].result.provenance["commit"] == found["slow"].result.provenance["commit"]
    assert "Traceback" not in sweep.output
    sweep.assert_mirrored()
    left = {path.name for path in sweep.journal.trials.glob("*/*")}  # a lock of the one whose worker died
    assert left == {"trial.json", "records.jsonl", "result.json", "outcomes.bin", "hang.txt", "lock"}


WATCHED = """
import pathlib, sys, time
from lmsa_bench.sweep.job import why_it_hung
from lmsa_bench.sweep.workers import watchdog
told = pathlib.Path(sys.argv[1])
with watchdog(told, 1.5) as restart:
    for _ in range(3):
        time.sleep(0.8)
        restart()
    print(why_it_hung(told, 1.5), flush=True)
    time.sleep(60)
"""


def test_a_watchdog_counts_anew_from_each_epoch(tmp_path):
    told = tmp_path / "hang.txt"
    done = subprocess.run([sys.executable, "-c", WATCHED, str(told)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1 and done.stdout == "None\n"
    assert why_it_hung(told, 1.5) == f"no epoch within 1.5 s; its threads were at {told}"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 12 MB."""
    with disk(tmp_path / "disk", "size=12m") as folder:
        if folder is None:
            pytest.skip("a file system of its own takes root's rights")
        yield folder


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(data, undisturbed, small_disk, tmp_path):
    sweep = Sweep(tmp_path, data, ONE.replace("[0, 1, 2]", "[0, 1]"), small_disk / "results")
    driver = sweep.start("--seeds", "1", "--cpus", "1")
    deadline = time.monotonic() + 300
    while not sweep.stamps() and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.05)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    before = sweep.stamps()
    assert ended(driver) in (1, 2), sweep.output
    assert "Traceback" not in sweep.output and "No space left" in sweep.output
    ballast.unlink()
    assert sweep.run("--seeds", "1", "--cpus", "1") == 0, sweep.output
    assert before.items() <= sweep.stamps().items() and len(sweep.stamps()) == 2
    assert sweep.files().items() <= undisturbed[0].files().items()
    sweep.assert_mirrored()


def test_a_full_disk_and_a_closed_folder_are_the_users_to_mend(tmp_path, capsys):
    def fill():
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    assert exit_status(fill) == 2
    assert "No space left on device" in capsys.readouterr().err
    closed = Journal(tmp_path, make=True)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites").chmod(0o500)
    told = "import sys; from lmsa_bench import errors; from lmsa_bench.results.journal import Journal; "
    told += "from pathlib import Path; sys.exit(errors.exit_status(lambda: Journal(Path('.')).add_suite('suite', [])))"
    rights = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    done = subprocess.run([*rights, sys.executable, "-c", told], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"Permission denied: '{tmp_path}/suites/lock': open it to yourself and run the same" in done.stderr
    assert not closed.suites()


@pytest.mark.slow
def test_three_sweeps_at_once_run_each_trial_once(data, tmp_path):
    """Two suites that share trials in one results folder, and one of them in another folder, all into one store."""
    shared = tmp_path / "results"
    sweeps = [
        Sweep(tmp_path / "one", data, ONE, shared),
        Sweep(tmp_path / "other", data, OTHER, shared),
        Sweep(tmp_path / "third", data, ONE, tmp_path / "own"),
    ]
    for sweep in sweeps:
        sweep.uri = default_uri(tmp_path)
    running = [sweep.start("--cpus", "1", "--seeds", "1") for sweep in sweeps]
    assert [ended(process) for process in running] == [0, 0, 0], [sweep.output for sweep in sweeps]
    started = [(tmp_path / name / "started").read_text().split("\n")[:-1] for name in ("one", "other", "third")]
    assert len(started[0]) + len(started[1]) == len({*started[0], *started[1]}) == 4
    assert len(started[2]) == 3 and sweeps[2].files().items() <= sweeps[0].files().items()
    opened = ResultStore(default_uri(tmp_path))
    runs = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    assert sorted(run.data.tags["lmsa.trial_key"] for run in runs) == sweeps[0].journal.ids()
    suites = [run for run in opened._runs() if "lmsa.suite_key" in run.data.tags]
    assert sorted(run.data.tags["lmsa.suite_key"] for run in suites) == ["one", "other"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} <= {run.info.run_id for run in suites}
    columns = ["seconds", "time", "provenance"]
    assert opened.table().drop_columns(columns).equals(sweeps[0].journal.table().drop_columns(columns))


@pytest.mark.slow
def test_a_store_that_is_down_to_the_end_gets_all_by_sync(undisturbed, tmp_path):
    sweep, _ = undisturbed  # to it a store that is down is no disturbance
    assert sweep.status == 3, sweep.output
    assert sweep.output.splitlines()[-1].startswith("all results are safe on disk; publish them with: python -m ")
    assert "Traceback" not in sweep.output
    before = sweep.stamps()
    assert len(before) == 6
    down = sweep.sync()
    assert (down.returncode, down.stderr.count("\n")) == (2, 1) and "does not answer" in down.stderr
    sweep.uri = default_uri(tmp_path)
    assert [sweep.sync().stdout.partition(" trials")[0] for _ in range(2)] == ["6 of 6", "0 of 6"]
    sweep.assert_mirrored()
    assert sweep.stamps() == before


def test_sync_fills_an_empty_store_from_the_trials_alone(journal, tmp_path, capsys):
    opened = ResultStore(default_uri(journal.root))
    journal.add_suite("suite", journal.ids()[:2])
    assert results_command(["sync", "--results", str(journal.root)]) == 0
    assert "3 of 3 trials" in capsys.readouterr().out
    assert opened.table().equals(journal.table())
    shutil.rmtree(journal.suites_folder)
    other = ["sync", "--results", str(journal.root), "--tracking-uri", f"sqlite:///{tmp_path}/other.db"]
    assert results_command(other) == 0 and results_command(other) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3 of 3 trials") and said[1].startswith("0 of 3 trials")
    assert ResultStore(f"sqlite:///{tmp_path}/other.db").table().equals(journal.table())


def test_sync_of_no_results(tmp_path):
    with pytest.raises(UserError, match="there are no results"):
        results_command(["sync", "--results", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


EXPERIMENT = b'{"experiment": {"experiment_id": "1", "name": "lmsa_bench", "lifecycle_stage": "active"}}'
ANSWERS = {
    "an error": (500, b'{"error_code": "INTERNAL_ERROR", "message": "boom"}', 0),
    "a proxy's page": (503, b"<html>Service Unavailable</html>", 0),
    "too many requests": (429, b"slow down", 0),
    "nothing for long": (200, b"{}", 30),
    "an empty object": (200, b"{}", 0),
    "no words": (200, b"", 0),
    "another's experiment": (200, b'{"experiment": {"experiment_id": "1", "name": "other"}}', 0),
    "a number for an experiment": (200, b'{"experiment": 5}', 0),
    "runs without an end": (200, EXPERIMENT[:-1] + b', "next_page_token": "x"}', 0),
    "a run without an id": (200, EXPERIMENT, 0),
}


@pytest.fixture
def answering(request):
    """The URI of a server that always gives the same answer."""
    status, body, seconds = request.param
    stopped = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            stopped.wait(seconds)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # of a client that has had enough
                self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        stopped.set()
        server.shutdown()


@pytest.mark.parametrize("answering", ANSWERS.values(), ids=ANSWERS, indirect=True)
def test_a_store_that_answers_badly_is_unavailable_and_soon_told(answering, journal, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        ResultStore(answering).publish(journal, "suite")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("answering", [(200, b"x" * 2**20, 0)], ids=["long"], indirect=True)
def test_an_answer_is_bounded(answering, journal, monkeypatch):
    monkeypatch.setattr("lmsa_bench.results.answers.MOST_BYTES", 10_000)
    with pytest.raises(StoreUnavailable, match="its answer is longer than 10000 bytes"):
        ResultStore(answering).publish(journal, "suite")


@pytest.mark.parametrize("answering", [ANSWERS["nothing for long"]], indirect=True)
def test_a_slow_store_does_not_hold_up_the_end(answering, journal, monkeypatch, capsys):
    monkeypatch.setattr(publisher, "END_SECONDS", 1.0)
    start = time.monotonic()
    with Publisher(ResultStore(answering), journal, "suite", journal.ids()) as publishing:
        pass
    assert time.monotonic() - start < 5
    assert "too slow" in publishing.trouble


def test_a_publisher_tells_of_trouble_and_of_its_end_once(journal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 0.05)
    monkeypatch.setattr("lmsa_bench.results.cursor.LOCK_SECONDS", 0.05)
    store = ResultStore(default_uri(tmp_path))
    os.mkdir(journal.root / "mlflow_cursor.json")  # nothing can be noted as published
    with Publisher(store, journal, "suite", journal.ids()) as publishing:
        time.sleep(1)
        (journal.root / "mlflow_cursor.json").rmdir()
        deadline = time.monotonic() + 60
        while publishing.trouble is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in said] == ["warning:", "tracking"]
    assert publishing.trouble is None and store.table().equals(journal.table())
