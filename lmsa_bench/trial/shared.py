"""What the trials of a node share: computed once and kept in files, of which any may go at any time.

Nothing here is the truth: what is missing, damaged or cannot be written is computed again, with the same result.
"""

import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmsa_bench.atomic import replacing, write_whole
from lmsa_bench.errors import UserError
from lmsa_bench.models import LayeredModel
from lmsa_bench.trial.spec import canonical

FOLDER = "shared"  # below the data root
BUDGET = "LMSA_SHARED_GIB"  # the variable that says how much of the disk the folder may take; 0: nothing is shared
GIB = 8.0  # where it says nothing
RESERVE = 1 << 30  # bytes of the disk that stay free
_END = struct.Struct("<32sd")  # after the states: a digest of them, and the seconds that they took
_verified = set[tuple[str, int, int]]()  # files that this process has compared with their digests


class States(NamedTuple):
    """The states x_n (K, …) of a split's samples, memory-mapped, and the seconds that it took to compute them."""

    x: Tensor
    seconds: float


class Shared:
    """A folder of states and small values for all trials of a node.

    ``split`` is all that decides a split's states beside part, layer and weights, ``code`` all that decides what a
    trial's work costs beside its shapes. The files that were not used for the longest time make way for others.
    """

    def __init__(self, folder: Path, budget: int, split: str = "", code: str = "") -> None:
        self.folder, self.budget, self.split, self.code = folder, budget, split, code

    @classmethod
    def of(cls, data: Path, split: str = "", code: str = "") -> "Shared | None":
        """The folder below a data root, None where the user wants none; raises UserError at a budget that is none."""
        text = os.environ.get(BUDGET, "")
        try:
            gib = float(text) if text else GIB
        except ValueError:
            raise UserError(f"{BUDGET}={text!r}: expected the GiB that shared states may take, such as 8") from None
        return cls(data / FOLDER, int(gib * 2**30), split, code) if gib > 0 else None

    def recall(self, key: Sequence[str | int]) -> dict[str, Any] | None:
        """The values that were left under this key, None where there are none."""
        path, name = self._named(key)
        try:
            found = json.loads(path.read_bytes())
            os.utime(path)
        except (OSError, ValueError):
            return None
        return found["values"] if isinstance(found, dict) and found.get("key") == name else None

    def remember(self, key: Sequence[str | int], values: Mapping[str, Any]) -> None:
        """Leaves plain values under a key, which is all that decides them."""
        path, name = self._named(key)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps({"key": name, "values": values}).encode())

    def _named(self, key: Sequence[str | int]) -> tuple[Path, str]:
        name = canonical(key)
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json", name

    @staticmethod
    def weights(model: LayeredModel, n: int | None = None) -> str:
        """A digest of all parameters and buffers of a model's layers, or of those below layer n."""
        digest = hashlib.sha256()
        for layer in model.layers[:n]:
            for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]

    def path(self, part: str, model: LayeredModel, n: int) -> Path:
        """Where the states x_n of a part's samples (train, val, test) lie, by all that decides them."""
        name = canonical([self.split, part, n, self.weights(model, n)])
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"

    def read(self, path: Path, count: int) -> States | None:
        """The states of so many samples that lie there, None where they do not, or not whole."""
        try:
            with open(path, "rb") as file:
                file.seek(-_END.size, os.SEEK_END)
                digest, seconds = _END.unpack(file.read())
                stat = os.fstat(file.fileno())
            array = np.load(path, mmap_mode="c")  # writable, which torch requires; the file does not change
            version = (path.name, stat.st_ino, stat.st_size)
            if len(array) != count or (version not in _verified and hashlib.sha256(array.data).digest() != digest):
                path.unlink()
                return None
            os.utime(path, ns=(time.time_ns(),) * 2)  # the kernel's own clock has steps of milliseconds
        except (OSError, ValueError, struct.error):
            return None
        _verified.add(version)
        return States(torch.from_numpy(array), seconds)

    def write(
        self, path: Path, count: int, few: Tensor, states: Iterable[Tensor], seconds: Callable[[], float]
    ) -> None:
        """Writes the states of so many samples, a batch after the other, where there is room; ``few`` are like them.

        The seconds that they took are asked for at the end.
        """
        header = {"descr": few.numpy().dtype.str, "fortran_order": False, "shape": (count, *few.shape[1:])}
        with suppress(OSError):  # most often a full disk
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._make_room(count * few[0].nbytes):
                return
            digest = hashlib.sha256()
            with replacing(path) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for batch in states:
                    rows = batch.contiguous().numpy().data
                    digest.update(rows)
                    file.write(rows)
                file.write(_END.pack(digest.digest(), seconds()))

    def _make_room(self, size: int) -> bool:
        """Removes the files that were not used for the longest time; whether so many bytes fit now."""
        files = sorted(
            (stat.st_mtime_ns, stat.st_size, path) for path in self.folder.iterdir() if (stat := path.stat())
        )
        taken = sum(each for _, each, _ in files)
        most = min(self.budget, taken + shutil.disk_usage(self.folder).free - RESERVE)
        if size > most:
            return False
        for _, each, path in files:
            if taken + size <= most:
                break
            path.unlink(missing_ok=True)
            taken -= each
        return True
