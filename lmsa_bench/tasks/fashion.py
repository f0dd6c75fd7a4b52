"""The fashion tasks: Fashion-MNIST, 28x28, from the published IDX files or those of the Debian package.

Of each class, 1,000 training images are the source's training set and 200 the holdout; the 1,000 test images are the
target pool, which a seed splits into 100 tuning, 10 validation and 890 test images.
"""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import shifts
from lmsa_bench.tasks.published import FASHION_MNIST
from lmsa_bench.tasks.task import Split, Task

SYSTEM_FOLDER = Path(FASHION_MNIST.system_folder)  # of the Debian package dataset-fashion-mnist

REMEDY = (
    "install it with 'apt-get install dataset-fashion-mnist', or fetch it with "
    "'python -m lmsa_bench.data fetch fashion_mnist'"
)

MAX_BYTES = 1 << 26  # read from a file: the published ones are smaller, a hostile .gz may not be

# md5 of the published files, uncompressed, as Debian and torchvision compress them differently; "" is not checked.
MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def pools(root: Path) -> Mapping[str, Split]:
    """Source and holdout pools from the training images, target pool from the test images; raises UserError."""
    folder = _folder(root)
    train, test = _split(folder, "train"), _split(folder, "t10k")
    source, holdout, _ = shifts.cut(train.labels, (1000, 200), generator(0, "pools", "fashion"))
    return {"source": shifts.take(train, source), "holdout": shifts.take(train, holdout), "target": test}


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """uint8 (n, *shape) from an IDX file, plain or as .gz; raises UserError for any other file."""
    file = path if path.exists() else path.with_name(f"{path.name}.gz")
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            content = stream.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing: {REMEDY}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read ({error}): {REMEDY}") from error
    # Big-endian: 0, 0, 8 (for bytes), the number of dimensions, then each dimension.
    size = 4 * (2 + len(shape))
    header = np.frombuffer(content[:size].ljust(size, b"\0"), dtype=">u4").astype(np.int64)
    expected = size + int(header[1:].prod())
    if header[0] != 0x0801 + len(shape):
        problem = f"not an IDX file of bytes in {1 + len(shape)} dimensions"
    elif tuple(header[2:]) != shape:
        problem = f"its items are {'x'.join(map(str, header[2:]))}, expected {'x'.join(map(str, shape))}"
    elif len(content) != expected:
        problem = f"it has {len(content)} bytes, expected {expected} from its header"
    elif MD5[path.name] not in ("", hashlib.md5(content, usedforsecurity=False).hexdigest()):
        problem = "its md5 differs from the published file's"
    else:
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=size).reshape(-1, *shape).copy())
    raise UserError(f"{file}: {problem}: {REMEDY}")


def _folder(root: Path) -> Path:
    folders = (root / "FashionMNIST" / "raw", root, SYSTEM_FOLDER)
    for folder in folders:
        if any((folder / f"{name}{end}").exists() for name in MD5 for end in ("", ".gz")):
            return folder
    raise UserError(f"no Fashion-MNIST in {', '.join(map(str, folders))}: {REMEDY}")


def _split(folder: Path, which: str) -> Split:
    images = read_idx(folder / f"{which}-images-idx3-ubyte", (28, 28))
    labels = read_idx(folder / f"{which}-labels-idx1-ubyte", ())
    if len(images) != len(labels) or not len(labels) or int(labels.max()) > 9:
        raise UserError(f"{folder}: {which} labels: expected {len(images)} from 0 to 9, one per image: {REMEDY}")
    return Split(images[:, None], labels.to(torch.int64))


FASHION = shifts.ImageSet(
    name="fashion",
    model="wrn_10_1",
    shape=(1, 28, 28),
    pools=pools,
    strengths={"impulse_noise": 0.27, "contrast": 0.15},
    counts=(100, 10),
    epochs=4,
    lr=3e-3,
)


def fashion_c() -> Task:
    """Fashion-MNIST with impulse noise, and with low contrast."""
    return shifts.corrupted("fashion_c", FASHION)


def fashion_flip() -> Task:
    """Fashion-MNIST with label 9 - y."""
    return shifts.flipped("fashion_flip", FASHION)


def fashion_super() -> Task:
    """Superclasses of similar garments: T-shirt, pullover, sandal and sneaker, dress in the source; shirt, coat, ankle
    boot, trouser in the target."""
    before, after = [[0], [2], [5, 7], [3]], [[6], [4], [9], [1]]
    return shifts.regrouped("fashion_super", FASHION, before, after, epochs=4, lr=3e-3)


def fashion_pairs_c() -> Task:
    """Two noisy garments side by side, 28x56, 100 classes: 5 tuning, 10 validation and 40 test pairs per class.

    They are made from 300, 200 and 500 originals of each class.
    """
    return shifts.paired(
        "fashion_pairs_c",
        FASHION,
        "impulse_noise",
        source_pairs=100,
        originals=(300, 200),
        counts=(5, 10, 40),
        epochs=5,
        lr=3e-3,
    )
