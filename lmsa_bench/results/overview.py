"""What a suite's report says in MLflow's own terms: metrics of the suite's run, and a run for each method."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter, ValidationError

from lmsa_bench.errors import UserError
from lmsa_bench.trial.spec import canonical

FILE = "overview.json"  # in a suite's summary
BEST, RANK, TEST, VAL = "best_test_accuracy", "average_rank", "test_accuracy", "val_accuracy"
METHOD_KEY = "lmsa.method_key"  # the tag of a method's run
VIEW = "mlflow.sharedViewState."  # the experiment's tag by which MLflow's pages know a view that is shared
SHOWN = 8  # tasks with a column of their own


@dataclass(frozen=True)
class MethodOverview:
    """A row of the table; accuracies are fractions, as short as MLflow's columns are narrow."""

    name: str
    accuracies: Mapping[str, float]  # of the test, by task
    average_rank: float | None
    curves: Mapping[str, list[float]]  # by task the mean val accuracy of the selected trials after each epoch
    best_test_accuracy: float | None  # the mean over all tasks of the suite; None where one is missing

    def metrics(self) -> Iterator[tuple[str, float, int]]:
        """(name, value, step) for the method's run."""
        if self.best_test_accuracy is not None:
            yield BEST, self.best_test_accuracy, 0
        if self.average_rank is not None:
            yield RANK, self.average_rank, 0
        for task, value in self.accuracies.items():
            yield metric_name(task, TEST), value, 0
        for task, values in self.curves.items():
            for epoch, value in enumerate(values, 1):
                yield metric_name(task, VAL), value, epoch


@dataclass(frozen=True)
class Overview:
    """A suite at sight."""

    suite: str
    tasks: tuple[str, ...]
    methods: tuple[MethodOverview, ...]
    description: str  # Markdown: the answer and the table

    def metrics(self) -> Iterator[tuple[str, float, int]]:
        """(name, value, step) for the suite's run: each task and method, and the average ranks."""
        for method in self.methods:
            for task, value in method.accuracies.items():
                yield metric_name(task, method.name), value, 0
            if method.average_rank is not None:
                yield metric_name(RANK, method.name), method.average_rank, 0

    def view(self) -> str:
        """MLflow's state of a page that lists the methods by test accuracy, and charts them, as its pages write it."""
        names = [metric_name(task, TEST) for task in self.tasks]
        bars = [_chart("BAR", name, TEST) for name in [BEST, RANK, *names]]
        lines = [_chart("LINE", metric_name(task, VAL), VAL) for task in self.tasks]
        sections = [
            {"uuid": name, "name": title, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
            for name, title in ((TEST, "Test accuracy by method"), (VAL, "Validation accuracy by epoch"))
        ]
        state = {
            "searchFilter": matching(self.suite),
            "orderByKey": f"metrics.`{BEST}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": [f"metrics.`{name}`" for name in [BEST, RANK, *names[:SHOWN]]],
            "runsHiddenMode": "SHOWALL",
            "compareRunCharts": bars + lines,
            "compareRunSections": sections,
        }
        return canonical(state)


def read(folder: Path) -> Overview | None:
    """The overview in a suite's summary; None where there is none; raises UserError where it is damaged."""
    try:
        return TypeAdapter(Overview).validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{folder / FILE}: cannot be read; run python -m lmsa_bench.sweep {folder.name}") from None


def matching(suite: str) -> str:
    """MLflow's filter for the runs of a suite's methods."""
    return f"tags.`lmsa.suite` = '{suite}' AND tags.`{METHOD_KEY}` != ''"


def method_key(suite: str, method: str) -> str:
    """The value of METHOD_KEY, which no other suite's run has."""
    return f"{suite}: {method}"


def view_key(suite: str) -> str:
    """The name under which the suite's view is shared."""
    return f"lmsa-{plain(suite)}"


def link(server: str, experiment: str, suite: str) -> str:
    """The page of a server that lists the suite's methods, the best test accuracy first."""
    asked = urlencode({"workflowType": "machine_learning", "viewStateShareKey": view_key(suite)}, quote_via=quote)
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{asked}"


def metric_name(*parts: str) -> str:
    """A name that MLflow accepts, the part first by which its charts are grouped and its columns told apart."""
    return "/".join(map(plain, parts))


def plain(text: str) -> str:
    """The text with _ for all that MLflow's names do not hold."""
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)


def _chart(kind: str, metric: str, section: str) -> dict[str, object]:
    """A card of MLflow's charts."""
    card: dict[str, object] = {
        "type": kind,
        "uuid": f"{kind}-{metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "deleted": False,
        "isGenerated": False,
    }
    if kind == "LINE":
        card |= {"selectedMetricKeys": [metric], "xAxisKey": "step", "lineSmoothness": 0, "scaleType": "linear"}
    return card
