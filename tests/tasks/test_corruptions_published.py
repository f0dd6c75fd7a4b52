"""Corruptions against numbers of the published scripts.

published_corruptions.csv has what the functions of make_cifar_c.py and make_imagenet_c.py (arXiv:1903.12261) made of
`picture`, at 32 and 224 pixels: a checksum of all bytes where every CPU gives the same, the mean, and 16 values. Where
they draw numbers, they were given those that ours draw from the same generator. published_moments.csv has the mean
change and the root mean square change over many calls with NumPy's own draws. Both were taken with NumPy 2.4, SciPy
1.17, Pillow 13, OpenCV 5.0, scikit-image 0.26 and ImageMagick 6.9.11; with NumPy 1.26, SciPy 1.10, Pillow 9.5, OpenCV
3.4 and scikit-image 0.20, the deterministic ones made the same bytes.
"""

import csv
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture

from lmsa_bench.seeding import generator
from lmsa_bench.tasks.corruptions import CORRUPTIONS, corrupt, strength
from lmsa_bench.tasks.corruptions.blur import disk

SIDES = {"cifar": 32, "imagenet": 224}
OURS = {"frost", "impulse_noise"}  # drawn otherwise than in the scripts, so compared in moments alone


def rows(name):
    with open(Path(__file__).with_name(name), newline="") as file:
        return list(csv.DictReader(file))


def label(row):
    return "-".join((row["table"], row["corruption"], row["severity"]))


def made(row, images, draw, rounding="published"):
    value = strength(row["corruption"], int(row["severity"]), row["table"])
    return corrupt(row["corruption"], images, value, draw, rounding)


def test_every_corruption_is_compared_at_every_severity():
    found = {(row["table"], row["corruption"], row["severity"]) for row in rows("published_corruptions.csv")}
    names = set(CORRUPTIONS.names()) - OURS
    assert found == {(table, name, str(severity)) for table in SIDES for name in names for severity in range(1, 6)}


@pytest.mark.parametrize("row", rows("published_corruptions.csv"), ids=label)
def test_bytes_are_the_published_ones(row):
    images = picture(SIDES[row["table"]])
    draw = generator(int(row["severity"]), row["table"], row["corruption"])
    pixels = made(row, images, draw)[0].numpy()
    if row["crc32"]:
        assert zlib.crc32(pixels.tobytes()) == int(row["crc32"])
    # Elsewhere a library's rounding may show after cutting, by one level in fewer than one value of 1,000.
    places = [i * 7919 % pixels.size for i in range(1, 17)]
    assert pixels.flatten()[places].tolist() == pytest.approx(list(map(int, row["values"].split())), abs=1)
    assert pixels.mean() == pytest.approx(float(row["mean"]), abs=1e-3)


@pytest.mark.parametrize("row", rows("published_moments.csv"), ids=label)
def test_moments_are_the_published_ones(row):
    side = SIDES[row["table"]]
    runs = 40 if side == 32 else 8
    images = picture(side)
    draw = generator(0, "moments", row["corruption"])
    changed = made(row, images.expand(runs, -1, -1, -1), draw).double() - images
    for moment, values in (
        ("change", changed.mean(dim=(1, 2, 3))),
        ("rms", changed.square().mean(dim=(1, 2, 3)).sqrt()),
    ):
        mean, deviation = float(row[moment]), float(row[f"{moment}_sd"])
        # Four standard errors of both means, and the rounding of the file.
        error = deviation * math.sqrt(1 / runs + 1 / int(row["runs"]))
        assert values.mean().item() == pytest.approx(mean, abs=4 * error + 1e-3), moment
        if runs > 30:
            assert values.std().item() == pytest.approx(deviation, rel=0.5), moment


@pytest.mark.parametrize(
    ("lens", "total"),
    # OpenCV's kernels; twice normalised, the last two were 1.0064 and 1.0054
    [((3.0, 0.1), 1), ((4.0, 0.5), 1), ((6.0, 0.5), 1), ((8.0, 0.5), 1.0129755), ((10.0, 0.5), 1.0107858)],
)
def test_a_disk_that_fills_its_grid_brightens(lens, total):
    kernel = disk(*lens)
    assert kernel.sum(dtype=np.float64) == pytest.approx(total, abs=1e-6)
    assert kernel == pytest.approx(kernel.T, rel=1e-6) and kernel == pytest.approx(kernel[::-1, ::-1], rel=1e-6)


def test_published_rounding_cuts_where_ours_takes_the_nearest():
    image = torch.tensor([0, 100, 200], dtype=torch.uint8).view(1, 1, 1, 3)
    # the mean is 100: 100 + 0.332 * (0 - 100) = 66.8 and 100 + 0.332 * (200 - 100) = 133.2
    assert corrupt("contrast", image, 0.332, generator(0)).flatten().tolist() == [67, 100, 133]
    assert corrupt("contrast", image, 0.332, generator(0), "published").flatten().tolist() == [66, 100, 133]


@pytest.mark.parametrize("name", ["jpeg_compression", "pixelate", "impulse_noise"])
def test_whole_bytes_are_the_same_however_rounded(name):
    images = picture(32)
    nearest, published = (
        corrupt(name, images, strength(name, 5), generator(0), how) for how in ("nearest", "published")
    )
    assert torch.equal(nearest, published)
