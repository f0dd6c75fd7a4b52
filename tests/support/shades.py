"""A task of images that are one shade a class, whose source data are in the code, and its small network."""

import torch

from lmsa_bench.models import MODELS
from lmsa_bench.tasks.task import Source, Split, Splits, Task


def images(count, classes, seed=0):
    """Images of one shade a class with some noise, which a small model learns."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 20, (count, 3, 8, 8), generator=draw)
    return Split((noise + labels[:, None, None, None] * (230 // classes)).to(torch.uint8), labels)


def task(**source):
    """A task of four classes for wrn_10_1 whose source data are in the code."""
    recipe = {
        "data": "shades",
        "load": lambda root: images(200, 4),
        "epochs": 2,
        "lr": 3e-3,
        "holdout": lambda root: images(40, 4, 1),
    }
    return Task(
        name="shades",
        model="wrn_10_1",
        classes=4,
        input_shape=(3, 8, 8),
        source=Source(**(recipe | source)),
        splits=lambda root, variant, seed: Splits(*(images(n, 4, seed + n) for n in (80, 20, 40))),
        prepare=lambda root: None,
        fingerprint=lambda root: "shades",
    )


def net(classes=4, seed=0, model="wrn_10_1"):
    torch.manual_seed(seed)
    return MODELS.get(model)(classes, (3, 8, 8)).source


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
