"""The quickstart tasks: scikit-learn's 1,797 handwritten digits of 8x8 pixels, which its wheel contains.

Of each digit, 90 images are the target pool, 14 the holdout and 70 to 79 the source's training set. A seed splits the
target pool into 20 tuning, 10 validation and 60 test images per class.
Defaults are chosen on the development tasks alone, which no suite with a headline table uses.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from lmsa_bench.seeding import generator
from lmsa_bench.tasks import shifts
from lmsa_bench.tasks.task import Split, Task


def pools(root: Path) -> Mapping[str, Split]:
    """All digits (n, 1, 8, 8), with values scaled from 0..16 to 0..255, in three pools; does not use the data root."""
    from sklearn.datasets import load_digits  # takes a second, and only the first preparation needs it

    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
    split = Split(images, torch.from_numpy(digits.target).to(torch.int64))
    target, holdout, source = shifts.cut(split.labels, (90, 14), generator(0, "pools", "digits"))
    return {
        name: shifts.take(split, part) for name, part in (("source", source), ("holdout", holdout), ("target", target))
    }


DIGITS = shifts.ImageSet(
    name="digits",
    model="wrn_10_1",
    shape=(1, 8, 8),
    pools=pools,
    strengths={"impulse_noise": 0.27, "contrast": 0.15},
    counts=(20, 10),
    epochs=30,
    lr=3e-3,
)

# The development tasks' corruptions of the same pools, at ImageNet's severity 5.
DEVELOPMENT = replace(DIGITS, strengths={"gaussian_noise": 0.38, "brightness": 0.5})


def digits_c() -> Task:
    """Digits with impulse noise, and digits with low contrast."""
    return shifts.corrupted("digits_c", DIGITS)


def digits_flip() -> Task:
    """Digits with label 9 - y."""
    return shifts.flipped("digits_flip", DIGITS)


def digits_random() -> Task:
    """Digits with random labels, to which no model can generalise: shows only what a layer can fit."""
    return shifts.shuffled("digits_random", DIGITS)


def digits_super() -> Task:
    """Superclasses of two similar digits: 2, 7, 9, 0, 3 in the source and 1, 4, 5, 6, 8 in the target."""
    before, after = [[2], [7], [9], [0], [3]], [[1], [4], [5], [6], [8]]
    return shifts.regrouped("digits_super", DIGITS, before, after, epochs=30, lr=3e-3)


def digit_pairs_c() -> Task:
    """Two noisy digits side by side, 100 classes: 5 tuning, 5 validation and 15 test pairs per class.

    They are made from 30, 20 and 40 originals of each digit.
    """
    return shifts.paired(
        "digit_pairs_c",
        DIGITS,
        "impulse_noise",
        source_pairs=30,
        originals=(30, 20),
        counts=(5, 5, 15),
        epochs=8,
        lr=6e-3,
    )


def digits_masked() -> Task:
    """Digits for a small transformer, multiplied by a fixed mask."""
    return shifts.masked("digits_masked", DIGITS, "small_vit", epochs=40, lr=2e-3)


def digits_bright_c() -> Task:
    """For development: digits with Gaussian noise and with too much light."""
    return shifts.corrupted("digits_bright_c", DEVELOPMENT)


def digits_permuted() -> Task:
    """For development: digits whose label y is y + 4 modulo 10, which leaves none alone and nowhere is 9 - y."""
    return shifts.permuted("digits_permuted", DIGITS, [(label + 4) % 10 for label in range(10)])


def digits_regrouped() -> Task:
    """For development: other superclasses; the source knows 7, 8, 4, 5, 2 and the target is 1, 0, 9, 3, 6."""
    before, after = [[7], [8], [4], [5], [2]], [[1], [0], [9], [3], [6]]
    return shifts.regrouped("digits_regrouped", DIGITS, before, after, epochs=30, lr=3e-3)


def digit_pairs_bright() -> Task:
    """For development: few images of many classes, pairs as in digit_pairs_c, with too much light."""
    return shifts.paired(
        "digit_pairs_bright",
        DEVELOPMENT,
        "brightness",
        source_pairs=30,
        originals=(30, 20),
        counts=(5, 5, 15),
        epochs=8,
        lr=6e-3,
    )
