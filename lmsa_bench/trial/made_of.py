"""What a function is made of, as text: two with the same text do the same, as long as their modules are the same."""

import hashlib
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple


class MadeOf(NamedTuple):
    """The text, and the functions whose modules decide the rest."""

    text: str
    functions: tuple[Callable[..., Any], ...]


def made_of(value: Any, plain: Callable[[Any], Any] = lambda value: value) -> MadeOf | None:
    """What a function is made of, with all that it has captured; None where that is more than functions and values.

    ``plain`` maps a plain value to what of it matters.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return MadeOf(repr(plain(value)), ())
    if isinstance(value, type):
        return MadeOf(f"{value.__module__}.{value.__qualname__}", (value,))
    if isinstance(value, tuple):
        return _joined("", value, plain)
    if isinstance(value, partial):
        named = (part for item in value.keywords.items() for part in item)
        return _joined("partial", (value.func, *value.args, *named), plain)
    if isinstance(value, FunctionType) and not value.__name__.startswith("<"):  # two lambdas may share name and place
        code, captured = value.__code__, [cell.cell_contents for cell in value.__closure__ or ()]
        own = (
            f"{value.__module__}.{value.__qualname__}:{code.co_firstlineno}:{hashlib.sha256(code.co_code).hexdigest()}"
        )
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        found = _joined(own, (*captured, *defaults), plain)
        return found and MadeOf(found.text, (value, *found.functions))
    return None


def _joined(own: str, values: tuple[Any, ...], plain: Callable[[Any], Any]) -> MadeOf | None:
    parts = [made_of(value, plain) for value in values]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return MadeOf(
        f"{own}({', '.join(part.text for part in known)})", tuple(f for part in known for f in part.functions)
    )
