"""Results in an object store: a real S3 client against moto's S3 server."""

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from hand_made import entry, write
from raylets import Nodes, kill
from sweeps import ONE, PLUGIN

from lmsa_bench import object_store as storage
from lmsa_bench.errors import UserError
from lmsa_bench.object_store import Storage
from lmsa_bench.results.command import main as results_command
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.tracking import ResultStore, default_uri

SECRET = "topsecret"


class S3:
    """moto's server, which may go away and come back with nothing in it."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.server.start()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        asked.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(asked)

    def stop(self):
        self.server.stop()

    def uri(self, folder):
        where = f"endpoint_override=http%3A%2F%2F127.0.0.1%3A{self.port}&region=us-east-1"
        return f"s3://key:{SECRET}@bucket/{folder}?{where}"


@pytest.fixture(scope="module")
def s3():
    made = S3()
    yield made
    made.stop()


@pytest.fixture
def uri(s3, request):
    return s3.uri(f"sweeps/{request.node.name}")


def test_files_go_there_and_back(uri, tmp_path):
    here, there = Storage(uri), Storage(uri)
    (tmp_path / "a").write_text("one")
    here.push(tmp_path / "a", "deep/a")
    assert there.pull("deep/a", tmp_path / "b") and (tmp_path / "b").read_text() == "one"
    assert there.holds("deep/a") and not there.holds("deep") and not there.pull("none", tmp_path / "none")
    (tmp_path / "a").unlink()
    here.remove("deep/a", tmp_path / "a")
    here.remove("deep/a", tmp_path / "a")
    assert not there.holds("deep/a")


def test_only_what_changed_is_read(uri, tmp_path):
    here, there = Storage(uri), Storage(uri)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one")
        here.push(tmp_path / name, name)
    copy = tmp_path / "copy"
    there.pull_changed(copy, lambda name: True)
    before = {path.name: path.stat().st_ino for path in copy.iterdir()}
    (tmp_path / "a").write_text("longer")
    here.push(tmp_path / "a", "a")
    Storage(uri).pull_changed(copy, lambda name: True)
    assert (copy / "a").read_text() == "longer"
    assert {path.name: path.stat().st_ino == before[path.name] for path in copy.iterdir()} == {"a": False, "b": True}


def test_a_name_that_leads_elsewhere_is_not_taken(uri, tmp_path):
    there = Storage(uri)
    (tmp_path / "evil").write_text("{}")
    for name in ("trials/../../outside", "trials/a/../../../result.json", "suites/../../x.json", "trials/a/other.py"):
        there.push(tmp_path / "evil", name)
        there._synced.clear()
    before = sorted(tmp_path.rglob("*"))
    opened(tmp_path / "deep" / "results", uri)
    found = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in found} == {"deep", "results", "trials", "lmsa_bench.json"}


def test_a_results_folder_can_be_made_of_its_storage(uri, tmp_path):
    made = [entry("t", "m", {"lr": 0.1}, seed, [0.5, 0.6]) for seed in range(2)]
    first = Journal(tmp_path / "first", Storage(uri), make=True)
    for one in made:
        write(first, one)
        first.push(one.trial.id)
    first.add_suite("suite", first.ids())
    second = opened(tmp_path / "second", uri)
    assert second.table().equals(first.table()) and second.suites() == first.suites()
    assert results_command(["sync", "--results", str(tmp_path / "third"), "--storage", uri]) == 0
    assert ResultStore(default_uri(tmp_path / "third")).table().equals(first.table())


def test_a_trial_goes_on_from_the_storage_and_not_from_a_checkpoint_of_another_node(uri, tmp_path):
    here, there = (Journal(tmp_path / name, Storage(uri), make=True) for name in ("here", "there"))
    made = entry("t", "m", {}, 0, [0.5, 0.6, 0.7])
    folder, other = (journal.folder(made.trial) for journal in (here, there))
    here.append(made.records[0])
    here.push(made.trial.id)
    here.append(made.records[1])
    (folder / "checkpoint.pt").write_bytes(b"2")  # of a worker that died before it could keep it
    here.pull(made.trial.id)
    assert here.entry(made.trial.id).records == made.records[:1] and not (folder / "checkpoint.pt").exists()
    (folder / "checkpoint.pt").write_bytes(b"1")
    here.push(made.trial.id)
    there.pull(made.trial.id)
    assert there.entry(made.trial.id).records == made.records[:1]
    assert (other / "checkpoint.pt").read_bytes() == b"1"
    there.append(made.records[1])
    there.finish(made.result)
    (other / "checkpoint.pt").unlink()
    there.push(made.trial.id)
    assert not here.storage.holds(f"trials/{made.trial.id}/checkpoint.pt")
    here.refresh()
    assert here.result(made.trial.id) == made.result


def test_a_storage_that_is_away_is_tried_again_and_then_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "MAX_PAUSE", 0.1)
    own = S3()
    kept = Storage(own.uri("away"), patience=1.0)
    (tmp_path / "a").write_text("one")
    own.stop()
    start = time.monotonic()
    with pytest.raises(UserError, match=r"storage s3://\*\*\*@bucket/away\?.*: ") as error:
        kept.push(tmp_path / "a", "a")
    assert time.monotonic() - start > 0.5 and len(str(error.value).splitlines()) == 1 and SECRET not in str(error.value)
    own.start()
    kept.push(tmp_path / "a", "a")
    assert kept.holds("a")
    own.stop()


@pytest.mark.parametrize("wrong", ["s3:///", "s3://", "nothing://a/b", "s3://bucket?region=us-east-1", "gs://"])
def test_a_storage_that_is_none_is_told_in_one_line(wrong):
    with pytest.raises(UserError, match="storage ") as error:
        Storage(wrong)
    assert len(str(error.value).splitlines()) == 1


def test_a_path_is_the_results_folder_itself(tmp_path):
    for path in (str(tmp_path / "a"), f"file://{tmp_path}/a"):
        assert opened(Path("elsewhere"), path, make=True).root == tmp_path / "a"


@pytest.mark.slow
def test_nodes_that_share_no_disk_share_a_storage(s3, tmp_path, monkeypatch):
    """Two nodes, of which one has other folders below the same path; it dies, and its trials end on the first."""
    apart = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {tmp_path}/disk && exec "$@"', "sh")
    (tmp_path / "disk").mkdir()
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    (tmp_path / "suite.yaml").write_text(ONE.replace("PLUGIN", str(PLUGIN)))
    monkeypatch.setenv("FAULTS", str(tmp_path))
    uri, folder = s3.uri("nodes"), Path(tempfile.mkdtemp(prefix="lmsa"))  # a socket's path must be short
    cluster = None
    try:
        cluster = Nodes(folder)
        other = cluster.add(*apart)
        where = ["--results", f"{tmp_path}/disk/results", "--data", f"{tmp_path}/disk/data", "--storage", uri]
        sweep = cluster.sweep(tmp_path, "suite.yaml", *where)
        trials, seen = Storage(uri), tmp_path / "seen"
        while sweep.poll() is None and len(list(seen.glob("trials/*/records.jsonl"))) < 4:
            trials.pull_changed(seen, lambda name: True)
            time.sleep(0.2)
        kill(other)
        said, _ = sweep.communicate(timeout=300)
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert sweep.returncode == 0, said
    assert "6 trials, 4 at a time" in said and "Traceback" not in said and SECRET not in said
    table = Journal(tmp_path / "disk" / "results").table()
    assert set(table["status"].to_pylist()) == {"finished"} and len(set(table["trial"].to_pylist())) == 6
    assert sorted(table["epoch"].to_pylist()) == sorted(6 * [1, 2, 3, 4, 5, 6])
    assert opened(tmp_path / "copy", uri).table().equals(table)
