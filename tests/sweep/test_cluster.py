"""Several nodes as real raylets on this machine: jobs, packing, a node's death, folders that are not shared."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from raylets import REPOSITORY, Nodes, kill

from lmsa_bench import local
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore
from lmsa_bench.suites import load as suite
from lmsa_bench.sweep import nodes, tuning
from lmsa_bench.sweep.job import Job, Orders
from lmsa_bench.sweep.progress import Progress
from lmsa_bench.trial.spec import TrialResult

TINY = """
suite: tiny
tasks: [digits_flip]
seeds: 2
sources: one
epochs: 2
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: 1e-2}}
"""

WATCHED = """
suite: watched
tasks: [digits_flip]
seeds: 5
sources: one
epochs: 5
resources: {cpu: 0.25, gpu: 0.5}
plugins: [watched.py]
rows:
  watched: {grid: {lr: [1e-1, 1e-2, 1e-3]}}
"""

PLUGIN = '''
import json, os, time, uuid
from functools import partial
from pathlib import Path

import ray

from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Every, Method, Positive

PLACES = Path(__file__).parent / "places"


@METHODS.register
def watched(lr: Positive) -> Method:
    """Tunes the last layer; where asked to, writes where each epoch runs and takes its time."""

    def select(model, batches, step, generator):
        if PLACES.exists() and ray.is_initialized():  # in a worker: elsewhere the next line would start a Ray
            here = ray.get_runtime_context()
            place = [here.get_node_id(), *here.get_accelerator_ids()["GPU"], os.getpid()]
            (PLACES / uuid.uuid4().hex).write_text(json.dumps(place))
            time.sleep(0.3)
        return Selection((len(model) - 1,), {})

    return Method(select, partial(Adam, lr=lr), Every(1, "epochs"))
'''


def start(folder: Path, shared: Path, cluster: Nodes) -> subprocess.Popen:
    """A sweep of the watched suite on the cluster, with its results in the folder."""
    write(folder)
    where = ["--results", str(folder / "results"), "--data", str(shared / "data"), "--tracking-uri", store(shared)]
    return cluster.sweep(folder, "watched.yaml", *where)


def write(folder: Path) -> None:
    (folder / "watched.py").write_text(PLUGIN)
    (folder / "watched.yaml").write_text(WATCHED)


def run_one_by_one(folder: Path, shared: Path) -> None:
    """The watched suite's trials without Ray, on one thread as there."""
    write(folder)
    watched = suite.load(str(folder / "watched.yaml"))
    with local.ready(watched.plugins) as device:
        place = local.Place(Journal(folder / "results", make=True), shared / "data", device)
        local.run_all(watched.trials, place)


def store(shared: Path) -> str:
    return f"sqlite:///{shared}/store.db"


@pytest.fixture(scope="module")
def head():
    folder = Path(tempfile.mkdtemp(prefix="lmsa"))  # a socket's path must be short
    cluster = None
    try:
        cluster = Nodes(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The repository as a user has it after a run: with results, data and an environment in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in (".gitignore", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("lmsa_bench", "tune_configs"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "results", ".venv"):
        (folder / name).mkdir()
        with open(folder / name / "large", "wb") as file:
            file.truncate(200 * 2**20)  # beyond what Ray takes
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that all nodes see."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "broken.yaml").write_text(TINY.replace("full:", "fulll:"))
    return folder


@pytest.mark.slow
def test_a_wheel_holds_all_that_a_run_needs(checkout, tmp_path):
    asked = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps", "-w", str(tmp_path)]
    subprocess.run(asked, cwd=checkout, check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("lmsa_bench-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    for source in (REPOSITORY / "tune_configs").iterdir():
        assert (tmp_path / "installed" / "lmsa_bench" / "tune_configs" / source.name).read_text() == source.read_text()
    done = subprocess.run(
        [sys.executable, "-m", "lmsa_bench.sweep", "quickstart", "--dry-run", "--only", "method=full"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "trials are done" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_job_ends_with_the_table_in_its_log(head, checkout, shared):
    where = ["--results", str(shared / "results"), "--data", str(shared / "data")]
    done = head.submit(
        checkout, "good", str(shared / "tiny.yaml"), *where, MLFLOW_TRACKING_URI=store(shared), LMSA_COMMIT="c0ffee"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny: mean over seeds" in done.stdout and "source model of digits_flip" in done.stdout
    table = Journal(shared / "results").table()
    assert set(table["status"].to_pylist()) == {"finished"} and len(set(table["trial"].to_pylist())) == 4
    assert all('"commit":"c0ffee"' in facts for facts in table["provenance"].to_pylist())
    assert ResultStore(store(shared)).table().equals(table)
    uploaded = [path.name for path in head.folder.glob("ray/session_latest/runtime_resources/working_dir_files/*/*")]
    assert {"lmsa_bench", "tune_configs"} <= set(uploaded) and not {"large", ".venv"} & set(uploaded)


@pytest.mark.slow
def test_a_job_of_a_broken_suite_says_why_in_one_line(head, checkout, shared):
    done = head.submit(checkout, "broken", str(shared / "broken.yaml"))
    assert done.returncode == 1 and head.driver_exit_code("broken") == 2
    assert "broken.yaml: rows.fulll: unknown method 'fulll': did you mean 'full'?" in done.stdout
    assert "Traceback" not in done.stdout


def test_results_inside_a_job_s_upload_are_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    context = SimpleNamespace(runtime_env={"working_dir": "gcs://upload.zip"})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    with pytest.raises(UserError, match=r"--results .* lies in the job's copy of its working directory"):
        nodes.refuse_unshared({"--results": tmp_path / "results"})


@pytest.fixture(scope="module")
def two(head):
    """Two nodes of two GPUs, and the one that may be lost."""
    return head, head.add()


def untimed(folder: Path) -> list[dict]:
    return Journal(folder / "results").table().drop_columns(["seconds", "time", "provenance"]).to_pylist()


@pytest.mark.slow
def test_a_node_that_dies_costs_no_result(two, shared, tmp_path):
    cluster, spare = two
    (tmp_path / "places").mkdir()
    trials, most, finished = tmp_path / "results" / "trials", 0, {}
    lost = start(tmp_path, shared, cluster)
    while lost.poll() is None:
        ended = list(trials.glob("*/result.json"))  # looked for first: one that ends now does not count as running
        most = max(most, len(list(trials.glob("*/records.jsonl"))) - len(ended))
        if not finished and len(ended) >= 5:
            finished = {path: path.stat().st_mtime_ns for path in ended}
            before = [json.loads(path.read_text()) for path in (tmp_path / "places").iterdir()]
            kill(spare)
        time.sleep(0.02)
    said, places = lost.stdout.read(), len(list((tmp_path / "places").iterdir()))
    assert lost.returncode == 0, said
    assert "15 trials, 8 at a time" in said and most <= 8
    on_each = Counter((node, gpu) for node, gpu, _ in {tuple(place) for place in before})
    assert sorted(on_each.values()) == [2] * 4, "two trials on each of the two GPUs of two nodes"
    assert len(finished) < 15 - 4 and all(path.stat().st_mtime_ns == at for path, at in finished.items())
    assert 15 * 5 <= places <= 15 * 5 + 4 * 5, "only what ran on the lost node ran again"
    alone = tmp_path / "alone"
    alone.mkdir()
    run_one_by_one(alone, shared)
    assert untimed(tmp_path) == untimed(alone)


@pytest.mark.slow
def test_a_folder_that_a_node_does_not_share_is_refused(head, shared, tmp_path):
    apart = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh")
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    other = head.add(*apart)
    try:
        said, _ = start(tmp_path, shared, head).communicate(timeout=120)
    finally:
        kill(other)
    assert "does not see --results" in said and "Traceback" not in said


NODE = {"CPU": 3.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "each"), [(2, 0, 1), (1, 0, 3), (0.25, 0.5, 4), (0.1, 0.4, 4), (1, 2, 1), (0.1, 0, 30), (4, 0, 0)]
)
def test_a_trial_fits_on_one_node(monkeypatch, cpus, gpus, each):
    there = [{"Alive": True, "Resources": NODE}] * 3 + [{"Alive": False, "Resources": NODE}]
    monkeypatch.setattr(ray, "nodes", lambda: there)
    assert nodes.slots(cpus, gpus) == 3 * each


def test_a_trial_that_tune_gives_up_early_is_tried_again(monkeypatch, tmp_path):
    asked, journal, tries = suite.load("quickstart"), Journal(tmp_path, make=True), []
    lives, dies = asked.trials[:2]

    def fit_once(jobs, journal, asha, ended, more, sources):
        tries.append([job.trial.seed for job in jobs])
        ended.count = len(jobs)
        ended.tries[dies.id] += 1
        ended.died[dies.id] = "its node is gone"
        if len(tries) == 1:
            journal.folder(lives)
            journal.finish(TrialResult(lives.id, "finished", "", 1, 0.5, 0.7, 0.5, 0.7))
        queue = tuning.Queue(jobs, list, orders)
        while queue.waiting:
            queue.suggest(str(len(queue.out)))
        return queue

    monkeypatch.setattr(tuning, "_fit", fit_once)
    journal.folder(dies)
    orders = Orders.of(asked, journal, tmp_path)
    jobs = [Job(trial, {"commit": "c0ffee"}, orders) for trial in (lives, dies)]
    shown = Progress((lives, dies), {}, plain=True)
    assert tuning.fit(jobs, journal, False, shown)
    assert [len(jobs) for jobs in tries] == [2, 1, 1]
    assert journal.result(lives.id).status == "finished"
    given_up = journal.result(dies.id)
    assert given_up.reason == "after 3 tries: its node is gone" and given_up.provenance["commit"] == "c0ffee"
    monkeypatch.setattr(tuning, "_fit", lambda *_: tuning.Queue(jobs, list, orders))  # interrupted: none was handed out
    assert not tuning.fit(jobs, journal, False, shown)
