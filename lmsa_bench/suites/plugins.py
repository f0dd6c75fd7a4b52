"""A user's own modules, which register methods, tasks and models."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmsa_bench.errors import UserError, in_one_line


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


@contextmanager
def located(where: str) -> Iterator[None]:
    """Around a call of a user's factory: whatever it raises becomes a UserError with its file and line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:
        raise UserError(f"{where}: {in_one_line(error)}") from error
