"""A given set of layers, with Adam: what the best pair of layers is worth (paper, section 2.2: a "small subset")."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.errors import UserError
from lmsa_bench.methods.method import Method, NonNegative, Positive


def given_layers(layers: str, lr: Positive, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the layers named, such as ``0+3``, all at one rate; raises UserError where these are no numbers."""
    numbers = layers.split("+")
    if not all(number.isdecimal() for number in numbers) or len(set(map(int, numbers))) < len(numbers):
        raise UserError(f"layers {layers!r}: give different numbers joined by +, such as 0+3")
    return Method(selectors.only(*map(int, numbers)), partial(Adam, lr=lr, weight_decay=weight_decay))
