"""A report as one JSON document; accuracies are fractions."""

import json
import math
from dataclasses import asdict
from typing import Any

from lmsa_bench.analysis.ranks import Statistics
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.selection import Cell
from lmsa_bench.analysis.verdicts import Verdicts

BUDGET = "The validation images choose epochs and hyper-parameters, so they count in the label budget."


def named_layers(layers: tuple[int, ...]) -> str:
    """Layer numbers with runs of neighbours drawn together: 0-2,5."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs) or "none"


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "n": cell.n,
        "interval": cell.interval,
        "selected": cell.selected,
        "seeds": cell.seeds,
        "accuracies": cell.accuracies,
        "variants": cell.variants,
        "layers": {named_layers(layers): count for layers, count in cell.layers.items()},
        "diverged": cell.diverged,
        "failed": cell.failed,
        "missing": cell.missing,
        "codes": cell.codes,
        "remarks": cell.remarks,
        "tried": cell.tried,
        "edges": cell.edges,
    }


def _statistics_json(statistics: Statistics) -> dict[str, Any]:
    found = asdict(statistics) | {"separable": [pair._asdict() for pair in statistics.separable]}
    if statistics.f is not None and math.isinf(statistics.f):
        found["f"] = None  # JSON has no infinity; f_p is 0 there
    return found


def _verdicts_json(verdicts: Verdicts) -> dict[str, Any]:
    found = asdict(verdicts)
    for task, one in zip(found["tasks"], verdicts.tasks, strict=True):
        task["comparisons"] = [
            c._asdict() | {"half": c.half if math.isfinite(c.half) else None} for c in one.comparisons
        ]
        task["components"] = one.components._asdict() if one.components is not None else None
    for name in ("level", "prior", "interaction"):
        value = getattr(verdicts, name)
        found[name] = value._asdict() if value is not None else None
    for name in ("ranks", "signed_ranks"):
        found[name] = [one._asdict() for one in getattr(verdicts, name)]
    return found


def document(report: Report) -> str:
    """The report as JSON: every number of the table, and what is not in it."""
    found = {
        "suite": report.suite,
        "part": report.part,
        "headline": report.headline,
        "notes": report.notes,
        "rows": [
            {
                "method": row,
                "average_rank": report.statistics.average_ranks.get(row),
                "tasks": {task: _cell_json(report.cells[row, task]) for task in report.tasks},
            }
            for row in report.order
        ],
        "statistics": _statistics_json(report.statistics)
        | {
            "verdict": report.statistics.verdict(),
            "blocked": _statistics_json(report.blocked) if report.blocked is not None else None,
            "differences": [difference._asdict() for difference in report.differences],
        },
        "budgets": [one._asdict() for one in report.budgets],
        "kept": [
            {"method": row, "task": task, "before": one.before, "after": one.after}
            for (row, task), one in report.kept.items()
        ],
        "verdicts": _verdicts_json(report.verdicts) if report.verdicts is not None else None,
        "label_budget": BUDGET,
    } | {section.name: section.document for section in report.sections}
    return json.dumps(found, indent=2, allow_nan=False) + "\n"
