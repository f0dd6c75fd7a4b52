"""What decides a trial's numbers, as code: the modules that its method, task and model use, followed without running.

Comments, docstrings and layout are no code. Installed libraries are told by their versions, and what a module imports
by a computed name is not seen.
"""

import ast
import hashlib
import json
import sys
import sysconfig
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from lmsa_bench import errors
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.methods.method import Named
from lmsa_bench.models import MODELS
from lmsa_bench.tasks import TASKS, build
from lmsa_bench.trial.spec import Trial, canonical, hash_of

PACKAGE = errors.PACKAGE.resolve()
# What every trial runs through.
SHARED = tuple(PACKAGE / name for name in ("trial/run.py", "trial/samples.py", "sources/model.py"))
TRAINING = PACKAGE / "sources" / "training.py"  # of the source model
# Of their members a trial names those that it uses: with all of them, everything would depend on everything.
REGISTRIES = tuple(PACKAGE / room / "__init__.py" for room in ("", "control", "methods", "models", "tasks"))
# They fetch, write and complain: no number depends on them, and a better message costs no trial.
SILENT = tuple(PACKAGE / f"{name}.py" for name in ("atomic", "download", "errors", "object_store", "registry"))


class Home(NamedTuple):
    """The folder that the names of imports start from; ``only`` this top name is looked up there ("": all)."""

    folder: Path
    only: str = ""


OURS = Home(PACKAGE.parent, PACKAGE.name)


def modules_of(trial: Trial) -> dict[str, str]:
    """The files whose code decides the trial, each with a digest: a plug-in's by its path from the plug-in's folder."""
    named = canonical([trial.hparams[name] for name in _registries(trial.method)])
    return _modules(trial.method, named, trial.task, canonical(dict(trial.options)))


def code_of(trial: Trial) -> str:
    """One hash of ``modules_of``; equal where nothing that decides the trial has changed."""
    return hash_of(modules_of(trial))


def code_of_states(trial: Trial) -> str:
    """The same of what makes a trial's samples, and of them its states below any layer."""
    return _code_of_states(trial.task, canonical(dict(trial.options)))


@cache
def _code_of_states(task: str, options: str) -> str:
    factories = [TASKS.get(task), MODELS.get(build(task, json.loads(options)).model)]
    return hash_of(_listing([*map(_start, factories), (PACKAGE / "trial" / "samples.py", OURS)]))


def code_of_functions(functions: Iterable[Callable[..., Any]]) -> str:
    """The same of these functions, which select layers."""
    return _code_of_files(tuple(dict.fromkeys(map(_start, functions))))


@cache
def _code_of_files(starts: tuple[tuple[Path, Home], ...]) -> str:
    return hash_of(_listing([*starts, (PACKAGE / "trial" / "selecting.py", OURS)]))


@cache
def code_of_source(model: str) -> str:
    """The same of what makes a source model: the network's code, and that of its training."""
    return hash_of(_listing([_start(MODELS.get(model)), (TRAINING, OURS)]))


def beside(path: Path) -> dict[str, Path]:
    """The files beside or below a plug-in file that it imports, by the top name of the module."""
    found: dict[str, Path] = {}
    for file, home in _closure([(path, Home(path.parent))]):
        if home != OURS and file != path:
            parts = file.relative_to(home.folder).with_suffix("").parts
            top = home.folder / parts[0]
            found[parts[0]] = top.with_suffix(".py") if len(parts) == 1 else top
    return found


@cache
def _modules(method: str, named: str, task: str, options: str) -> dict[str, str]:
    choices = zip(_registries(method).values(), json.loads(named), strict=True)
    factories: list[Callable[..., Any]] = [METHODS.get(method), TASKS.get(task)]
    factories += [MODELS.get(build(task, json.loads(options)).model)]
    factories += [registry.get(name) for registry, name in choices]
    return _listing([*map(_start, factories), *((path, OURS) for path in (*SHARED, TRAINING))])


@cache
def _registries(method: str) -> dict[str, Any]:
    """The registries that hyper-parameters of a method are names in, by hyper-parameter."""
    hints = get_type_hints(METHODS.get(method), include_extras=True)
    marks = {name: [mark for mark in get_args(hint) if isinstance(mark, Named)] for name, hint in hints.items()}
    return {name: found[0].registry for name, found in sorted(marks.items()) if found}


def _start(factory: Callable[..., Any]) -> tuple[Path, Home]:
    """The file that defines a factory, and where the names of its imports start; raises UserError."""
    module = sys.modules.get(factory.__module__)
    file = getattr(module, "__file__", None)  # a notebook has none
    if file is None:
        raise UserError(
            f"{factory.__name__} is defined in no file (in {factory.__module__}), so its results could not name "
            "their code: put it into a module"
        )
    path, name = Path(file).resolve(), factory.__module__
    if path.is_relative_to(PACKAGE):
        return path, OURS
    depth = name.count(".") + (path.stem == "__init__")
    folder = path.parents[depth]
    if path.relative_to(folder).with_suffix("").parts[: name.count(".") + 1] != tuple(name.split(".")):
        return path, Home(path.parent)  # a file that was run, or imported by its path
    installed = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib", "stdlib")}
    return path, Home(folder, name.partition(".")[0] if folder in installed else "")


def _listing(starts: Iterable[tuple[Path, Home]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, home in _closure(starts):
        name, digest = path.relative_to(home.folder).as_posix(), _read(path)[1]
        if name in found and found[name] != digest:  # of two plug-ins with files of one name
            digest = hashlib.sha256("".join(sorted((found[name], digest))).encode()).hexdigest()[:12]
        found[name] = digest
    return dict(sorted(found.items()))


def _closure(starts: Iterable[tuple[Path, Home]]) -> list[tuple[Path, Home]]:
    """These files and all that they import, one through another."""
    found, waiting = dict[Path, Home](), list(starts)
    while waiting:
        path, home = waiting.pop()
        if path not in found and path not in SILENT:
            found[path] = home
            waiting += _imports(path, home)
    return sorted(found.items())


@cache
def _read(path: Path) -> tuple[ast.Module, str]:
    """A module as a tree, and a digest of what it does. Read once: what this process runs is what it found there."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), so its code has no name") from None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # of a file that is never imported, else it would have been told
        return ast.Module([], []), hashlib.sha256(text).hexdigest()[:12]
    return tree, hashlib.sha256(repr(_shape(tree)).encode()).hexdigest()[:12]


def _shape(node: Any) -> Any:
    """A tree as nested plain values, without docstrings and places; the same from one version of Python to another."""
    if isinstance(node, list):
        return [_shape(part) for part in node]
    if not isinstance(node, ast.AST):
        return node
    values = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        values["body"] = node.body[1:]
    return [type(node).__name__, *([name, _shape(value)] for name, value in values.items() if value not in (None, []))]


@cache
def _imports(path: Path, home: Home) -> list[tuple[Path, Home]]:
    """The files that a module's import statements name, wherever in it they stand."""
    tree, _ = _read(path)
    used = {text for node in ast.walk(tree) if isinstance(node, ast.Attribute) and (text := _dotted(node))}
    found: list[tuple[Path, Home]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = _absolute(node, path, home)
            for alias in node.names:
                found += _named(module, alias.name, home)
                found += _attributes(f"{module}.{alias.name}", alias.asname or alias.name, used, home)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found += _plain(alias.name, home)
                found += _attributes(alias.name if alias.asname else top, alias.asname or top, used, home)
    return list(dict.fromkeys(found))


def _dotted(node: ast.expr) -> str:
    """The text of a.b.c, "" of an attribute of anything but a name."""
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _attributes(module: str, bound: str, used: Iterable[str], home: Home) -> list[tuple[Path, Home]]:
    """What is used of a package that a module knows as ``bound``."""
    found: list[tuple[Path, Home]] = []
    for text in sorted(used):
        if text.startswith(f"{bound}."):
            place = module
            for name in text.removeprefix(f"{bound}.").split("."):
                if not _is_package(place, home):
                    break
                found += _named(place, name, home)
                place = f"{place}.{name}"
    return found


def _is_package(module: str, home: Home) -> bool:
    return (found := _find(module, home)) is not None and found[0].stem == "__init__"


def _absolute(node: ast.ImportFrom, path: Path, home: Home) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(home.folder).parent.parts
    return ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])


def _plain(module: str, home: Home) -> list[tuple[Path, Home]]:
    found = _find(module, home)
    return [] if found is None or found[0] in REGISTRIES else [found]


def _named(module: str, name: str, home: Home, seen: frozenset[str] = frozenset()) -> list[tuple[Path, Home]]:
    """The files that ``from module import name`` needs: of a package, the one that defines the name.

    A package is part itself only where it defines the name, and is none of REGISTRIES.
    """
    found = _find(module, home)
    if found is None or not _is_package(module, home) or module in seen:
        return _plain(module, home)
    if _find(f"{module}.{name}", home) is not None:
        return _plain(f"{module}.{name}", home)
    needed: list[tuple[Path, Home]] = []
    bound = False
    for node in ast.walk(_read(found[0])[0]):
        if isinstance(node, ast.ImportFrom):
            real = [alias.name for alias in node.names if name == (alias.asname or alias.name)]
            bound |= bool(real)
            needed += [one for own in real for one in _named(_absolute(node, *found), own, found[1], seen | {module})]
    return needed if bound else _plain(module, home)


@cache
def _find(module: str, home: Home) -> tuple[Path, Home] | None:
    """The file of a module of this program, or below a plug-in's folder; None for an installed library's."""
    top = module.partition(".")[0]
    for place in dict.fromkeys((OURS, home)):
        if not module or (place.only and top != place.only):
            continue
        path = place.folder.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file, place
    return None
