"""A plug-in that raises where the environment variable RAISES says."""

import os
from functools import partial

from lmsa_bench.control import CRITERIA, selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Method, Positive
from lmsa_bench.tasks import TASKS, digits
from lmsa_bench.tasks.task import Task


def momentum(where: str) -> None:
    if os.environ.get("RAISES") == where:
        raise KeyError("momentum")  # RAISED


class Raising(Adam):
    def step(self, x, target, layers, start=0):
        momentum("step")
        return super().step(x, target, layers, start)


@CRITERIA.register
def raising_criterion(batches=5):
    def score(model, tuning):
        next(iter(tuning))  # there are batches only in a trial: without them, loading the suite would tell
        momentum("criterion")
        raise AssertionError("no test comes here")

    return score


@METHODS.register
def raising(lr: Positive) -> Method:
    """Tunes the last layer."""
    momentum("factory")
    if os.environ.get("RAISES") == "criterion":
        return Method(selectors.best(raising_criterion()), partial(Raising, lr=lr))
    return Method(selectors.only(-1), partial(Raising, lr=lr))


@TASKS.register
def raising_task() -> Task:
    """Flipped digits."""
    from dataclasses import replace

    task = digits.digits_flip()

    def splits(root, variant, seed):
        momentum("splits")
        return task.splits(root, variant, seed)

    return replace(task, name="raising_task", splits=splits)
