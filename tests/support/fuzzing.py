"""Shared by the fuzz tests: damaged bytes, hostile pickles, and a loop that applies the same checks to every case."""

import contextlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lmsa_bench.errors import UserError

MAX_MEMORY = 384 << 20  # bytes by which a run over all cases may raise the peak memory of the process
# The file that hostile code tries to create: one per process, with a name of the same length in all of them.
MARKER = f"{tempfile.gettempdir()}/lmsa_bench_fuzz_{os.getpid():08}"


def counts(fast: int, full: int) -> Any:
    """The number of cases that a test draws: ``fast`` by default, ``full`` among the slow tests."""
    return pytest.mark.parametrize("count", [fast, pytest.param(full, marks=pytest.mark.slow)])


def run(check: Callable[[Any], None], cases: st.SearchStrategy[Any], count: int, known: Iterable[Any] = ()) -> None:
    """Checks the known cases and ``count`` random ones, the same in every run, for executed code and memory use."""

    def one(case: Any) -> None:
        check(case)
        if os.path.exists(MARKER):
            Path(MARKER).unlink()
            raise AssertionError("code was executed")

    Path(MARKER).unlink(missing_ok=True)
    before = _reset_peak()
    for case in known:
        one(case)
    fixed = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    fixed(given(cases)(one))()
    assert _status("VmHWM") - before < MAX_MEMORY


def one_line(read: Callable[[], Any]) -> Any:
    """What ``read`` returns, or None after a UserError, which must be one line."""
    try:
        return read()
    except UserError as error:
        assert str(error) and len(str(error).splitlines()) == 1, repr(str(error))
        return None


class Hostile:
    """Unpickling it would call one of these, which create the marker."""

    CALLS = (
        (open, (MARKER, "w")),
        (os.system, (f"touch {MARKER}",)),
        (eval, (f"open({MARKER!r}, 'w')",)),
        (os.mkdir, (MARKER,)),
    )

    def __init__(self, call: int) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.CALLS[self.call]


HOSTILE = [pickle.dumps(Hostile(n), protocol) for n in range(len(Hostile.CALLS)) for protocol in range(6)]
LENGTHS = (b"\xff", b"\x00" * 4, b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00\x00\x00\x00\x00\x10\x00\x00")


@st.composite
def damaged(draw: Callable[..., Any], whole: bytes) -> bytes:
    """The bytes with one to three damages: a bit or byte changed, truncated, a piece lost, repeated or inserted."""
    data = bytearray(whole)
    # The first and last bytes contain lengths and names: they get more than half of the damage.
    place = st.one_of(
        st.integers(0, min(400, len(whole) - 1)),
        st.integers(max(0, len(whole) - 400), len(whole) - 1),
        st.integers(0, len(whole) - 1),
    )
    for _ in range(draw(st.integers(1, 3))):
        kind, at = draw(st.sampled_from(["bit", "byte", "cut", "lose", "repeat", "length", "insert"])), draw(place)
        at = min(at, max(0, len(data) - 1))
        if kind == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "lose":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        elif kind == "length":
            length = draw(st.sampled_from(LENGTHS))
            data[at : at + len(length)] = length
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _reset_peak() -> int:
    """Resets the peak memory to the current one, if the system allows it, and returns it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")
