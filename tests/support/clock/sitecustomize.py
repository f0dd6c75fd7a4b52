"""On the path of a sweep's Pythons, all of which import it: their clock is off by the seconds in the file CLOCK."""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path


def _off() -> int:
    try:
        return int(Path(os.environ["CLOCK"]).read_text())
    except (OSError, ValueError):  # not there yet, or just written
        return 0


def _wrong(clock: Callable[[], float], second: int) -> Callable[[], float]:
    @wraps(clock)
    def now() -> float:
        return clock() + _off() * second

    return now


time.time, time.time_ns = _wrong(time.time, 1), _wrong(time.time_ns, 10**9)
