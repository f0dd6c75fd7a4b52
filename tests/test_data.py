"""The data command: fetching from a server that cuts and lies, checking, and every kind of damaged file."""

import hashlib
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from small_sets import WNIDS, small_imagenet, tar, write_batch, write_cifar10, write_cifar10_c, write_images

from lmsa_bench import data, download
from lmsa_bench.errors import UserError, exit_status
from lmsa_bench.tasks import arrow, batches, build, imagenet, published
from lmsa_bench.tasks.published import CIFAR10, CIFAR10_C, FASHION_MNIST, IMAGENET_C


class Server(ThreadingHTTPServer):
    """Serves bytes by path with Range requests; `cut` ends an answer after that many bytes; `asked` notes requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.asked = {}, None, True, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted and server.ranges else 200)
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
    """The small CIFAR-10 as if it were the published one, on the server; returns its data set and bytes."""
    write_cifar10(tmp_path / "made")
    folder = tmp_path / "made" / CIFAR10.folder
    content = tar(tmp_path / "made" / "cifar-10-python.tar.gz", folder).read_bytes()
    sums = {name: md5((folder / name).read_bytes()) for name in CIFAR10.md5}
    archive = replace(CIFAR10.archives[0], size=len(content), checksums={"md5": md5(content)})
    known = replace(CIFAR10, archives=(archive,), md5=sums)
    monkeypatch.setitem(published.DATA_SETS, "cifar10", known)
    monkeypatch.setattr("lmsa_bench.tasks.cifar.CIFAR10", known)
    server.files["/cifar-10-python.tar.gz"] = content
    return known


def run(capsys, *arguments):
    """The command's exit status and its one line of error."""
    status = exit_status(lambda: data.main([str(argument) for argument in arguments]))
    error = capsys.readouterr().err.strip().splitlines()
    return status, error[-1] if error else ""


def test_fetch_verify_prepare(tmp_path, small_cifar10, server, capsys):
    root = tmp_path / "data"
    command = ["fetch", "cifar10", "--data", root, "--url", server.url]
    assert run(capsys, *command) == (0, "")
    assert small_cifar10.missing(root) == [] and not list((root / "downloads").glob("cifar*"))
    assert run(capsys, "verify", "cifar10", "--data", root) == (0, "")
    assert run(capsys, *command) == (0, "") and len(server.asked) == 1  # what is there stays
    assert run(capsys, "prepare", "cifar10", "--data", root) == (0, "")
    assert "unverified" not in arrow.identity([root / "cifar10" / "train.arrow"])
    assert len(arrow.read(root / "cifar10" / "train.arrow")) == 200
    assert data.main(["list", "--data", str(root)]) == 0
    listed = capsys.readouterr().out
    assert any(line.startswith("cifar10 ") and "there" in line for line in listed.splitlines())
    assert "20 of 20 missing" in listed and "test.arrow" in listed


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_goes_on(tmp_path, small_cifar10, server, capsys, ranges):
    whole = len(server.files["/cifar-10-python.tar.gz"])
    server.cut, server.ranges = 5000, ranges
    command = ["fetch", "cifar10", "--data", tmp_path, "--url", server.url]
    status, error = run(capsys, *command)
    assert status == 2 and f"cut off after 5000 of {whole} bytes: run the same command again" in error
    part = tmp_path / "downloads" / "cifar-10-python.tar.gz.part"
    assert part.stat().st_size == 5000
    server.cut = None
    assert run(capsys, *command) == (0, "")
    assert [wanted for _, wanted in server.asked] == [None, "bytes=5000-"]
    assert small_cifar10.missing(tmp_path) == []


def test_a_download_that_is_whole_but_unnamed_is_only_checked(tmp_path, server):
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
    assert status == 2 and "not a whole archive" in error
    assert len(small_cifar10.missing(tmp_path)) == 7  # nothing half unpacked is taken for the data set


def test_an_archive_left_behind_by_a_stopped_run_is_checked(tmp_path, small_cifar10, server, capsys):
    left = tmp_path / "downloads" / "cifar-10-python.tar.gz"
    left.parent.mkdir()
    left.write_bytes(b"unverified")
    command = ["fetch", "cifar10", "--data", tmp_path, "--url", server.url]
    status, error = run(capsys, *command)
    assert status == 2 and "its md5 is" in error and not left.exists() and not server.asked
    assert run(capsys, *command) == (0, "")


def test_an_archive_that_would_leave_its_folder(tmp_path, small_cifar10, server, capsys):
    made = tmp_path / "hostile.tar.gz"
    with tarfile.open(made, "w:gz") as file:
        file.add(tmp_path / "made", "../../outside")
    server.files["/cifar-10-python.tar.gz"] = made.read_bytes()
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path / "a" / "b", "--url", server.url, "--no-verify")
    assert status == 2 and "not a whole archive" in error and not (tmp_path / "a" / "outside").exists()


def test_single_files_are_placed_as_they_are(tmp_path, server, capsys):
    names = [archive.holds[0] for archive in FASHION_MNIST.archives]
    server.files |= {f"/{name}": b"fashion" for name in names}
    status, error = run(capsys, "fetch", "fashion_mnist", "--data", tmp_path, "--url", server.url)
    assert status == 2 and "its md5 is" in error
    assert run(capsys, "fetch", "fashion_mnist", names[1], "--data", tmp_path, "--url", server.url, "--no-verify") == (
        0,
        "",
    )
    assert (tmp_path / "FashionMNIST" / "raw" / names[1]).read_bytes() == b"fashion"


def test_an_archive_of_class_folders_is_placed_by_corruption_and_sealed(tmp_path, monkeypatch, server, capsys):
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
        (["fetch", "imagenet"], "no public address"),
        (["fetch", "imagenet_c", "nois.tar"], "no file 'nois.tar': did you mean 'noise.tar'"),
        (["fetch", "cifar10", "--url", "http://127.0.0.1:9"], "cannot be reached"),
        (["verify", "cifar10"], "7 files are missing or wrong: get it with"),
        (["prepare", "cifar10"], "data_batch_1 is missing: get it with 'python -m lmsa_bench.data fetch cifar10'"),
        (["prepare", "cifar10_c"], "gaussian_noise.npy is missing"),
        (["prepare", "imagenet"], "train is missing"),
        (["prepare", "imagenet_c"], "gaussian_noise is missing"),
        (["prepare", "fashion_mnist", "--no-verify"], "not offered"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, capsys, arguments, text):
    status, error = run(capsys, *arguments, "--data", tmp_path)
    assert status == 2 and text in error


def test_a_missing_page_is_one_line(tmp_path, server, capsys):
    status, error = run(capsys, "fetch", "cifar10", "--data", tmp_path, "--url", server.url)
    assert status == 2 and "answers 404" in error


def test_a_re_encoded_copy_is_refused_until_asked_for(tmp_path, capsys):
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


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_executes_nothing(tmp_path, protocol):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Hostile(tmp_path / "pwned"), "labels": []}, protocol=protocol))
    with pytest.raises(UserError, match=r"not a batch of CIFAR \(it asks for .*open\)"):
        batches.unpickle(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy.core.multiarray\nscalar"])
def test_no_other_name_is_looked_up(tmp_path, name):
    path = tmp_path / "batch"
    path.write_bytes(f"c{name}\n(S'echo'\ntR.".encode())
    with pytest.raises(UserError, match=f"it asks for {name.replace(chr(10), '.')}"):
        batches.unpickle(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy.core.", b"numpy._core."])
def test_arrays_of_old_and_new_numpy_are_read(tmp_path, protocol, module):
    images = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    content = pickle.dumps({"data": images, "labels": [3, 4]}, protocol=protocol)
    if protocol < 4:  # later protocols write a name's length before it
        content = content.replace(b"numpy._core.", module).replace(b"numpy.core.", module)
    (tmp_path / "batch").write_bytes(content)
    split = batches.read_batch(tmp_path / "batch", "labels", 10)
    assert split.labels.tolist() == [3, 4] and np.array_equal(split.images.view(2, -1).numpy(), images)


GOOD = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "not a batch"),
        (b"no pickle", "not a batch"),
        (pickle.dumps([1]), "but a list"),
        (pickle.dumps({"data": GOOD})[:-100], "not a batch"),
        (pickle.dumps({"data": GOOD[:, 1:], "labels": [0, 1]}), r"bytes \(n, 3072\)"),
        (pickle.dumps({"data": GOOD.astype(float), "labels": [0, 1]}), r"bytes \(n, 3072\)"),
        (pickle.dumps({"data": GOOD, "labels": [0]}), "not a list of 2 numbers"),
        (pickle.dumps({"data": GOOD, "labels": [0, 10]}), "not numbers of 0 to 9"),
        (pickle.dumps({"data": GOOD, "labels": ["a", 1]}), "not numbers of 0 to 9"),
    ],
)
def test_a_damaged_batch_is_a_users_error(tmp_path, content, text):
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(UserError, match=text):
        batches.read_batch(tmp_path / "batch", "labels", 10)


@pytest.mark.parametrize(
    "name, content, text",
    [
        (
            "fog",
            np.zeros((1000, 3, 32, 32), np.uint8),
            r"uint8 \(1000, 3, 32, 32\), expected uint8 \(1000, 32, 32, 3\)",
        ),
        ("fog", np.zeros((1000, 32, 32, 3), np.float32), "float32"),
        ("fog", np.zeros((995, 32, 32, 3), np.uint8), r"\(995, 32, 32, 3\)"),
        ("fog", np.array([{"a": 1}], dtype=object), "Python objects"),
        ("labels", np.zeros(999, np.uint8), "as many labels for each of 5 severities"),
        ("labels", np.zeros((1000, 1), np.uint8), "as many labels"),
        ("labels", np.arange(1000) % 7, "the same labels of 0 to 9 for each severity"),
        ("labels", np.full(1000, 10), "labels of 0 to 9"),
    ],
)
def test_a_wrong_npy_file_is_a_users_error(tmp_path, name, content, text):
    write_cifar10_c(tmp_path, ["fog"])
    np.save(tmp_path / CIFAR10_C.folder / f"{name}.npy", content)
    folder = tmp_path / CIFAR10_C.folder
    with pytest.raises(UserError, match=text) as error:
        batches.read_corrupted(folder / "fog.npy", folder / "labels.npy", 5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 5, 100, 3000])
def test_a_truncated_npy_file_is_a_users_error(tmp_path, keep):
    write_cifar10_c(tmp_path, ["fog"])
    path = tmp_path / CIFAR10_C.folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"not a whole \.npy file"):
        batches.read_corrupted(path, path.with_name("labels.npy"), 5)


def no_class(folder):
    shutil.rmtree(folder / "n01443537")


def few_images(folder):
    next((folder / "n01443537").iterdir()).unlink()


def no_image(folder):
    (folder / "n01443537" / "ILSVRC2012_val_00000003.JPEG").write_bytes(b"no image")


def half_an_image(folder):
    path = folder / "n01443537" / "ILSVRC2012_val_00000003.JPEG"
    path.write_bytes(path.read_bytes()[:400])


def large_image(folder):
    write_images(folder, ["n01443537"], 9, (33, 32))


@pytest.mark.parametrize(
    "damage, text",
    [
        (no_class, "n01443537: the class folder cannot be read"),
        (few_images, "n01443537: has 8 images, expected 9"),
        (no_image, "00000003.JPEG: not an image"),
        (half_an_image, "00000003.JPEG: not an image"),
        (large_image, "33x32, expected 32x32"),
    ],
)
def test_a_damaged_class_folder_is_a_users_error(tmp_path, monkeypatch, damage, text):
    small_imagenet(monkeypatch)
    folder = tmp_path / "ImageNet-C" / "fog" / "5"
    write_images(folder, WNIDS, 9)
    damage(folder)
    task = build("imagenet_c", {"corruptions": ["fog"], "model": "wrn_10_1"})
    with pytest.raises(UserError, match=text) as error:
        task.prepare(tmp_path)
    assert "\n" not in str(error.value) and not list((tmp_path / "imagenet_c").glob("*"))


def test_a_batch_of_another_writer_is_read_whole(tmp_path):
    write_batch(tmp_path / "batch", np.asfortranarray(GOOD), labels=[1, 2])
    assert batches.read_batch(tmp_path / "batch", "labels", 10).labels.tolist() == [1, 2]
