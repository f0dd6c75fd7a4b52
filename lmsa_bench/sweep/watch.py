"""The driver's watch over what cannot tell of its own end: workers that are stopped, Ray's head, the own raylet."""

import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

GRACE = 15.0  # seconds in which a worker that hangs ends itself, which tells where it hung
MOST_PAUSE = 5.0  # seconds between two looks that count: in more, the driver itself was stopped and heard nobody
LOST = {"head": 40, "raylet": 10}  # seconds: Ray ends the driver after 60 without its head, in words of its own
LOOKS = 5  # of a second or two each, that find nobody


class Watch:
    """Finds the workers that show no sign of life for ``seconds`` (0: never) and a grace."""

    def __init__(self, seconds: float) -> None:
        self.limit = seconds + GRACE if seconds else math.inf
        self._clock, self._looked = 0.0, time.monotonic()
        self._seen: dict[str, tuple[object, float]] = {}

    def silent(self, pulses: Mapping[str, object]) -> list[str]:
        """Of all workers that should be alive, those whose pulse has not changed for too long; each is named once."""
        now = time.monotonic()
        self._clock, self._looked = self._clock + min(now - self._looked, MOST_PAUSE), now
        before, self._seen = self._seen, {}
        for worker, pulse in pulses.items():
            same = worker in before and before[worker][0] == pulse
            self._seen[worker] = before[worker] if same else (pulse, self._clock)
        late = [worker for worker, (_, since) in self._seen.items() if self._clock - since > self.limit]
        self._seen.update({worker: (pulses[worker], self._clock) for worker in late})
        return late


@contextmanager
def over_ray() -> Iterator[None]:
    """Ends this process in one line where Ray itself dies while the block runs: its calls would never return."""
    context = ray.get_runtime_context()
    (own,) = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
    places = {"head": context.gcs_address, "raylet": f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}"}
    ended = threading.Event()

    def look() -> None:
        missed, last = dict.fromkeys(places, 0), dict.fromkeys(places, time.monotonic())
        while not ended.wait(1.0):
            for name, place in places.items():
                if _answers(place):
                    missed[name], last[name] = 0, time.monotonic()
                    continue
                missed[name] += 1  # of some looks at least: this process may itself have stood still
                if missed[name] > LOOKS and time.monotonic() - last[name] > LOST[name] and not ended.is_set():
                    told = f"error: Ray's {name} at {place} is gone: run the same command again to resume"
                    print(f"\n{told}", file=sys.stderr, flush=True)
                    os._exit(1)  # nothing else would end it: threads of Ray wait for what does not come

    threading.Thread(target=look, name="watch over Ray", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _answers(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
