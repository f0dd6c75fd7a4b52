"""What the trials of a table do not have in common: footnotes, since their mean hides it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lmsa_bench.analysis.selection import Cell

if TYPE_CHECKING:
    from lmsa_bench.suites.spec import Suite

MACHINE = ("device", "cpu", "instructions", "torch")  # in a result's provenance: what rounding depends on


def notes(suite: "Suite", cells: Iterable[Cell], origins: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What to say of cells from several codes, unequal budgets, source models of several codes, and kinds of machine.

    ``origins`` is the provenance of the suite's ended trials, by trial id.
    """
    found, ranked = [], {row.name for row in suite.rows if row.ranked}
    cells = list(cells)
    mixed = defaultdict[str, list[str]](list)
    for cell in cells:
        if len(cell.codes) > 1:
            mixed[cell.row].append(cell.task)
    alike = defaultdict[str, list[str]](list)
    for row, tasks in mixed.items():
        alike[", ".join(tasks)].append(row)
    for where, rows in alike.items():
        found.append(f"{', '.join(rows)} on {where}: trials from more than one version of the code are averaged.")
    budgets = defaultdict[int, dict[str, None]](dict)
    for cell in cells:
        if cell.tried and cell.row in ranked:
            budgets[cell.tried][cell.row] = None
    if len(budgets) > 1 and suite.grows:
        few, many = min(budgets), max(budgets)
        found.append(f"Rows chose from {few} to {many} configurations a task, as their grids went on.")
    elif len(budgets) > 1:
        shown = "; ".join(f"{count} for {', '.join(some)}" for count, some in sorted(budgets.items()))
        found.append(f"Rows do not choose from as many configurations a task: {shown}.")
    for arithmetic in sorted({trial.arithmetic for trial in suite.trials if trial.arithmetic}):
        found.append(f"Computed with {arithmetic.replace('+', ' and ')}, not in float32 as it is.")
    sources, kinds = defaultdict[str, set[str]](set), defaultdict[str, int](int)
    for trial in suite.trials:
        if facts := origins.get(trial.id):
            if facts.get("source_code"):
                sources[trial.task].add(facts["source_code"])
            if any(name in facts for name in MACHINE):
                kinds[_kind(facts)] += 1
    several = [task for task, codes in sources.items() if len(codes) > 1]
    if several:
        found.append(f"The source models of {', '.join(several)} were made by more than one version of the code.")
    if len(kinds) > 1:
        shown = "; ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
        found.append(f"Its trials ran on {len(kinds)} kinds of machine, which may round otherwise: {shown}.")
    return tuple(found)


def _kind(facts: Mapping[str, Any]) -> str:
    device = facts.get("device")
    named = [device] if device not in (None, "cpu") else []
    named += [f"{facts.get('cpu') or 'an unknown CPU'} ({facts.get('instructions') or 'unknown'})"]
    return ", ".join([*named, f"torch {facts.get('torch') or 'unknown'}"])
