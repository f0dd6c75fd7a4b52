"""CIFAR's python batches, which are pickles, and CIFAR-10-C's arrays: read so that no file can run anything."""

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
    """Bytes as Python 3 writes them in the old pickle protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(name: str, *_: Any) -> np.dtype:
    """The type of an array of numbers; byte orders, which no array of bytes has, are left out."""
    if not re.fullmatch(r"b1|[iu][1248]|f[248]", name):
        raise pickle.UnpicklingError(f"it asks for an array of {name!r}")
    return np.dtype(name)


def _empty(*_: Any) -> np.ndarray:
    """The array that a pickle then fills: of no size, so that its size is that of the bytes which the file has."""
    return np.empty(0, np.uint8)


def _array_of(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """An array as the newest pickle protocol writes it."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


# All that a pickled array of numbers calls, under the module names of old and new versions of numpy.
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct; called, it would make arrays of any size
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
}


_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


class Unpickler(pickle.Unpickler):
    """Builds lists, dicts, strings, numbers and numpy arrays of numbers, and refuses all else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """See pickle.Unpickler."""
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None


def unpickle(path: Path) -> dict[str, Any]:
    """A pickled dict of plain values and arrays; raises UserError about any other file, and executes nothing of it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in _MEMO and int(argument or 0) > len(data):  # pickle makes room for all numbers below it
                raise pickle.UnpicklingError(f"it numbers an object {argument}")
        content = Unpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        raise UserError(f"{path}: not a batch of CIFAR ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a batch of CIFAR but a {type(content).__name__}")
    return content


def read_batch(path: Path, labels: str, classes: int) -> Split:
    """The images (n, 3, 32, 32) and labels of a batch; raises UserError."""
    content = unpickle(path)
    data, numbers = content.get("data"), content.get(labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise UserError(f"{path}: its 'data' is not an array of bytes (n, 3072)")
    if not isinstance(numbers, list) or len(numbers) != len(data) or not len(data):
        raise UserError(f"{path}: its {labels!r} is not a list of {len(data)} numbers")
    if not all(isinstance(number, int) and 0 <= number < classes for number in numbers):
        raise UserError(f"{path}: its {labels!r} are not numbers of 0 to {classes - 1}")
    return Split(torch.from_numpy(data.copy()).view(-1, *SHAPE), torch.tensor(numbers))


def read_corrupted(path: Path, labels: Path, severity: int) -> Split:
    """The images (n, 3, 32, 32) of one severity of a CIFAR-10-C file, and their labels; raises UserError."""
    images, numbers = _array(path), _array(labels)
    count = numbers.size // SEVERITIES
    if numbers.dtype.kind not in "ui" or numbers.ndim != 1 or not count or len(numbers) % SEVERITIES:
        raise UserError(f"{labels}: {_described(numbers)}, expected as many labels for each of {SEVERITIES} severities")
    expected = (len(numbers), *SHAPE[1:], SHAPE[0])
    if images.shape != expected or images.dtype != np.uint8:
        raise UserError(f"{path}: {_described(images)}, expected uint8 {expected}")
    rows = slice((severity - 1) * count, severity * count)
    if not np.array_equal(numbers[:count], numbers[rows]) or not (0 <= numbers[rows].min() <= numbers[rows].max() < 10):
        raise UserError(f"{labels}: not the same labels of 0 to 9 for each severity")
    chosen = torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2)))
    return Split(chosen, torch.from_numpy(numbers[rows].astype(np.int64)))


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - a damaged header can raise anything: it is read by Python's own parser
        raise UserError(f"{path}: not a whole .npy file of numbers ({one_line(error)})") from None
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: not a .npy file but an archive")
    return found


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def stack(splits: list[Split]) -> Split:
    """All images and labels of several batches, in order."""
    images: list[Tensor] = [split.images for split in splits]
    return Split(torch.cat(images), torch.cat([split.labels for split in splits]))
