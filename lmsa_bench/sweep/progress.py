"""How far a sweep has come: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

SECONDS = 10  # between plain lines
ENOUGH = 5  # ended trials after the first, from which a rate is told


class Progress:
    """Counts ended trials with their rate since the first of them, and the time left once some have ended."""

    def __init__(self, total: int, plain: bool | None = None) -> None:
        self.total, self.done = total, 0
        self.first = self.printed = time.monotonic()  # when the first trial ended: until then Ray and workers start
        plain = not sys.stderr.isatty() if plain is None else plain
        self.bar = None if plain else tqdm(total=total, unit="trial", smoothing=0.05, dynamic_ncols=True)

    def add(self, name: str) -> None:
        """One more trial has ended."""
        self.done += 1
        now = time.monotonic()
        if self.done == 1:
            self.first = now
        if self.bar is not None:
            self.bar.set_postfix_str(name)
            self.bar.update()
        elif self.done == self.total or now - self.printed >= SECONDS:
            self.printed = now
            told = ""
            if self.done > ENOUGH and now > self.first:
                rate = (self.done - 1) / (now - self.first)
                told = f", {rate:.2f} trials/s, {clock((self.total - self.done) / rate)} left"
            print(f"{self.done}/{self.total} trials{told}; last: {name}", flush=True)

    def close(self) -> None:
        """Leaves the terminal to what follows."""
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """A duration for people, such as 1 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
