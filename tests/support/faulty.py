"""A plugin with methods that are slow, or that fail as on a cluster, in the third epoch of a trial on digits."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import ray
import torch

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Method, Positive


class Slow(Adam):
    """Adam with a pause before each step, and a fault before the eleventh (an epoch has four): always, or only once."""

    def __init__(self, model, lr, pause, fault=None, once=None):
        super().__init__(model, lr)
        self.pause, self.fault, self.once = pause, fault, once

    def step(self, x, target, layers, start=0):
        time.sleep(self.pause)
        steps = max((int(state["step"]) for state in self.optimizer.state.values()), default=0)
        if self.fault and steps == 10:
            marker = Path(os.environ["FAULTS"]) / (self.once or "")
            if not self.once or not marker.exists():
                marker.touch()
                self.fault()
        return super().step(x, target, layers, start)

    def state_dict(self):  # nothing more than Adam's
        return super().state_dict()

    def load_state_dict(self, state):
        super().load_state_dict(state)


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def hang():
    time.sleep(10_000)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def quit_at_once():
    os._exit(1)


def recorded(n):
    """Selects layer n, and appends each trial that starts from its first epoch to a file."""

    def select(model, batches, step, generator):
        if not next(model.parameters()).is_meta:  # as where a suite is loaded
            with open(Path(os.environ["FAULTS"]) / "started", "a") as file:
                file.write(f"{n} {generator.initial_seed()}\n")
        return selectors.only(n)(model, batches, step, generator)

    return select


def stop_in_start():
    """Where asked to, stops the first worker that starts for a trial."""
    marker = Path(os.environ.get("STOP_IN_START") or os.devnull)
    if not marker.exists() and ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        marker.touch()
        stop()


stop_in_start()


@METHODS.register
def slow(lr: Positive, n: int = 0, pause: float = 0.1) -> Method:
    """Tunes one layer."""
    return Method(recorded(n), partial(Slow, lr=lr, pause=pause))


@METHODS.register
def oom_once(lr: Positive) -> Method:
    """Runs out of memory the first time."""
    return Method(selectors.only(0), partial(Slow, lr=lr, pause=0.3, fault=out_of_memory, once="oom"))


@METHODS.register
def hangs(lr: Positive) -> Method:
    """Hangs each time."""
    return Method(selectors.only(0), partial(Slow, lr=lr, pause=0.3, fault=hang))


@METHODS.register
def stops_once(lr: Positive) -> Method:
    """Is stopped the first time, all its threads at once."""
    return Method(selectors.only(0), partial(Slow, lr=lr, pause=0.3, fault=stop, once="stop"))


@METHODS.register
def quits(lr: Positive, fatal: float = 0.0) -> Method:
    """Ends its worker each time at one rate, and is fast at all others."""
    return Method(recorded(0), partial(Slow, lr=lr, pause=0.0, fault=quit_at_once if lr == fatal else None))
