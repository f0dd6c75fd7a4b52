"""The registry of shift tasks: one line a task."""

from lmsa_bench.registry import Registry
from lmsa_bench.tasks import digits, fashion

TASKS = Registry("task")

TASKS.register(digits.digits_c)
TASKS.register(digits.digits_flip)
TASKS.register(digits.digits_super)
TASKS.register(digits.digit_pairs_c)
TASKS.register(digits.digits_masked)
TASKS.register(fashion.fashion_c)
TASKS.register(fashion.fashion_flip)
TASKS.register(fashion.fashion_super)
TASKS.register(fashion.fashion_pairs_c)
