"""The data command: downloads that are interrupted or altered, verification, and every kind of damaged file."""

import hashlib
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small_sets import WNIDS, small_imagenet, tar, write_cifar10, write_images

from lmsa_bench import download
from lmsa_bench.data import command as data
from lmsa_bench.errors import exit_status
from lmsa_bench.tasks import arrow, build, imagenet, published
from lmsa_bench.tasks.published import CIFAR10, FASHION_MNIST, IMAGENET_C


class Server(ThreadingHTTPServer):
    """Serves bytes by path, with Range requests; ends a response after `cut` bytes; `requests` lists what it served."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.requests = {}, None, True, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, requested = self.server, self.headers.get("Range")
        server.requests.append((self.path, requested))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if requested and server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch, server):
    """The small CIFAR-10 in place of the published one, on the server; returns its data set."""
    write_cifar10(tmp_path / "made")
    folder = tmp_path / "made" / CIFAR10.folder
    content = tar(tmp_path / "made" / "cifar-10-python.tar.gz", folder).read_bytes()
    sums = {name: md5((folder / name).read_bytes()) for name in CIFAR10.md5}
    archive = replace(CIFAR10.archives[0], size=len(content), checksums={"md5": md5(content)})
    small = replace(CIFAR10, archives=(archive,), md5=sums)
    monkeypatch.setitem(published.DATA_SETS, "cifar10", small)
    monkeypatch.setattr("lmsa_bench.tasks.cifar.CIFAR10", small)
    server.files["/cifar-10-python.tar.gz"] = content
    return small


def run(capsys, *arguments):
    """Runs the command; returns its exit status and the last line of stderr."""
    status = exit_status(lambda: data.main([str(argument) for argument in arguments]))
    error = capsys.readouterr().err.strip().splitlines()
    return status, error[-1] if error else ""


def test_fetch_verify_prepare(tmp_path, small_cifar10, server, capsys):
    root = tmp_path / "data"
    command = ["fetch", "cifar10", "--data", root, "--url", server.url]
    assert run(capsys, *command) == (0, "")
    assert small_cifar10.missing(root) == [] and not list((root / "downloads").glob("cifar*"))
    assert run(capsys, "verify", "cifar10", "--data", root) == (0, "")
    assert run(capsys, *command) == (0, "") and len(server.requests) == 1  # present files are not fetched again
    assert run(capsys, "prepare", "cifar10", "--data", root) == (0, "")
    assert "unverified" not in arrow.identity([root / "cifar10" / "train.arrow"])
    assert len(arrow.read(root / "cifar10" / "train.arrow")) == 200
    assert data.main(["list", "--data", str(root)]) == 0
    listing = capsys.readouterr().out
    assert any(line.startswith("cifar10 ") and "present" in line for line in listing.splitlines())
    assert "20 of 20 missing" in listing and "test.arrow" in listing


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_resumes(tmp_path, small_cifar10, server, capsys, ranges):
    whole = len(server.files["/cifar-10-python.tar.gz"])
    server.cut, server.ranges = 5000, ranges
    command = ["fetch", "cifar10", "--data", tmp_path, "--url", server.url]
    status, error = run(capsys, *command)
    assert status == 2 and f"interrupted after 5000 of {whole} bytes: run the same command again" in error
    part = tmp_path / "downloads" / "cifar-10-python.tar.gz.part"
    assert part.stat().st_size == 5000
    server.cut = None
    assert run(capsys, *command) == (0, "")
    assert [requested for _, requested in server.requests] == [None, "bytes=5000-"]
    assert small_cifar10.missing(tmp_path) == []


def test_a_complete_part_is_only_verified(tmp_path, server):
    server.files["/file"] = b"content"
    (tmp_path / "file.part").write_bytes(b"content")
    assert download.fetch(f"{server.url}/file", tmp_path / "file", {"md5": md5(b"content")}).read_bytes() == b"content"


def test_a_wrong_checksum_removes_the_download(tmp_path, small_cifar10, server, capsys):
    content = bytearray(server.files["/cifar-10-python.tar.gz"])
    content[len(content) // 2] ^= 1
    server.files["/cifar-10-python.tar.gz"] = bytes(content)
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path, "--url", server.url)
    assert status == 2 and "its md5 is" in error and "the download was removed" in error
    assert not [path for path in tmp_path.rglob("cifar*") if "made" not in path.parts]


def test_a_truncated_archive_without_a_checksum(tmp_path, small_cifar10, server, capsys):
    server.files["/cifar-10-python.tar.gz"] = server.files["/cifar-10-python.tar.gz"][:-3000]
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path, "--url", server.url, "--no-verify")
    assert status == 2 and "not a complete archive" in error
    assert len(small_cifar10.missing(tmp_path)) == 7  # a partly unpacked archive is not used


def test_an_archive_left_by_an_interrupted_run_is_verified(tmp_path, small_cifar10, server, capsys):
    leftover = tmp_path / "downloads" / "cifar-10-python.tar.gz"
    leftover.parent.mkdir()
    leftover.write_bytes(b"unverified")
    command = ["fetch", "cifar10", "--data", tmp_path, "--url", server.url]
    status, error = run(capsys, *command)
    assert status == 2 and "its md5 is" in error and not leftover.exists() and not server.requests
    assert run(capsys, *command) == (0, "")


def test_an_archive_that_writes_outside_its_folder(tmp_path, small_cifar10, server, capsys):
    hostile = tmp_path / "hostile.tar.gz"
    with tarfile.open(hostile, "w:gz") as file:
        file.add(tmp_path / "made", "../../outside")
    server.files["/cifar-10-python.tar.gz"] = hostile.read_bytes()
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path / "a" / "b", "--url", server.url, "--no-verify")
    assert status == 2 and "not a complete archive" in error and not (tmp_path / "a" / "outside").exists()


def test_single_files_are_placed_as_they_are(tmp_path, server, capsys):
    names = [archive.members[0] for archive in FASHION_MNIST.archives]
    server.files |= {f"/{name}": b"fashion" for name in names}
    status, error = run(capsys, "fetch", "fashion_mnist", "--data", tmp_path, "--url", server.url)
    assert status == 2 and "its md5 is" in error
    assert run(capsys, "fetch", "fashion_mnist", names[1], "--data", tmp_path, "--url", server.url, "--no-verify") == (
        0,
        "",
    )
    assert (tmp_path / "FashionMNIST" / "raw" / names[1]).read_bytes() == b"fashion"


def test_an_archive_of_class_folders_is_unpacked_and_marked_as_verified(tmp_path, monkeypatch, server, capsys):
    small_imagenet(monkeypatch)
    for name in published.COMMON15[:3]:
        write_images(tmp_path / "noise" / name / "5", WNIDS, 9)
    content = tar(tmp_path / "noise.tar", tmp_path / "noise", "w").read_bytes()
    archive = replace(IMAGENET_C.archives[0], size=len(content), checksums={"md5": md5(content)})
    known = replace(IMAGENET_C, archives=(archive,))
    monkeypatch.setitem(published.DATA_SETS, "imagenet_c", known)
    monkeypatch.setattr(imagenet, "IMAGENET_C", known)
    server.files["/noise.tar"] = content
    root = tmp_path / "data"
    assert run(capsys, "fetch", "imagenet_c", "noise.tar", "--data", root, "--url", server.url) == (0, "")
    task = build("imagenet_c", {"corruptions": ["shot_noise"], "model": "wrn_10_1"})
    task.prepare(root)
    assert "unverified" not in task.fingerprint(root) and len(task.splits(root, "shot_noise", 0).test) == 12


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["fetch", "cifr10"], "unknown data set 'cifr10': did you mean 'cifar10'"),
        (["fetch", "imagenet"], "not publicly downloadable"),
        (["fetch", "imagenet_c", "nois.tar"], "no file 'nois.tar': did you mean 'noise.tar'"),
        (["fetch", "cifar10", "--url", "http://127.0.0.1:9"], "unreachable"),
        (["verify", "cifar10"], "7 files are missing or wrong: get it with"),
        (["prepare", "cifar10"], "data_batch_1 is missing: get it with 'python -m lmsa_bench.data fetch cifar10'"),
        (["prepare", "cifar10_c"], "gaussian_noise.npy is missing"),
        (["prepare", "imagenet"], "train is missing"),
        (["prepare", "imagenet_c"], "gaussian_noise is missing"),
        (["prepare", "fashion_mnist", "--no-verify"], "not supported"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, capsys, arguments, text):
    status, error = run(capsys, *arguments, "--data", tmp_path)
    assert status == 2 and text in error


def test_a_missing_page_is_one_line(tmp_path, server, capsys):
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path, "--url", server.url)
    assert status == 2 and "returned 404" in error


def test_a_re_encoded_copy_needs_no_verify(tmp_path, capsys):
    write_cifar10(tmp_path)
    status, error = run(capsys, "prepare", "cifar10", "--data", tmp_path)
    assert status == 2 and "its md5 is" in error and "--no-verify" in error
    assert run(capsys, "verify", "cifar10", "--data", tmp_path)[0] == 2
    assert run(capsys, "prepare", "cifar10", "--data", tmp_path, "--no-verify") == (0, "")
    assert "unverified" in build("cifar_flip").fingerprint(tmp_path)


def test_the_command_starts_without_ray_or_timm():
    code = (
        "import sys, lmsa_bench.data; print([m for m in ('ray', 'timm', 'torchvision', 'mlflow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
