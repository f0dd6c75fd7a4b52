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


def made_of(value: Any) -> MadeOf | None:
    """What a function is made of, with all that it has captured; None where that is more than functions and values."""
    if value is None or isinstance(value, bool | int | float | str):
        return MadeOf(repr(value), ())
    if isinstance(value, tuple):
        return _joined("", value)
    if isinstance(value, partial):
        return _joined(
            "partial", (value.func, *value.args, *(part for item in value.keywords.items() for part in item))
        )
    if isinstance(value, FunctionType) and not value.__name__.startswith("<"):  # two lambdas may share name and place
        code, captured = value.__code__, [cell.cell_contents for cell in value.__closure__ or ()]
        own = (
            f"{value.__module__}.{value.__qualname__}:{code.co_firstlineno}:{hashlib.sha256(code.co_code).hexdigest()}"
        )
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        found = _joined(own, (*captured, *defaults))
        return found and MadeOf(found.text, (value, *found.functions))
    return None


def _joined(own: str, values: tuple[Any, ...]) -> MadeOf | None:
    parts = [made_of(value) for value in values]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return MadeOf(
        f"{own}({', '.join(part.text for part in known)})", tuple(f for part in known for f in part.functions)
    )
