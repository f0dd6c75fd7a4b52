"""Named factories: a method, model or task is looked up by its name in the suite file."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lmsa_bench.errors import UserError, nearest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Factories of T by name; the key of a factory is its function name, in snake_case."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, factory: F) -> F:
        """Adds a factory, also as a decorator; raises UserError if another factory has its name."""
        name = factory.__name__
        known = self._factories.get(name)
        # Importing a module twice under one name, as happens to plugins, defines its factories again.
        if known is not None and (known.__module__, known.__qualname__) != (factory.__module__, factory.__qualname__):
            raise UserError(f"{self.noun} {name!r} of {factory.__module__} is already registered by {known.__module__}")
        self._factories[name] = factory
        return factory

    def get(self, name: str) -> Callable[..., T]:
        """The factory of that name; raises UserError with the closest known name."""
        if name not in self._factories:
            raise UserError(f"unknown {self.noun} {name!r}: {nearest(name, self._factories)}")
        return self._factories[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)
