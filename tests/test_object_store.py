"""Results in an object store: a real S3 client against moto's S3 server."""

import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from hand_made import entry, write
from raylets import Nodes, free_ports, kill
from sweeps import ONE, PLUGIN

from lmsa_bench import object_store as storage
from lmsa_bench.errors import UserError
from lmsa_bench.object_store import Storage
from lmsa_bench.results.command import main as results_command
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.tracking import ResultStore, default_uri

SECRET = "topsecret"


class S3:
    """moto's server, which can be stopped and restarted; it is then empty."""

    def __init__(self):
        (self.port,) = free_ports(1)
        self.start()

    def start(self):
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.server.start()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(request)

    def stop(self):
        self.server.stop()

    def uri(self, folder):
        options = f"endpoint_override=http%3A%2F%2F127.0.0.1%3A{self.port}&region=us-east-1"
        return f"s3://key:{SECRET}@bucket/{folder}?{options}"


@pytest.fixture(scope="module")
def s3():
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def uri(s3, request):
    return s3.uri(f"sweeps/{request.node.name}")


def test_files_are_pushed_pulled_and_removed(uri, tmp_path):
    first, second = Storage(uri), Storage(uri)
    (tmp_path / "a").write_text("one")
    first.push(tmp_path / "a", "deep/a")
    assert second.pull("deep/a", tmp_path / "b") and (tmp_path / "b").read_text() == "one"
    assert second.holds("deep/a") and not second.holds("deep") and not second.pull("none", tmp_path / "none")
    (tmp_path / "a").unlink()
    first.remove("deep/a", tmp_path / "a")
    first.remove("deep/a", tmp_path / "a")
    assert not second.holds("deep/a")


def test_only_changed_files_are_pulled(uri, tmp_path):
    first, second = Storage(uri), Storage(uri)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one")
        first.push(tmp_path / name, name)
    copy = tmp_path / "copy"
    second.pull_changed(copy, lambda name: True)
    before = {path.name: path.stat().st_ino for path in copy.iterdir()}
    (tmp_path / "a").write_text("longer")
    first.push(tmp_path / "a", "a")
    Storage(uri).pull_changed(copy, lambda name: True)
    assert (copy / "a").read_text() == "longer"
    assert {path.name: path.stat().st_ino == before[path.name] for path in copy.iterdir()} == {"a": False, "b": True}


def test_a_file_that_is_removed_while_it_is_read_is_a_missing_file(uri, tmp_path, monkeypatch):
    first, second = Storage(uri), Storage(uri)
    (tmp_path / "a").write_text("one")
    first.push(tmp_path / "a", "a")
    opened_once = []

    class Slow:
        """S3, where another client removes the object after it was looked up and before it is read."""

        def open_input_stream(self, key):
            stream = first.store.open_input_stream(key)
            if not opened_once:
                opened_once.append(key)
                first.remove("a", tmp_path / "a")
            return stream

        def __getattr__(self, name):
            return getattr(first.store, name)

    monkeypatch.setattr(second, "store", Slow())
    assert not second.pull("a", tmp_path / "b") and not (tmp_path / "b").exists() and opened_once


def test_names_outside_the_results_folder_are_not_pulled(uri, tmp_path):
    store = Storage(uri)
    (tmp_path / "evil").write_text("{}")
    for name in ("trials/../../outside", "trials/a/../../../result.json", "suites/../../x.json", "trials/a/other.py"):
        store.push(tmp_path / "evil", name)
        store._synced.clear()
    before = sorted(tmp_path.rglob("*"))
    opened(tmp_path / "deep" / "results", uri)
    created = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in created} == {"deep", "results", "trials", "lmsa_bench.json"}


def test_a_results_folder_can_be_restored_from_its_object_store(uri, tmp_path):
    entries = [entry("t", "m", {"lr": 0.1}, seed, [0.5, 0.6]) for seed in range(2)]
    first = Journal(tmp_path / "first", Storage(uri), make=True)
    for written in entries:
        write(first, written)
        first.push(written.trial.id)
    first.add_suite("suite", first.ids())
    second = opened(tmp_path / "second", uri)
    assert second.table().equals(first.table()) and second.suites() == first.suites()
    assert results_command(["sync", "--results", str(tmp_path / "third"), "--storage", uri]) == 0
    assert ResultStore(default_uri(tmp_path / "third")).table().equals(first.table())


def test_a_trial_resumes_from_the_object_store_and_not_from_a_local_checkpoint(uri, tmp_path):
    first, second = (Journal(tmp_path / name, Storage(uri), make=True) for name in ("first", "second"))
    expected = entry("t", "m", {}, 0, [0.5, 0.6, 0.7])
    folder, other = (journal.folder(expected.trial) for journal in (first, second))
    first.append(expected.records[0])
    first.push(expected.trial.id)
    first.append(expected.records[1])
    (folder / "checkpoint.pt").write_bytes(b"2")  # from a worker that died before it was pushed
    first.pull(expected.trial.id)
    assert first.entry(expected.trial.id).records == expected.records[:1] and not (folder / "checkpoint.pt").exists()
    (folder / "checkpoint.pt").write_bytes(b"1")
    first.push(expected.trial.id)
    second.pull(expected.trial.id)
    assert second.entry(expected.trial.id).records == expected.records[:1]
    assert (other / "checkpoint.pt").read_bytes() == b"1"
    second.append(expected.records[1])
    second.finish(expected.result)
    (other / "checkpoint.pt").unlink()
    second.push(expected.trial.id)
    assert not first.storage.holds(f"trials/{expected.trial.id}/checkpoint.pt")
    first.refresh()
    assert first.result(expected.trial.id) == expected.result


def test_an_unreachable_store_is_retried_and_then_reported_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "MAX_PAUSE", 0.1)
    server = S3()
    store = Storage(server.uri("unreachable"), patience=1.0)
    (tmp_path / "a").write_text("one")
    server.stop()
    start = time.monotonic()
    with pytest.raises(UserError, match=r"storage s3://\*\*\*@bucket/unreachable\?.*: ") as error:
        store.push(tmp_path / "a", "a")
    assert time.monotonic() - start > 0.5 and len(str(error.value).splitlines()) == 1 and SECRET not in str(error.value)
    server.start()
    store.push(tmp_path / "a", "a")
    assert store.holds("a")
    server.stop()


@pytest.mark.parametrize("wrong", ["s3:///", "s3://", "nothing://a/b", "s3://bucket?region=us-east-1", "gs://"])
def test_an_invalid_uri_is_reported_in_one_line(wrong):
    with pytest.raises(UserError, match="storage ") as error:
        Storage(wrong)
    assert len(str(error.value).splitlines()) == 1


def test_a_path_is_the_results_folder_itself(tmp_path):
    for path in (str(tmp_path / "a"), f"file://{tmp_path}/a"):
        assert opened(Path("elsewhere"), path, make=True).root == tmp_path / "a"


@pytest.mark.slow
def test_nodes_that_share_no_disk_share_a_storage(s3, tmp_path, monkeypatch):
    """Two nodes, one with a separate disk at the same path: it dies, and its trials finish on the other."""
    separate_disk = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {tmp_path}/disk && exec "$@"', "sh")
    (tmp_path / "disk").mkdir()
    if subprocess.run([*separate_disk, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts")
    (tmp_path / "suite.yaml").write_text(ONE.replace("PLUGIN", str(PLUGIN)))
    monkeypatch.setenv("FAULTS", str(tmp_path))
    uri, folder = s3.uri("nodes"), Path(tempfile.mkdtemp(prefix="lmsa"))  # a socket's path must be short
    cluster = None
    try:
        cluster = Nodes(folder)
        other = cluster.add(*separate_disk)
        options = ["--results", f"{tmp_path}/disk/results", "--data", f"{tmp_path}/disk/data", "--storage", uri]
        sweep = cluster.sweep(tmp_path, "suite.yaml", *options)
        store, copy = Storage(uri), tmp_path / "store"
        while sweep.poll() is None and len(list(copy.glob("trials/*/records.jsonl"))) < 4:
            store.pull_changed(copy, lambda name: True)
            time.sleep(0.2)
        kill(other)
        output, _ = sweep.communicate(timeout=300)
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert sweep.returncode == 0, output
    assert "6 trials, 4 at a time" in output and "Traceback" not in output and SECRET not in output
    table = Journal(tmp_path / "disk" / "results").table()
    assert set(table["status"].to_pylist()) == {"finished"} and len(set(table["trial"].to_pylist())) == 6
    assert sorted(table["epoch"].to_pylist()) == sorted(6 * [1, 2, 3, 4, 5, 6])
    assert opened(tmp_path / "copy", uri).table().equals(table)
