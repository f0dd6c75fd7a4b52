"""What a suite is: its trials, and the rows of its table that they compete for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.trial.spec import Trial, Value

CONFIGS = (Path(__file__).parents[1] / "tune_configs").resolve()  # in a checkout a link to the folder at the top
DEFAULT_FIGURES = ("accuracies", "critical_difference", "forgetting")


def file_of(name: str) -> Path:
    """The suite's YAML file: that of this name, or the one at this path; raises UserError."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    known = {path.stem: path for path in CONFIGS.glob("*.yaml")}
    if name not in known:
        raise UserError(f"unknown suite {name!r}: {nearest(name, known)}, or the path of a .yaml file")
    return known[name]


@dataclass(frozen=True)
class Row:
    """A row of the suite's table: the configurations that compete for it."""

    name: str
    ranked: bool
    averaged: tuple[str, ...]  # hyper-parameters whose values are averaged over, not chosen from (LIFT's order)
    configurations: frozenset[str]  # Trial.configuration
    each: tuple[tuple[str, Value], ...] = ()  # hyper-parameters that have a row of their own for each value: this one's
    truth: bool = False  # tunes one layer alone, to judge criteria by
    # The first values of grids that go on where the best one is at an end, by task and hyper-parameter.
    start: Mapping[tuple[str, str], tuple[Value, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class TaskFacts:
    """What reports tell of a task."""

    shift: str  # its kind
    model: str
    parameters: int  # of the model
    layers: Mapping[str, int]  # of each of its layers
    published: bool  # whether there are published weights for the model


@dataclass(frozen=True)
class Suite:
    """A checked suite file."""

    name: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    trials: tuple[Trial, ...]  # all rows x tasks x variants x grid x seeds, each once
    plugins: tuple[str, ...] = ()
    cpus: float = 1  # of one trial
    gpus: float = 0
    timeout: float = 0  # seconds without an epoch after which a trial's worker is considered hung; 0: never
    config: str = ""  # hash of all that the file says
    figures: tuple[str, ...] = DEFAULT_FIGURES
    file: str = ""  # its path, for messages
    margin: float = 0.01  # of practical equivalence: a difference of accuracies below which rows count as equal
    # The next values of extended grids, tried on the first replication alone: they compete for no row.
    probes: tuple[Trial, ...] = ()
    part: str = ""  # what ``only`` has kept, such as "task=digits_c method=lmsa"; "": the whole suite
    # What reports need beside the trials: the registries would import torch.
    facts: Mapping[str, TaskFacts] = field(default_factory=dict, hash=False)  # by task
    criteria: tuple[str, ...] = ()  # all that there are
    # By Trial.configuration, the files whose code decides it (see trial.code), where that is known already.
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    @property
    def title(self) -> str:
        """The suite's name, and which part of it this is."""
        return f"{self.name}, only {self.part}" if self.part else self.name

    @property
    def grows(self) -> bool:
        """Whether some grid goes on where its best value is at an end: which trials count depends on results then."""
        return any(row.start for row in self.rows)

    @property
    def needed(self) -> tuple[Trial, ...]:
        """All trials that must have ended before the table is whole."""
        return (*self.trials, *self.probes)

    def refuse_missing_weights(self) -> None:
        """Raises UserError where a file of given weights is missing: what is in it names the trials."""
        for trial in self.trials:
            if trial.weights not in ("pretrain", "hub") and not trial.weights_sha256:
                raise UserError(f"task {trial.task}: weights: there is no file {trial.weights}")

    def only(self, tasks: Collection[str] = (), rows: Collection[str] = ()) -> "Suite":
        """The part of the suite with these tasks and rows; an empty collection keeps all; raises UserError."""
        for noun, names, known in (("task", tasks, self.tasks), ("method", rows, [row.name for row in self.rows])):
            for name in names:
                if name not in known:
                    raise UserError(f"{noun} {name!r} is not in suite {self.name!r}: {nearest(name, known)}")
        kept = tuple(row for row in self.rows if not rows or row.name in rows)
        wanted = frozenset().union(*(row.configurations for row in kept))
        trials = tuple(t for t in self.trials if (not tasks or t.task in tasks) and t.configuration in wanted)
        left = tuple(t for t in self.tasks if not tasks or t in tasks)
        if (left, kept) == (self.tasks, self.rows):
            return self
        named = [f"task={name}" for name in left if tasks] + [f"method={row.name}" for row in kept if rows]
        part = " ".join(dict.fromkeys([*self.part.split(), *named]))
        return replace(self, tasks=left, rows=kept, trials=trials, part=part)
