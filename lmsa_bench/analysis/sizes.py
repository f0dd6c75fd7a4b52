"""The parameters of a suite's models and of their layers (paper, table 2)."""

from collections import defaultdict
from typing import TYPE_CHECKING

from lmsa_bench.analysis.report import Section
from lmsa_bench.analysis.text import aligned

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite


def section(suite: "Suite") -> Section | None:
    """How many parameters each model has, and how many of them are in each layer; None without a model of the paper."""
    facts = {task: found for task, found in suite.facts.items() if task in suite.tasks}
    if not any(found.published for found in facts.values()):
        return None
    used = defaultdict[tuple[str, int, tuple[tuple[str, int], ...]], list[str]](list)
    for task, found in facts.items():
        used[found.model, found.parameters, tuple(found.layers.items())].append(task)
    document, rows = {}, [["model", "tasks", "parameters", "of each layer"]]
    for (name, total, layers), tasks in used.items():
        document["+".join(tasks)] = {"model": name, "parameters": total, "layers": dict(layers)}
        shown = [f"{layer} {count:,}" for layer, count in layers]
        if len({count for _, count in layers}) < len(layers) / 2:  # a transformer's blocks, of which most are alike
            shown = [shown[0], "…", shown[-1]]
        rows.append([name, ", ".join(tasks), f"{total:,}", ", ".join(shown)])
    title = "Parameters of the source models (the paper's table 2)"
    return Section("parameters", [title, "", *aligned(rows)], document)
