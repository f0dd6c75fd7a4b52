"""No adaptation: the source model without fine-tuning (paper, table 1)."""

from lmsa_bench.control import selectors
from lmsa_bench.methods.method import Method


def no_adaptation() -> Method:
    """Tunes nothing."""
    return Method(selectors.none(), None)
