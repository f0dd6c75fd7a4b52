"""Small versions of the published data sets: the real layout, with a few images that are all different."""

import gzip
import pickle
import struct
import tarfile

import numpy as np
import torch
from PIL import Image

from lmsa_bench.seeding import generator
from lmsa_bench.tasks import imagenet
from lmsa_bench.tasks.published import CIFAR10, CIFAR10_C, CIFAR100

WNIDS = {"n01440764": 0, "n01443537": 1, "n01484850": 2}


def pixels(count, offset=0):
    """Images (count, 3072) uint8 whose first two bytes are their number."""
    images = np.random.default_rng(offset).integers(0, 256, (count, 3072), dtype=np.uint8)
    number = np.arange(offset, offset + count)
    images[:, 0], images[:, 1] = number // 256, number % 256
    return images


def write_batch(path, data, **lists):
    """A batch in the pickle protocol of the published ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"batch_label": "a batch", "data": data, **lists}, protocol=2))


def write_cifar10(root, train=4, test=20):
    """CIFAR-10 with 5 x 10 x `train` training and 10 x `test` test images."""
    folder = root / CIFAR10.folder
    for n in range(5):
        labels = [i % 10 for i in range(10 * train)]
        write_batch(folder / f"data_batch_{n + 1}", pixels(len(labels), 1000 * (n + 1)), labels=labels)
    write_batch(folder / "test_batch", pixels(10 * test), labels=[i % 10 for i in range(10 * test)])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}, protocol=2))


def write_cifar100(root, train=6, test=2):
    """CIFAR-100 with 100 x `train` training and 100 x `test` test images."""
    for part, count, offset in (("train", train, 1000), ("test", test, 0)):
        labels = [i % 100 for i in range(100 * count)]
        coarse = [label // 5 for label in labels]
        batch = pixels(len(labels), offset)
        write_batch(root / CIFAR100.folder / part, batch, fine_labels=labels, coarse_labels=coarse)
    (root / CIFAR100.folder / "meta").write_bytes(pickle.dumps({"fine_label_names": []}, protocol=2))


def write_cifar10_c(root, names, test=20):
    """Corruptions of the small CIFAR-10's test images, which do not change the first two values of an image."""
    folder = root / CIFAR10_C.folder
    folder.mkdir(parents=True, exist_ok=True)
    base = pixels(10 * test).reshape(-1, 3, 32, 32)
    for k, name in enumerate(names):
        blocks = []
        for severity in range(1, 6):
            block = base // 2 + 10 * k + severity
            block[:, 0, 0, :2] = base[:, 0, 0, :2]
            blocks.append(block.transpose(0, 2, 3, 1))
        np.save(folder / f"{name}.npy", np.concatenate(blocks))
    np.save(folder / "labels.npy", np.tile(np.arange(10 * test) % 10, 5).astype(np.uint8))


def write_images(folder, wnids, count, size=(32, 32), shade=lambda row: row):
    """`count` JPEG files per class, of one shade each, which is a function of the image's number in the set."""
    row = 0
    for wnid in wnids:
        (folder / wnid).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            colour = tuple(int(shade(row) >> shift) % 256 for shift in (0, 4, 8))
            Image.new("RGB", size, colour).save(folder / wnid / f"ILSVRC2012_val_{i:08}.JPEG", quality=95)
            row += 1


def small_imagenet(monkeypatch):
    """Three classes of 9 images of 32x32; Living-17 has all of its 68 class folders."""
    monkeypatch.setattr(imagenet, "wnids", lambda: WNIDS)
    monkeypatch.setattr(imagenet, "SIZE", 32)
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    monkeypatch.setattr(imagenet, "PER_CLASS", 9)
    monkeypatch.setattr(imagenet, "COUNTS", (2, 3))
    monkeypatch.setattr(imagenet, "LIVING_COUNTS", (3, 2))


def tar(path, folder, mode="w:gz"):
    """An archive of a folder, under the folder's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:
        file.add(folder, folder.name)
    return path


def idx(values):
    """The content of an IDX file of uint8 values."""
    return struct.pack(f">{1 + values.dim()}I", 0x0800 + values.dim(), *values.shape) + values.numpy().tobytes()


def write_fashion(folder, items):
    """Noise in torchvision's layout of Fashion-MNIST, with images as plain files and labels as .gz."""
    folder.mkdir(parents=True)
    for which, count in items.items():
        draw = generator(0, "noise", which)
        images = torch.randint(256, (count, 28, 28), generator=draw, dtype=torch.uint8)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        (folder / f"{which}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{which}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
