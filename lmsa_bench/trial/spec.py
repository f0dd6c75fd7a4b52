"""What a trial is and what it leaves behind: plain values, hashed and written as JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

PROTOCOL = 1  # raised whenever the same trial would give other records: splits, defaults, early stopping

Int64 = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]  # as the table of results holds it
Value = bool | int | float | str | None


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """One training run, named by the hash of all that decides its result."""

    task: str
    variant: str
    method: str
    hparams: Mapping[str, Value]  # complete: the factory's defaults are filled in
    seed: Int64
    epochs: Int64
    batch_size: int = 64
    curves: bool = False  # also look at the test split after each epoch, and keep every step's loss
    code: str = ""  # hash of the plugin files that define the task, the model or the method
    protocol: Int64 = PROTOCOL
    options: Mapping[str, Any] = field(default_factory=dict)  # of the task's factory; complete, its variants apart
    weights: str = "pretrain"  # where the source model comes from: pretrain, hub or a file's path

    @property
    def id(self) -> str:
        return _hash(asdict(self))

    @property
    def configuration(self) -> str:
        """The id of what all seeds of this trial share."""
        return _hash({name: value for name, value in asdict(self).items() if name != "seed"})

    @property
    def setting(self) -> str:
        """Equal for trials of the same task, variant, options and source weights."""
        return canonical([self.task, self.variant, dict(self.options), self.weights])

    @property
    def label(self) -> str:
        """A short name for people: task, method and the hyper-parameters that tell trials apart."""
        task = f"{self.task}:{self.variant}" if self.variant else self.task
        shown = [f"{k}={self.hparams[k]:g}" for k in ("lr", "rho") if isinstance(self.hparams.get(k), float)]
        return " ".join([task, self.method, *shown, f"seed={self.seed}"])

    def with_seed(self, seed: int) -> "Trial":
        """The same configuration at another seed."""
        return replace(self, seed=seed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left: losses are means over samples, accuracies fractions, seconds without any evaluation."""

    trial: str
    epoch: Int64  # 1 is the first; 0 is the source model as it is
    train_loss: float | None  # None where nothing is trained
    val_loss: float
    val_accuracy: float
    seconds: float
    bytes: Int64
    layers: tuple[Int64, ...]  # every layer that was tuned in this epoch (or chosen, where nothing is trained)
    time: float  # seconds since 1970, when the epoch ended
    test_loss: float | None = None
    test_accuracy: float | None = None
    step_losses: tuple[float, ...] = ()  # where the trial asks for curves

    @property
    def stopping_key(self) -> tuple[float, float, int]:
        """Smaller is better: the highest val accuracy, then the lower val loss, then the earlier epoch."""
        return (-self.val_accuracy, self.val_loss, self.epoch)


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended; test figures are those of the best epoch by validation."""

    trial: str
    status: Literal["finished", "diverged", "failed"]
    reason: str = ""
    best_epoch: Int64 | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_size: Int64 = 0
    seconds: float = 0.0  # training alone
    flops: Int64 = 0  # of the first update step
    bytes: Int64 = 0  # highest of the epochs
    scores: Mapping[str, list[float]] = field(default_factory=dict)  # a criterion's values, a list of one a layer
    provenance: Mapping[str, Value] = field(default_factory=dict)
