"""The registry of distribution-shift tasks: one line per task."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmsa_bench.errors import UserError
from lmsa_bench.registry import Registry
from lmsa_bench.tasks import cifar, digits, fashion, imagenet, strengths
from lmsa_bench.tasks.from_folder import folder_task
from lmsa_bench.tasks.task import Task

__all__ = ["TASKS", "build", "folder_task"]

TASKS = Registry[Task]("task")

TASKS.register(digits.digits_c)
TASKS.register(digits.digits_flip)
TASKS.register(digits.digits_super)
TASKS.register(digits.digits_random)
TASKS.register(digits.digit_pairs_c)
TASKS.register(digits.digits_masked)
TASKS.register(digits.digits_bright_c)
TASKS.register(digits.digits_permuted)
TASKS.register(digits.digits_regrouped)
TASKS.register(digits.digit_pairs_bright)
TASKS.register(strengths.digits_noise)
TASKS.register(strengths.digits_dim)
TASKS.register(strengths.digits_rotated)
TASKS.register(strengths.digits_swapped)
TASKS.register(fashion.fashion_c)
TASKS.register(fashion.fashion_flip)
TASKS.register(fashion.fashion_super)
TASKS.register(fashion.fashion_pairs_c)
TASKS.register(strengths.fashion_noise)
TASKS.register(strengths.fashion_rotated)
TASKS.register(strengths.fashion_swapped)
TASKS.register(strengths.fashion_merged)
TASKS.register(cifar.cifar10_c)
TASKS.register(cifar.cifar_flip)
TASKS.register(cifar.cifar100)
TASKS.register(cifar.cifar100_masked)
TASKS.register(cifar.cifar100_random)
TASKS.register(imagenet.imagenet_c)
TASKS.register(imagenet.imagenet_3dcc)
TASKS.register(imagenet.living17)


def build(name: str, options: Mapping[str, Any] | None = None, weights: str = "") -> Task:
    """The task of that name with these options; raises UserError.

    ``weights`` replaces the default origin of its source model (see Source), unless empty.
    """
    task = TASKS.get(name)(**(options or {}))
    if not isinstance(task, Task):
        raise UserError(f"{name} returns a value of type {type(task).__name__}, not a Task")
    return replace(task, source=replace(task.source, weights=weights)) if weights else task
