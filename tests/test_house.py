"""The house: which part may import which, and the registries that hold it together."""

import ast
from pathlib import Path

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.registry import Registry

PACKAGE = Path(__file__).parents[1] / "lmsa_bench"
FLOORS = [  # a module may import what is below its room, and its own room
    {"errors"},
    {"seeding", "atomic", "registry", "download", "new"},
    {"object_store"},
    {"models"},
    {"control"},
    {"methods", "tasks"},
    {"trial", "data"},
    {"sources", "suites", "results"},
    {"analysis"},
    {"local", "report"},
    {"library"},
    {"sweep", "bench", "bundle"},
]
FENCES = {
    "ray": {"sweep"},
    "mlflow": {"results/tracking.py", "results/runs.py"},
    "matplotlib": {"report"},
    "timm": {"models", "tasks"},
    "torchvision": {"models", "tasks"},
}
MOST = 0.22  # of the package's lines in one room; tasks, of which each is a file, apart
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor(part: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part.startswith("__"):  # the library and the console script, above all rooms
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "lmsa_bench":
            other = rest.split(".")[0]
            assert other == part or floor(other) < floor(part), f"{part} imports {name}"
        fence = FENCES.get(top)
        place = str(path.relative_to(PACKAGE))
        assert fence is None or place in fence or place.split("/")[0] in fence, f"{place} imports {name}"


def test_no_file_imports_itself_in_a_circle():
    names = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path for path in FILES}

    def targets(path: Path) -> set[str]:
        ours = {name.removeprefix("lmsa_bench.") for name in imports(path) if name.startswith("lmsa_bench.")}
        return {name if name in names else name.rpartition(".")[0] for name in ours} & names.keys()

    below = {name: targets(path) for name, path in names.items() if not name.endswith("__")}
    while below:
        leaves = {name for name, needed in below.items() if not needed & below.keys()}
        assert leaves, f"circles among {sorted(below)}"
        below = {name: needed for name, needed in below.items() if name not in leaves}


def test_rooms_are_of_a_size_to_be_read():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    rooms: dict[str, int] = {}
    for path, count in lines.items():
        room = path.relative_to(PACKAGE).parts[0]
        rooms[room] = rooms.get(room, 0) + count
    most = MOST * sum(lines.values())
    assert not {room: count for room, count in rooms.items() if room != "tasks" and count > most}
    assert sum(room.endswith(".py") and not room.startswith("__") for room in rooms) <= 8
    assert not {path.name for path in FILES} & {"utils.py", "common.py", "helpers.py", "misc.py"}


def test_control_knows_nothing_of_ours_but_layered_models():
    for path in (PACKAGE / "control").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("lmsa_bench")}
        allowed = ("lmsa_bench.control", "lmsa_bench.models.layered", "lmsa_bench.errors", "lmsa_bench.registry")
        assert all(name.startswith(allowed) for name in ours)


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
