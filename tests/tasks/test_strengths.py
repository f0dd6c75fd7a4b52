"""Shifts of digits and garments by strength and number of labels."""

import pytest
import torch
from small_sets import write_fashion

from lmsa_bench.errors import UserError
from lmsa_bench.tasks import build, fashion
from lmsa_bench.tasks.digits import DIGITS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    DIGITS.prepare(folder)
    return folder


def splits(root, name, variant, seed=0, **options):
    return build(name, {"strengths": [variant], **options}).splits(root, variant, seed)


@pytest.mark.parametrize("name", ["digits_noise", "digits_dim", "digits_rotated", "digits_swapped"])
def test_a_strength_is_a_variant_and_fewer_labels_are_a_part_of_the_same_images(name, root):
    task = build(name)
    assert len(task.variants) == 3 and task.source.data == "digits/1"  # they share the source model of digits
    one = task.variants[0]
    whole, few, again = splits(root, name, one), splits(root, name, f"{one}/5"), splits(root, name, one)
    assert [len(part) for part in whole] == [200, 100, 600] and [len(part) for part in few] == [50, 100, 600]
    assert few.train.labels.bincount().tolist() == [5] * 10
    known = {image.numpy().tobytes() for image in whole.train.images}
    assert {image.numpy().tobytes() for image in few.train.images} <= known
    for part, other in zip(whole, again, strict=True):
        assert torch.equal(part.images, other.images) and torch.equal(part.labels, other.labels)
    assert torch.equal(whole.test.images, few.test.images)


def test_imbalance_is_the_ratio_of_the_largest_class_to_the_smallest(root):
    counts = splits(root, "digits_noise", "0.27", imbalance=10.0).train.labels.bincount().tolist()
    assert counts == [round(20 * 10 ** (-label / 9)) for label in range(10)] and counts[0] / counts[-1] == 10


def test_a_quarter_turn_is_exact_and_swaps_are_of_pairs(root):
    upright, turned = splits(root, "digits_rotated", "0"), splits(root, "digits_rotated", "90")
    assert torch.equal(torch.rot90(upright.test.images, 1, (2, 3)), turned.test.images)
    plain = DIGITS.read("target", root).labels
    for pairs in (0, 1, 5):
        parts = splits(root, "digits_swapped", str(pairs))
        moved = {label for label in range(10) if min(label, 9 - label) < pairs}
        counts = sum(part.labels.bincount(minlength=10) for part in parts)
        assert torch.equal(counts, plain.bincount()) and len(moved) == 2 * pairs


def test_garments_are_shifted_alike_and_merged_pairs_are_one_class(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "MD5", dict.fromkeys(fashion.MD5, ""))
    write_fashion(tmp_path / "FashionMNIST" / "raw", {"train": 12500, "t10k": 2000})
    fashion.FASHION.prepare(tmp_path)
    plain = fashion.FASHION.read("target", tmp_path).labels
    for name, moved in (("fashion_noise", False), ("fashion_rotated", False), ("fashion_swapped", True)):
        parts = splits(tmp_path, name, "3/20")
        counts = sum(part.labels.bincount(minlength=10) for part in parts[1:])
        assert parts.train.labels.bincount().tolist() == [20] * 10 and parts.train.images.shape[2:] == (28, 28)
        assert counts.tolist() == (plain.bincount() - 100).tolist() and build(name).shift == ("input", "output")[moved]
    # 0 and 9, 1 and 8, 2 and 7 are merged; a class gives 100 + 10 images to tuning and validation.
    merged = splits(tmp_path, "fashion_merged", "3/20")
    assert [sorted(part.labels.unique().tolist()) for part in merged] == [list(range(7))] * 3
    assert [len(part) for part in merged] == [140, 70, 2000 - 7 * 110]


@pytest.mark.parametrize("variant", ["much", "0.5/", "0.5/21", "0.5/0", "nan", "0.5/x"])
def test_a_strength_that_is_none(variant):
    if variant == "0.5/":
        build("digits_noise", {"strengths": [variant]})  # no number of labels: all
        return
    with pytest.raises(UserError, match="digits_noise: strength"):
        build("digits_noise", {"strengths": [variant]})
