"""A user's own modules, which register methods, tasks and models."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path

from lmsa_bench.errors import UserError, one_line


def import_plugin(plugin: str) -> None:
    """Imports a user's module by name, or a .py file by path, so that it registers what it holds; raises UserError."""
    try:
        if plugin.endswith(".py"):
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
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own code raises is theirs to read
        raise UserError(f"plugin {plugin}: {type(error).__name__} on import: {one_line(error)}") from None
