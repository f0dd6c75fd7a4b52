"""Suites as they were when they were loaded, in the user's cache: a command that only reads results needs no torch."""

import io
import pickle
import platform
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmsa_bench.atomic import user_cache, write_whole
from lmsa_bench.suites.spec import Row, Suite, TaskFacts, file_of
from lmsa_bench.trial.provenance import code_of_package
from lmsa_bench.trial.spec import Trial, hash_of

VERSIONS = ("torch", "torchvision", "timm")  # beside this package, what decides whether a suite is right


def load(name: str, seeds: int | None = None) -> Suite:
    """As ``suites.load.load``, from the cache where neither the file nor the program has changed; raises UserError.

    Suites with plug-ins or given weights depend on other files too, and are read anew.
    """
    path = file_of(name)
    key = b""
    with suppress(Exception):  # it is not there, or damaged: made again
        kept = user_cache() / "suites" / f"{hash_of([str(path.resolve()), seeds])}.pickle"
        key = _key(path)
        if "torch" not in sys.modules and (content := kept.read_bytes()).startswith(key):
            found: Suite = _Suites(io.BytesIO(content[len(key) :])).load()
            return replace(found, file=str(path))
    from lmsa_bench.suites.load import load as load_anew
    from lmsa_bench.trial.code import modules_of

    suite = load_anew(name, seeds)
    if key and not suite.plugins and all(trial.weights in ("pretrain", "hub") for trial in suite.trials):
        first = {trial.configuration: trial for trial in suite.trials}
        suite = replace(suite, modules={each: modules_of(trial) for each, trial in first.items()})
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, key + pickle.dumps(suite))
    return suite


class _Suites(pickle.Unpickler):
    """Reads suites of plain values and nothing else: the folder may be open to others."""

    def find_class(self, module: str, name: str) -> Any:
        """See pickle.Unpickler."""
        for kind in (Suite, Row, TaskFacts, Trial):
            if (module, name) == (kind.__module__, kind.__qualname__):
                return kind
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a suite")


def _key(path: Path) -> bytes:
    """What a suite is made of, as a hash."""
    installed = [platform.python_version(), *map(version, VERSIONS)]
    return hash_of([code_of_package(), installed, path.read_text()]).encode()
