"""CIFAR's Python batches, which are pickles, and CIFAR-10-C's arrays, read without running any code in them."""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lmsa_bench.errors import UserError, one_line
from lmsa_bench.tasks.task import Split

SHAPE = (3, 32, 32)
SEVERITIES = 5


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 pickles them in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it uses the encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(name: str, *_: Any) -> np.dtype:
    """The dtype of an array of numbers, in native byte order (CIFAR's arrays are bytes)."""
    if not re.fullmatch(r"b1|[iu][1248]|f[248]", name):
        raise pickle.UnpicklingError(f"it contains an array of {name!r}")
    return np.dtype(name)


def _empty(*_: Any) -> np.ndarray:
    """An empty array for the pickle to fill: it cannot get larger than the bytes in the file."""
    return np.empty(0, np.uint8)


def _array_of(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """An array as pickled by the newest protocol."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


# Everything that a pickled array of numbers refers to, under the module names of old and new numpy.
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",  # only an argument of _reconstruct: a call could allocate any size
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
}


_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


class Unpickler(pickle.Unpickler):
    """Loads lists, dicts, strings, numbers and numpy arrays of numbers, and refuses anything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """See pickle.Unpickler."""
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}") from None


def unpickle(path: Path) -> dict[str, Any]:
    """A pickled dict of plain values and arrays, loaded without running code; raises UserError for any other file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in _MEMO and int(argument or 0) > len(data):  # pickle allocates the memo up to it
                raise pickle.UnpicklingError(f"memo index {argument} is too large")
        content = Unpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        raise UserError(f"{path}: not a CIFAR batch ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a CIFAR batch: expected a dict, got {type(content).__name__}")
    return content


def read_batch(path: Path, labels: str, classes: int) -> Split:
    """The images (n, 3, 32, 32) uint8 and labels (n,) of a batch; raises UserError."""
    content = unpickle(path)
    data, targets = content.get("data"), content.get(labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise UserError(f"{path}: 'data' is not a uint8 array (n, 3072)")
    if not isinstance(targets, list) or len(targets) != len(data) or not len(data):
        raise UserError(f"{path}: {labels!r} is not a list of {len(data)} integers")
    if not all(isinstance(label, int) and 0 <= label < classes for label in targets):
        raise UserError(f"{path}: {labels!r} are not integers from 0 to {classes - 1}")
    return Split(torch.from_numpy(data.copy()).view(-1, *SHAPE), torch.tensor(targets))


def read_corrupted(path: Path, labels: Path, severity: int) -> Split:
    """The images (n, 3, 32, 32) uint8 of one severity in a CIFAR-10-C file, and their labels (n,); raises UserError."""
    images, targets = _array(path), _array(labels)
    count = targets.size // SEVERITIES
    if targets.dtype.kind not in "ui" or targets.ndim != 1 or not count or len(targets) % SEVERITIES:
        raise UserError(f"{labels}: {_described(targets)}, expected integers (n,), n divisible by {SEVERITIES}")
    expected = (len(targets), *SHAPE[1:], SHAPE[0])
    if images.shape != expected or images.dtype != np.uint8:
        raise UserError(f"{path}: {_described(images)}, expected uint8 {expected}")
    rows = slice((severity - 1) * count, severity * count)
    selected = targets[rows]
    if not np.array_equal(targets[:count], selected) or not (0 <= selected.min() <= selected.max() < 10):
        raise UserError(f"{labels}: expected the same labels from 0 to 9 for each severity")
    pixels = torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2)))
    return Split(pixels, torch.from_numpy(selected.astype(np.int64)))


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - the header is parsed as Python, so a damaged one can raise anything
        raise UserError(f"{path}: not a complete .npy file of numbers ({one_line(error)})") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: expected a .npy file, got an archive")
    return array


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def stack(splits: list[Split]) -> Split:
    """The images and labels of several batches, concatenated in order."""
    images: list[Tensor] = [split.images for split in splits]
    return Split(torch.cat(images), torch.cat([split.labels for split in splits]))
