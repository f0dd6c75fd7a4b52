"""What every registered task must satisfy, and errors in its files."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_sets import idx, write_fashion

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import TASKS, arrow, digits, fashion, shifts
from lmsa_bench.tasks.task import Split, to_unit

# Tuning, validation and test images per class, as in the tasks' docstrings.
COUNTS = {
    "digits_c": (20, 10, 60),
    "digits_flip": (20, 10, 60),
    "digits_super": (20, 10, 60),
    "digits_random": (20, 10, 60),
    "digits_masked": (20, 10, 60),
    "digits_bright_c": (20, 10, 60),
    "digits_permuted": (20, 10, 60),
    "digits_regrouped": (20, 10, 60),
    "digit_pairs_c": (5, 5, 15),
    "digit_pairs_bright": (5, 5, 15),
    "fashion_c": (100, 10, 890),
    "fashion_flip": (100, 10, 890),
    "fashion_super": (100, 10, 890),
    "fashion_pairs_c": (5, 10, 40),
}
PAIRS = {"digit_pairs_c", "digit_pairs_bright", "fashion_pairs_c"}


@pytest.fixture(autouse=True)
def any_fashion(monkeypatch, tmp_path):
    """Accepts any IDX file, and reads none outside the test's folders."""
    monkeypatch.setattr(fashion, "MD5", dict.fromkeys(fashion.MD5, ""))
    monkeypatch.setattr(fashion, "SYSTEM_FOLDER", tmp_path / "system")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A data root with noise in place of Fashion-MNIST."""
    root = tmp_path_factory.mktemp("data")
    write_fashion(root / "FashionMNIST" / "raw", {"train": 12500, "t10k": 10000})
    return root


@pytest.fixture(params=COUNTS)
def task(request, data_root, any_fashion):
    task = TASKS.get(request.param)()
    task.prepare(data_root)
    return task


def contents(split, task):
    """The original images of a split, as bytes."""
    images = torch.cat(split.images.chunk(2, dim=3)) if task.name in PAIRS else split.images
    return {image.tobytes() for image in images.numpy()}


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_splits_are_balanced_and_share_no_original(task, data_root):
    for variant in task.variants:
        splits = task.splits(data_root, variant, 0)
        for split, count in zip(splits, COUNTS[task.name], strict=True):
            assert split.images.dtype == torch.uint8 and split.images.shape[1:] == task.input_shape
            assert split.labels.dtype == torch.int64
            assert split.labels.bincount().tolist() == [count] * task.classes
        originals = [contents(split, task) for split in splits]
        assert len(set.union(*originals)) == sum(map(len, originals))


def test_a_seed_decides_the_splits(task, data_root):
    variant = task.variants[0]
    first, again, other = (task.splits(data_root, variant, seed) for seed in (0, 0, 1))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not any(same(a, b) for a, b in zip(first, other, strict=True))


def test_the_source_has_all_classes_and_no_image_of_its_holdout(task, data_root):
    source, holdout = task.source.load(data_root), task.source.holdout(data_root)
    for split in (source, holdout):
        assert split.images.shape[1:] == task.input_shape
        assert split.labels.unique().tolist() == list(range(task.classes))
    assert not contents(source, task) & contents(holdout, task)


def test_the_input_is_a_float_of_the_input_shape(task, data_root):
    images = task.splits(data_root, task.variants[0], 0).val.images[:3]
    x = task.transform(images)
    assert x.dtype == torch.float32 and x.shape == images.shape and torch.equal(x, task.transform(images))


def test_preparing_twice_writes_the_same_bytes(data_root, tmp_path):
    root = tmp_path / "other"
    write_fashion(root, {"train": 12500, "t10k": 10000})
    for factory in (digits.digits_c, fashion.fashion_c):
        task = factory()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(task.prepare, [root, root]))
        task.prepare(data_root)
        assert task.fingerprint(root) == task.fingerprint(data_root)
    files = sorted(path.relative_to(root) for path in root.rglob("*.arrow"))
    assert len(files) == 10 and not list(root.rglob(".*.arrow.*"))
    written = {file: (root / file).stat().st_mtime_ns for file in files}
    for file in files:
        assert (root / file).read_bytes() == (data_root / file).read_bytes()
    for name in COUNTS:
        TASKS.get(name)().prepare(root)  # development adds its own files and leaves the others alone
    assert written == {file: (root / file).stat().st_mtime_ns for file in files}


def test_a_truncated_prepared_file_is_written_again(tmp_path):
    task = digits.digits_c()
    task.prepare(tmp_path)
    file, before = tmp_path / "digits" / "contrast.arrow", task.fingerprint(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    task.prepare(tmp_path)
    assert file.read_bytes() == whole and task.fingerprint(tmp_path) == before


def test_unprepared_data_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"target.arrow is missing: .*lmsa_bench.data"):
        digits.digits_flip().splits(tmp_path, "", 0)


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_flip_labels_are_nine_minus_the_label(name, data_root):
    task = TASKS.get(f"{name}_flip")()
    task.prepare(data_root)
    target = arrow.read(data_root / name / "target.arrow")
    labels = {
        image.tobytes(): label for image, label in zip(target.images.numpy(), target.labels.tolist(), strict=True)
    }
    for split in task.splits(data_root, "", 0):
        for image, label in zip(split.images.numpy(), split.labels.tolist(), strict=True):
            assert label == 9 - labels[image.tobytes()]


def test_the_development_tasks_are_none_of_the_reported_ones(data_root):
    tasks = {name: TASKS.get(name)() for name in COUNTS if name.startswith("digit")}
    for task in tasks.values():
        task.prepare(data_root)
    assert not set(tasks["digits_bright_c"].variants) & set(tasks["digits_c"].variants)
    target, permuted = (tasks[name].splits(data_root, "", 0).test for name in ("digits_flip", "digits_permuted"))
    labels = {image.tobytes(): 9 - y for image, y in zip(target.images.numpy(), target.labels.tolist(), strict=True)}
    shown = [
        (labels.get(i.tobytes()), y) for i, y in zip(permuted.images.numpy(), permuted.labels.tolist(), strict=True)
    ]
    pairs = {(old, new) for old, new in shown if old is not None}
    assert len(pairs) == 10 and all(new == (old + 4) % 10 and new not in (old, 9 - old) for old, new in pairs)
    assert tasks["digits_regrouped"].source.data != tasks["digits_super"].source.data
    assert tasks["digit_pairs_bright"].variants != tasks["digit_pairs_c"].variants


def test_variants_split_the_same_originals(data_root):
    task = digits.digits_c()
    task.prepare(data_root)
    noise, contrast = (task.splits(data_root, variant, 0) for variant in task.variants)
    for a, b in zip(noise, contrast, strict=True):
        assert torch.equal(a.labels, b.labels) and not torch.equal(a.images, b.images)


def test_the_left_image_of_a_pair_is_the_tens_digit(data_root):
    digits.DIGITS.prepare(data_root)
    target = digits.DIGITS.read("target", data_root)
    labels = {
        image.tobytes(): label for image, label in zip(target.images.numpy(), target.labels.tolist(), strict=True)
    }
    paired = shifts.pairs(target, 3, generator(0, "test"))
    left, right = paired.images.chunk(2, dim=3)
    for a, b, label in zip(left.numpy(), right.numpy(), paired.labels.tolist(), strict=True):
        assert 10 * labels[a.tobytes()] + labels[b.tobytes()] == label


def test_the_mask_is_fixed_and_positive():
    images = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    first, again = digits.digits_masked().transform(images), digits.digits_masked().transform(images)
    assert torch.equal(first, again) and torch.equal(first[0], first[1])
    # log e^z is standard normal: 64 draws have a mean within 0.5 and a deviation within 0.4 of that
    logs = first[0].log()
    assert abs(logs.mean().item()) < 0.5 and abs(logs.std().item() - 1) < 0.4
    half = digits.digits_masked().transform(images // 2)
    torch.testing.assert_close(half, first * to_unit(images // 2))


def test_tasks_of_one_source_share_its_model():
    assert digits.digits_c().source == digits.digits_flip().source
    assert fashion.fashion_c().source == fashion.fashion_flip().source
    # Source models are shared by the data's name, so each training set has its own.
    tasks = [TASKS.get(name)() for name in COUNTS]
    assert len({task.source.data for task in tasks}) == 8


def test_too_few_images_of_a_class_are_a_users_error():
    labels = torch.tensor([0] * 5 + [1] * 3)
    with pytest.raises(UserError, match=r"class 1 has 3 images: expected more than 2 \+ 1"):
        shifts.cut(labels, (2, 1), generator(0, "test"))
    with pytest.raises(UserError, match="expected at least 4, one per pair"):
        shifts.pairs(Split(torch.zeros(30, 1, 2, 2, dtype=torch.uint8), torch.arange(30) % 10), 4, generator(0, "test"))


@pytest.fixture
def whole(tmp_path):
    """An Arrow file of six images."""
    images = torch.randint(256, (6, 3, 4, 5), generator=generator(0, "arrow"), dtype=torch.uint8)
    path = tmp_path / "six.arrow"
    arrow.write(path, images, torch.arange(6), "first")
    return path, images


def test_an_arrow_file_gives_back_what_was_written(whole):
    path, images = whole
    before = path.read_bytes()
    split = arrow.read(path)
    assert torch.equal(split.images, images) and torch.equal(split.labels, torch.arange(6))
    head = arrow.header(path)
    assert head.shape == (3, 4, 5) and head.recipe == "first"
    split.images.zero_()
    assert path.read_bytes() == before


def test_the_fingerprint_is_of_the_content(whole):
    path, images = whole
    first = arrow.header(path).fingerprint
    assert len(first) == 16
    assert arrow.write(path, images, torch.arange(6), "second") == first
    assert arrow.write(path, images.view(6, 3, 5, 4), torch.arange(6)) != first
    assert arrow.write(path, images, torch.arange(6).flip(0)) != first
    assert arrow.write(path, 255 - images, torch.arange(6)) != first


def test_images_are_mapped_and_not_copied(tmp_path):
    arrow.write(tmp_path / "a.arrow", torch.zeros(1000, 1, 8, 8, dtype=torch.uint8), torch.arange(1000))
    split = arrow.read(tmp_path / "a.arrow")
    # The labels follow the images as in the file; two copies would not lie side by side.
    assert split.labels.data_ptr() - split.images.data_ptr() == 1000 * 8 * 8


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1, -8, -400])
def test_a_truncated_arrow_file_is_a_users_error(whole, length):
    path, _ = whole
    path.write_bytes(path.read_bytes()[:length])
    for read in (arrow.read, arrow.header):
        with pytest.raises(UserError, match=r"six.arrow is not a complete Arrow file .*: delete it") as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"garbage" * 1000, b"ARROW1\0\0" + b"\xff" * 500 + b"ARROW1"], ids=["garbage", "ends"]
)
def test_garbage_is_a_users_error(tmp_path, content):
    (tmp_path / "g.arrow").write_bytes(content)
    with pytest.raises(UserError, match=r"g.arrow is not a complete Arrow file"):
        arrow.read(tmp_path / "g.arrow")


def test_an_unwritable_folder_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        arrow.write(tmp_path / "file" / "a.arrow", torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1))


def test_missing_fashion_names_both_ways_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"apt-get install dataset-fashion-mnist.*lmsa_bench.data fetch"):
        fashion.fashion_c().prepare(tmp_path)
    write_fashion(tmp_path / "system", {"train": 10})
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte.gz is missing: .*apt-get"):
        fashion.fashion_c().prepare(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t10k-images-idx3-ubyte", b"", "not an IDX file"),
        ("t10k-images-idx3-ubyte", b"\0\0\x0d\x03" + bytes(12), "not an IDX file"),
        (
            "t10k-images-idx3-ubyte",
            idx(torch.zeros(2, 28, 28, dtype=torch.uint8))[:-1],
            "it has 1583 bytes, expected 1584",
        ),
        ("t10k-images-idx3-ubyte", idx(torch.zeros(2, 28, 28, dtype=torch.uint8)) + b"0", "it has 1585 bytes"),
        ("t10k-images-idx3-ubyte", idx(torch.zeros(2, 27, 28, dtype=torch.uint8)), "27x28, expected 28x28"),
        ("t10k-images-idx3-ubyte", idx(torch.zeros(2, 28, 28, dtype=torch.uint8)), "one per image"),
        ("t10k-labels-idx1-ubyte", idx(torch.full((10,), 10, dtype=torch.uint8)), "expected 10 from 0 to 9"),
        ("t10k-labels-idx1-ubyte.gz", b"no gzip", "cannot be read"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(idx(torch.zeros(10, dtype=torch.uint8)), mtime=0)[:-9],
            "cannot be read",
        ),
    ],
    ids=["empty", "none", "cut", "too long", "27 lines", "two images", "label 10", "no gzip", "cut gzip"],
)
def test_a_wrong_idx_file_is_a_users_error(tmp_path, name, content, text):
    write_fashion(tmp_path / "raw", {"train": 20, "t10k": 10})
    (tmp_path / "raw" / name).write_bytes(content)
    with pytest.raises(UserError, match=text) as error:
        fashion.pools(tmp_path / "raw")
    assert "\n" not in str(error.value)


def test_an_idx_file_of_another_md5_is_a_users_error(tmp_path, monkeypatch):
    monkeypatch.undo()
    write_fashion(tmp_path / "raw", {"train": 20, "t10k": 10})
    with pytest.raises(UserError, match="train-images-idx3-ubyte: its md5 differs from the published file"):
        fashion.pools(tmp_path / "raw")
