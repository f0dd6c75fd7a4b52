"""The parameters of a suite's models and of their layers (paper, table 2)."""

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from lmsa_bench.analysis.report import Section
from lmsa_bench.analysis.text import aligned
from lmsa_bench.errors import UserError

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite  # imports torch, which no table needs


def section(suite: "Suite") -> Section | None:
    """How many parameters each model has, and how many of them are in each layer; None without a model of the paper."""
    import torch

    from lmsa_bench.models import MODELS
    from lmsa_bench.models.weights import PUBLISHED
    from lmsa_bench.trial.names import task_of

    used = defaultdict[tuple[str, int, tuple[int, int, int]], list[str]](list)
    for trial in {trial.task: trial for trial in suite.trials}.values():
        with suppress(UserError):  # of a plug-in's task that is not here
            task = task_of(trial)
            used[task.model, task.classes, task.input_shape].append(task.name)
    if not {name for name, *_ in used} & set(PUBLISHED):
        return None
    document, rows = {}, [["model", "tasks", "parameters", "of each layer"]]
    for (name, classes, shape), tasks in used.items():
        with torch.device("meta"):
            model = MODELS.get(name)(classes, shape)
        total = sum(parameter.numel() for parameter in model.parameters())
        layers = {layer: sum(p.numel() for p in model.parameters_of(n)) for n, layer in enumerate(model.names)}
        document["+".join(tasks)] = {"model": name, "parameters": total, "layers": layers}
        shown = [f"{layer} {count:,}" for layer, count in layers.items()]
        if len(set(layers.values())) < len(layers) / 2:  # a transformer's blocks, of which most are alike
            shown = [shown[0], "…", shown[-1]]
        rows.append([name, ", ".join(tasks), f"{total:,}", ", ".join(shown)])
    title = "Parameters of the source models (the paper's table 2)"
    return Section("parameters", [title, "", *aligned(rows)], document)
