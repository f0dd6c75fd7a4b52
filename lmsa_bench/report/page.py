"""A suite's report as one HTML file that needs no network: templates/ says how it looks, charts.py what is drawn."""

import importlib.metadata
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from lmsa_bench.analysis.endings import alike
from lmsa_bench.analysis.report import Report
from lmsa_bench.analysis.text import seeds_text
from lmsa_bench.analysis.trials import History
from lmsa_bench.atomic import user_cache, write_whole
from lmsa_bench.report import answer, cells, charts
from lmsa_bench.report.charts import COSTS, Chart
from lmsa_bench.report.document import BUDGET

VEGA_LITE = "6.1"
# Each at a contrast of 3 or more with a white and with a black ground; every pair with a shape comes once in 64 rows.
COLOURS = ("#0072b2", "#cf5600", "#00865f", "#b35c92", "#8a6d00", "#7a5fc9", "#c2334d", "#5f7a8a")
SHAPES = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "cross": "✚",
    "triangle-down": "▼",
    "triangle-right": "▶",
    "triangle-left": "◀",
}
FACTS = {  # of a trial's provenance, in the order in which they are shown
    "command": "command",
    "commit": "commit",
    "config": "suite file (hash)",
    "device": "device",
    "cpu": "CPU",
    "instructions": "instruction set",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
    "ray": "Ray",
    "mlflow": "MLflow",
}


class Style(NamedTuple):
    """How a method looks in all charts that tell methods by colour and shape."""

    name: str
    colour: str
    shape: str
    glyph: str


class Ending(NamedTuple):
    """Trials that failed, diverged or have not ended, for one reason."""

    status: str
    reason: str
    trials: list[str]


@dataclass(frozen=True)
class Place:
    """Where a chart stands in the page."""

    id: str
    chart: Chart


def page(report: Report) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: the other formats do without it

    environment = Environment(
        loader=PackageLoader("lmsa_bench.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"percent": cells.percent, "selected": cells.selected, "layers": cells.most_frequent}
    environment.filters["si"] = _si
    drawn = {
        "accuracies": list(charts.accuracies(report)),
        "differences": list(charts.differences(report)),
        "layers": list(charts.layers(report)),
        "single_layers": list(charts.single_layers(report)),
        "costs": list(charts.costs(report)),
        "budgets": list(charts.budgets(report)),
        "fidelity": list(charts.fidelities(report)),
    }
    places = {
        section: [Place(f"{section}-{i}", chart) for i, chart in enumerate(found)] for section, found in drawn.items()
    }
    styles = _styles(charts.methods(drawn["costs"] + drawn["budgets"]))
    compared = _compared(report)
    verdicts = report.verdicts
    return environment.get_template("page.html").render(
        report=report,
        answer=report.headline or (f"{report.statistics.verdict()}.",),
        places=places,
        styles=styles,
        compared=compared,
        by_shift=answer.by_shift(verdicts) if verdicts is not None and verdicts.comparisons else [],
        limits=answer.limits(verdicts) if verdicts is not None and verdicts.comparisons else [],
        costs=COSTS,
        points=charts.cost_points(report),
        statistics="\n".join([*answer.lines(report), "", *answer.budgets(report), *_tests(report)]).strip(),
        remarks=cells.remarks(report),
        endings=list(_endings(report)),
        facts=list(_facts(report.histories)),
        again=_again(report),
        summary=_summary(report),
        budget=BUDGET,
        vega=_vega(),
        data={
            "specs": json.loads(files("lmsa_bench.report").joinpath("templates/charts.json").read_text()),
            "charts": {
                place.id: {"spec": place.chart.spec, "rows": place.chart.rows, "words": place.chart.words}
                for found in places.values()
                for place in found
            },
            "styles": [one._asdict() for one in styles],
            "colours": COLOURS,
            "costs": COSTS,
            "trials": [_trial(report, one) for one in report.histories],
        },
    )


def _styles(names: list[str]) -> list[Style]:
    shapes, found = list(SHAPES), []
    for i, name in enumerate(names):
        shape = shapes[(i + i // len(COLOURS)) % len(shapes)]
        found.append(Style(name, COLOURS[i % len(COLOURS)], shape, SHAPES[shape]))
    return found


def _compared(report: Report) -> list[str]:
    """The rows that are in some comparison, in the table's order."""
    found = report.verdicts.comparisons if report.verdicts is not None else ()
    names = {name for one in found for name in (one.first, one.second)}
    return [row for row in report.order if row in names]


def _tests(report: Report) -> list[str]:
    lines = cells.statistic_lines(report.statistics)
    return ["", *lines, f"Verdict: {report.statistics.verdict()}."] if lines else []


def _endings(report: Report) -> Iterator[Ending]:
    """What failed first, then what diverged, then what has not ended."""
    for status, name in {"failed": "failed", "diverged": "diverged", "running": "not ended"}.items():
        ended = [(one.trial, one.reason) for one in report.histories if one.status == status]
        for group in sorted(alike(ended), key=len, reverse=True):
            yield Ending(name, group[0][1], [trial.label for trial, _ in group])


def _facts(histories: tuple[History, ...]) -> Iterator[tuple[str, list[str]]]:
    """What the trials' provenance says, each value with the number of its trials where there are several."""
    for name, title in FACTS.items():
        counts = Counter(
            f"{value} (changed since)" if name == "commit" and one.provenance.get("dirty") else str(value)
            for one in histories
            if (value := one.provenance.get(name)) is not None
        )
        if len(counts) == 1 and sum(counts.values()) == len(histories):
            yield title, list(counts)
        elif counts:
            yield title, [f"{value} ({count} of {len(histories)} trials)" for value, count in counts.most_common()]


def _again(report: Report) -> list[str]:
    """The commands that make the same numbers from a clone of the repository."""
    if report.measures is None:
        return [f"python -m lmsa_bench.report --paper --format html --output {report.suite}.html"]
    suite = report.measures.suite
    commits = {one.provenance.get("commit") for one in report.histories} - {None}
    seeds = len({trial.seed for trial in suite.trials})
    part = f" --only {','.join(suite.part.split())}" if suite.part else ""
    lines = [f"git checkout {commit}" for commit in sorted(map(str, commits)) if len(commits) == 1]
    return [*lines, "pip install -e .", f"python -m lmsa_bench.sweep {suite.name} --seeds {seeds}{part}"]


def _summary(report: Report) -> str:
    """How much is behind the page, in one line."""
    counts = Counter(one.status for one in report.histories)
    times = [one.time for one in report.histories if one.time is not None]
    said = [f"{len(report.rows)} methods on {len(report.tasks)} task{'s' * (len(report.tasks) != 1)}"]
    if report.histories:
        said += [seeds_text([cell.n for cell in report.cells.values() if cell.n])]
        said += [f"{count} trials {status}" for status, count in counts.most_common()]
    if times:
        said += [f"last one on {datetime.fromtimestamp(max(times), UTC):%d %B %Y}"]
    return " · ".join(said)


def _trial(report: Report, one: History) -> dict[str, object]:
    """A trial for the page's list, its epochs as [epoch, train loss, val loss, val accuracy in %]."""
    trial, best = one.trial, one.best
    rows = report.measures.suite.rows if report.measures is not None else ()
    hparams = " ".join(f"{name}={_short(value)}" for name, value in trial.hparams.items() if value is not None)
    return {
        "task": f"{trial.task}:{trial.variant}" if trial.variant else trial.task,
        "method": ", ".join(row.name for row in rows if trial.configuration in row.configurations),
        "hparams": hparams,
        "seed": trial.seed,
        "status": one.status,
        "reason": one.reason,
        "val": _number(100 * best.val_accuracy) if best is not None else None,
        "test": _number(100 * one.test_accuracy) if one.test_accuracy is not None else None,
        "best": one.best_epoch,
        "flops": _number(one.spent.flops),
        "seconds": _number(one.spent.seconds),
        "epochs": [
            [e.epoch, _number(e.train_loss), _number(e.val_loss), _number(100 * e.val_accuracy)] for e in one.epochs
        ],
    }


def _number(value: float | None) -> float | None:
    """Four digits, which is more than a curve shows; JSON has neither infinity nor nan."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _si(value: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.23 G."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    step = min(len(prefixes) - 1, max(0, int(math.log10(value) // 3))) if value >= 1 else 0
    return f"{value / 1000**step:.3g} {prefixes[step]}{unit}".rstrip()


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script; kept in the user's cache, since bundling takes seconds."""
    made_by = importlib.metadata.version("vl-convert-python")
    path = user_cache() / f"vega-lite-{VEGA_LITE}-vl-convert-{made_by}.js"
    try:
        return path.read_text()
    except OSError:
        import vl_convert

        script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    with suppress(OSError):  # made again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, script.encode())
    return script
