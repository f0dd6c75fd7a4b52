"""A user's own modules, which register methods, tasks and models."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmsa_bench.errors import UserError, in_one_line
from lmsa_bench.trial.code import beside


def import_plugin(plugin: str) -> None:
    """Imports a user's module by name, or a .py file by path, so that it registers what it holds; raises UserError."""
    try:
        if plugin.endswith(".py"):
            if not Path(plugin).is_file():
                raise UserError(f"plugin {plugin}: there is no such file")
            name = f"lmsa_plugin_{hashlib.sha256(plugin.encode()).hexdigest()[:8]}_{Path(plugin).stem}"
            if name not in sys.modules:
                spec = importlib.util.spec_from_file_location(name, plugin)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                _find_beside(Path(plugin))
                sys.modules[name] = module
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules[name]  # a second import must not take it for a whole one
                    raise
        else:
            importlib.import_module(plugin)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{plugin}.".startswith(f"{error.name}."):
            raise UserError(f"plugin {plugin}: on import: {in_one_line(error)}") from error
        raise UserError(f"plugin {plugin}: there is no such module; is it installed, or on PYTHONPATH?") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"plugin {plugin}: on import: {in_one_line(error)}") from error


def _find_beside(plugin: Path) -> None:
    """Lets a plug-in import the files beside it, now and later; raises UserError where another module has a name."""
    folder = str(plugin.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that a file there takes no name from a library
    for name, file in beside(plugin).items():
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
        origins = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        if not any(
            origin and Path(origin).resolve() in (file.resolve(), (file / "__init__.py").resolve())
            for origin in origins
        ):
            raise UserError(f"plugin {plugin}: imports {name}, which is another module than {file.name} beside it")


@contextmanager
def located(where: str) -> Iterator[None]:
    """Around a call of a user's factory: whatever it raises becomes a UserError with its file and line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:
        raise UserError(f"{where}: {in_one_line(error)}") from error
