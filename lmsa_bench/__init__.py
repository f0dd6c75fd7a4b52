"""A distributed benchmark of layer-wise fine-tuning methods, after the paper L-MSA.

    import lmsa_bench as lb

    suite = lb.load_suite("quickstart")
    results = lb.run(suite.only(tasks=["digits_flip"]))
    results.report(suite)

What is public is named below and imported when it is first asked for, so that this import takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmsa_bench.control import CRITERIA
    from lmsa_bench.errors import UserError
    from lmsa_bench.library import Results, open_results, run
    from lmsa_bench.methods import METHODS, Method
    from lmsa_bench.models import MODELS, LayeredModel
    from lmsa_bench.report.figures import FIGURES
    from lmsa_bench.report.notebook import SuiteReport
    from lmsa_bench.suites.load import load as load_suite
    from lmsa_bench.suites.spec import Suite
    from lmsa_bench.tasks import TASKS
    from lmsa_bench.tasks.task import Task
    from lmsa_bench.trial.check import check_resume
    from lmsa_bench.trial.spec import Trial

_PUBLIC = {
    "CRITERIA": "lmsa_bench.control:CRITERIA",
    "FIGURES": "lmsa_bench.report.figures:FIGURES",
    "LayeredModel": "lmsa_bench.models:LayeredModel",
    "METHODS": "lmsa_bench.methods:METHODS",
    "MODELS": "lmsa_bench.models:MODELS",
    "Method": "lmsa_bench.methods:Method",
    "Results": "lmsa_bench.library:Results",
    "Suite": "lmsa_bench.suites.spec:Suite",
    "SuiteReport": "lmsa_bench.report.notebook:SuiteReport",
    "TASKS": "lmsa_bench.tasks:TASKS",
    "Task": "lmsa_bench.tasks.task:Task",
    "Trial": "lmsa_bench.trial.spec:Trial",
    "UserError": "lmsa_bench.errors:UserError",
    "check_resume": "lmsa_bench.trial.check:check_resume",
    "load_suite": "lmsa_bench.suites.load:load",
    "open_results": "lmsa_bench.library:open_results",
    "run": "lmsa_bench.library:run",
}

__all__ = [
    "CRITERIA",
    "FIGURES",
    "METHODS",
    "MODELS",
    "TASKS",
    "LayeredModel",
    "Method",
    "Results",
    "Suite",
    "SuiteReport",
    "Task",
    "Trial",
    "UserError",
    "check_resume",
    "load_suite",
    "open_results",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return vars(import_module(module))[attribute]


def __dir__() -> list[str]:
    return [*globals(), *__all__]
