"""What authors' factories return is looked at before anything runs, so that a mistake is one line, also in a plan."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lmsa_bench.control.criteria import Batch, NoBatches
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.errors import UserError
from lmsa_bench.methods import Method
from lmsa_bench.methods.method import as_it_is
from lmsa_bench.models import MODELS, LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.suites.plugins import located
from lmsa_bench.tasks.task import Task
from lmsa_bench.trial.spec import Value


def unloaded() -> Evidence:
    """Evidence without data: who asks for a batch of it raises NoBatches."""

    def batches() -> Iterator[Batch]:
        raise NoBatches("batches are there only in a trial")

    return Evidence(batches, batches, source_accuracy=1.0)


def hints_of(factory: Callable[..., Any], where: str) -> dict[str, Any]:
    """The type of each parameter of a factory; raises UserError where one has none."""
    with located(where):
        hints = get_type_hints(factory, include_extras=True)
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{where}: {factory.__name__} takes {parameter}: name each parameter, with its type")
        if name not in hints:
            raise UserError(f"{where}: {factory.__name__}: parameter {name!r} has no type; write {name}: float, say")
    return hints


def rehearsed(factory: Callable[..., Method], hparams: Mapping[str, Value], task: Task, where: str) -> Method:
    """The method, its selection tried on the task's model without data; raises UserError where it cannot work."""
    with located(where):
        method = factory(**hparams)
        if not isinstance(method, Method):
            raise UserError(f"returns {_kind(method)}, not a Method")
        model = prepared(shape_of(task), method)
        try:
            layers = method.select(model, unloaded(), 0, generator(0, "rehearsal")).layers
        except (NoBatches, NotImplementedError, RuntimeError):  # only data, or numbers, can tell
            return method
        if not set(layers) <= set(range(len(model))):
            raise UserError(f"selects {list(layers)}: the model has layers 0 to {len(model) - 1}")
    return method


def prepared(model: LayeredModel, method: Method) -> LayeredModel:
    """The model as the method changes it first, in a copy; itself where the method does not."""
    if method.prepare is as_it_is:  # a copy takes longer than all the rest
        return model
    method.prepare(model := copy.deepcopy(model), generator(0, "rehearsal"))
    return model


def shape_of(task: Task) -> LayeredModel:
    """The task's model without numbers (on torch's meta device); raises UserError."""
    return _shape_of(MODELS.get(task.model), task.classes, task.input_shape)


@cache
def _shape_of(factory: Callable[..., LayeredModel], classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    with located(f"model {factory.__name__}"):
        with torch.device("meta"), _Still():
            model = factory(classes, input_shape)
        if not isinstance(model, LayeredModel):
            raise UserError(f"returns {_kind(model)}, not a LayeredModel")
        return model.eval()


class _Still(TorchFunctionMode):
    """Leaves out what would only change numbers: of tensors that have none it takes seconds, for torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, first = getattr(func, "__name__", ""), next(iter((*args, *(kwargs or {}).values())), None)
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and isinstance(first, Tensor) and first.is_meta:
            return first
        return func(*args, **(kwargs or {}))


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
