"""YAML files and values that users wrote, each checked before anything is made of it."""

import itertools
import math
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from lmsa_bench.errors import UserError, nearest, one_line

MOST_VALUES = 500_000  # of a file, aliases counted as what they refer to
_REPR = reprlib.Repr()  # looks at a few items only: aliases make texts of terabytes out of a few lines
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong = 3, 80, 80


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number and 010 is none (as in YAML 1.2) and a key given twice is an error."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if not text.isprintable():  # such as a NUL or half a surrogate, which neither a path nor a store can hold
            raise yaml.constructor.ConstructorError(None, None, f"{_short(text)} does not print", node.start_mark)
        return text

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {_short(key)} is not a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag.rsplit(":", 1)[1] in ("bool", "null", "merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Values that JSON has too: no dates, bytes or sets.
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[1] in ("map", "seq", "str", "float", "bool", "null")
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
# YAML 1.1 reads 010 as 8 and 1:30 as 90: here they are no numbers.
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$", re.IGNORECASE),
    list("-+0123456789."),
)


def parse(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises UserError, with the line where it is known."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path}: {at}{error.problem or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {one_line(error)}") from None
    except (LookupError, AttributeError):
        raise UserError(f"{path}: not YAML: a value is not of the type that its tag names") from None
    if len(list(itertools.islice(_values(content), MOST_VALUES + 1))) > MOST_VALUES:
        raise UserError(f"{path}: has more than {MOST_VALUES} values; are there aliases of aliases?")
    if not isinstance(content, dict):
        raise UserError(f"{path}: a suite file is a mapping of keys to values")
    return content


def checked_fields(content: Any, schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The content with its defaults, each value of its type; raises UserError at an unknown or missing field."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a mapping with the keys {', '.join(schema)}, not {_short(content)}")
    for name in content:
        if name not in schema:
            raise UserError(f"{where}: unknown key {name!r}: {nearest(str(name), schema)}")
    for name, rest in schema.items():
        if len(rest) == 1 and name not in content:
            raise UserError(f"{where}: the key {name!r} is missing")
    return {
        name: check(content[name], rest[0], f"{where}: {name}") if name in content else rest[1]
        for name, rest in schema.items()
    }


def check(value: Any, annotation: Any, where: str) -> Any:
    """The value, where it is of that type and range; raises UserError."""
    try:
        checked = TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Input should be ")
        raise UserError(f"{where}: {_short(value)} is not valid: it should be {reason}") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise UserError(f"{where}: {value!r} is not valid: it should be a finite number")
    return checked


def refuse_empty(values: Collection[Any], where: str) -> None:
    """Raises UserError where there are no values."""
    if not values:
        raise UserError(f"{where}: is empty; name at least one")


def _values(content: Any) -> Iterator[Any]:
    """The content and all values below it, each as often as it occurs: without end where it holds itself."""
    waiting = [content]
    while waiting:
        yield (value := waiting.pop())
        if isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _short(value: Any) -> str:
    return _REPR.repr(value)[:80]
