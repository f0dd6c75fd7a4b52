"""Published files that are hostile, damaged or from other writers: read correctly or refused in one line, never run."""

import os
import pickle
import shutil

import numpy as np
import pytest
from fuzzing import MARKER, Hostile
from small_sets import WNIDS, small_imagenet, write_batch, write_cifar10_c, write_images

from lmsa_bench.errors import UserError
from lmsa_bench.tasks import batches, build
from lmsa_bench.tasks.published import CIFAR10_C


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_executes_nothing(tmp_path, protocol):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Hostile(0), "labels": []}, protocol=protocol))
    with pytest.raises(UserError, match=r"not a CIFAR batch \(it refers to .*open\)"):
        batches.unpickle(path)
    assert not os.path.exists(MARKER)


@pytest.mark.parametrize("name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy.core.multiarray\nscalar"])
def test_no_other_global_is_loaded(tmp_path, name):
    path = tmp_path / "batch"
    path.write_bytes(f"c{name}\n(S'echo'\ntR.".encode())
    with pytest.raises(UserError, match=f"it refers to {name.replace(chr(10), '.')}"):
        batches.unpickle(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy.core.", b"numpy._core."], ids=["old", "new"])
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
        (b"", "not a CIFAR batch"),
        (b"no pickle", "not a CIFAR batch"),
        (pickle.dumps([1]), "expected a dict, got list"),
        (pickle.dumps({"data": GOOD})[:-100], "not a CIFAR batch"),
        (pickle.dumps({"data": GOOD[:, 1:], "labels": [0, 1]}), r"uint8 array \(n, 3072\)"),
        (pickle.dumps({"data": GOOD.astype(float), "labels": [0, 1]}), r"uint8 array \(n, 3072\)"),
        (pickle.dumps({"data": GOOD, "labels": [0]}), "not a list of 2 integers"),
        (pickle.dumps({"data": GOOD, "labels": [0, 10]}), "not integers from 0 to 9"),
        (pickle.dumps({"data": GOOD, "labels": ["a", 1]}), "not integers from 0 to 9"),
    ],
    ids=["empty", "no pickle", "list", "cut", "narrow", "floats", "one label", "label 10", "a text"],
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
        ("labels", np.zeros(999, np.uint8), "n divisible by 5"),
        ("labels", np.zeros((1000, 1), np.uint8), r"expected integers \(n,\)"),
        ("labels", np.arange(1000) % 7, "the same labels from 0 to 9 for each severity"),
        ("labels", np.full(1000, 10), "labels from 0 to 9"),
    ],
)
def test_a_wrong_npy_file_is_a_users_error(tmp_path, name, content, text):
    write_cifar10_c(tmp_path, ["fog"])
    np.save(tmp_path / CIFAR10_C.folder / f"{name}.npy", content)
    folder = tmp_path / CIFAR10_C.folder
    with pytest.raises(UserError, match=text) as error:
        batches.read_corrupted(folder / "fog.npy", folder / "labels.npy", 5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 5, 100, 3000])
def test_a_truncated_npy_file_is_a_users_error(tmp_path, length):
    write_cifar10_c(tmp_path, ["fog"])
    path = tmp_path / CIFAR10_C.folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"not a complete \.npy file"):
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
        (no_image, "00000003.JPEG: not a usable image"),
        (half_an_image, "00000003.JPEG: not a usable image"),
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


def test_a_batch_in_fortran_order_is_read(tmp_path):
    write_batch(tmp_path / "batch", np.asfortranarray(GOOD), labels=[1, 2])
    assert batches.read_batch(tmp_path / "batch", "labels", 10).labels.tolist() == [1, 2]
