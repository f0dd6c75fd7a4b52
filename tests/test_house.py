"""The house: which part may import which, and the registries that hold it together."""

import ast
from pathlib import Path

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.registry import Registry

PACKAGE = Path(__file__).parents[1] / "lmsa_bench"
FLOORS = [  # a module may import its own floor's package and what is below it
    {"errors"},
    {"registry", "seeding", "atomic", "download", "plugins", "strict_yaml"},
    {"models"},
    {"control"},
    {"methods", "tasks"},
    {"trial"},
    {"source_training"},
    {"results", "suite", "pretrain", "provenance", "progress"},
    {"plan", "report", "data"},
    {"sweep"},
]
FENCES = {
    "ray": {"sweep"},
    "mlflow": {"results/store.py"},
    "timm": {"models", "tasks"},
    "torchvision": {"models", "tasks"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(part: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "lmsa_bench":
            other = rest.split(".")[0]
            below = floor(other) < floor(part)
            assert below or other == part or {part, other} <= {"results", "suite"}, f"{part} imports {name}"
        fence = FENCES.get(top)
        place = str(path.relative_to(PACKAGE))
        assert fence is None or place in fence or place.split("/")[0] in fence, f"{place} imports {name}"


def test_control_knows_nothing_of_ours_but_layered_models():
    for path in (PACKAGE / "control").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("lmsa_bench")}
        assert all(name.startswith(("lmsa_bench.control", "lmsa_bench.models.layered")) for name in ours)


def test_no_method_is_named_in_shared_code():
    from lmsa_bench.methods import METHODS

    for path in FILES:
        if path.parent.name in ("methods", "control"):
            continue
        compared = [
            constant.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare)
            for constant in ast.walk(node)
            if isinstance(constant, ast.Constant)
        ]
        assert not set(METHODS.names()) & {value for value in compared if isinstance(value, str)}, path


def test_registry():
    things = Registry("thing")

    @things.register
    def first():
        return 1

    assert things.get("first") is first and things.names() == ["first"]
    things.register(first)  # the same again is no conflict
    with pytest.raises(UserError, match="unknown thing 'fisrt': did you mean 'first'"):
        things.get("fisrt")

    def other():
        return 2

    other.__name__ = "first"
    with pytest.raises(UserError, match=r"thing 'first' of .* is already registered"):
        things.register(other)
