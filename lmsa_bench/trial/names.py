"""From the names in a trial to the objects they name."""

from dataclasses import replace

from lmsa_bench.methods import METHODS, Method
from lmsa_bench.tasks import build
from lmsa_bench.tasks.task import Task
from lmsa_bench.trial.spec import Trial


def task_of(trial: Trial) -> Task:
    """The trial's task with its options and source; raises UserError."""
    task = build(trial.task, trial.options, trial.weights)
    return replace(task, source=replace(task.source, each=True)) if trial.sources == "each" else task


def method_of(trial: Trial) -> Method:
    """The trial's method with its hyper-parameters; raises UserError."""
    return METHODS.get(trial.method)(**trial.hparams)
