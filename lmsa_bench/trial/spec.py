"""What a trial is and what it leaves behind: plain values, hashed and written as JSON."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, Predicate

PROTOCOL = 3  # raised whenever the same trial would give other records: splits, defaults, early stopping


def not_negative(loss: float) -> bool:
    """At least 0, infinite or nan, as losses are where a trial diverges."""
    return not loss < 0


Int64 = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]  # as the table of results holds it
Count = Annotated[Int64, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1), Predicate(math.isfinite)]
Amount = Annotated[float, Ge(0), Predicate(math.isfinite)]
Loss = Annotated[float, Predicate(not_negative)]
Value = bool | int | float | str | None
# Fields of a trial that older ones did not have, and what they had.
LATER = {"sources": "one", "logit_margins": False, "arithmetic": ""}


class Metric(NamedTuple):
    """What a reported number means, beside its field: its column and its name in MLflow follow from that."""

    unit: Literal["nats", "fraction", "s", "bytes", "FLOPs", "epoch"]
    better: Literal["higher", "lower", "neither"]
    tracked: str = ""  # its name in MLflow; "": in the table alone


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def hash_of(value: Any) -> str:
    """A short hash of a value that JSON can hold."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """One training run, named by the hash of all that decides its result."""

    task: str
    variant: str
    method: str
    hparams: Mapping[str, Value]  # complete: the factory's defaults are filled in
    seed: Int64
    epochs: Count
    batch_size: Annotated[Int64, Ge(1)] = 64
    curves: bool = False  # also look at the test split after each epoch, and keep every step's loss
    protocol: Int64 = PROTOCOL
    options: Mapping[str, Any] = field(default_factory=dict)  # of the task's factory; complete, its variants apart
    weights: str = "pretrain"  # where the source model comes from: pretrain, hub or a file's path
    weights_sha256: str = ""  # of that file, by which the trial is named wherever it lies
    sources: Literal["one", "each"] = "one"  # a source model that all seeds share, or one trained for each seed
    logit_margins: bool = False  # keep the margins of the test's logits beside its outcomes
    arithmetic: str = ""  # what it trades for speed, such as bf16+channels_last: see trial.arithmetic

    @cached_property
    def id(self) -> str:
        return hash_of(self._identity())

    @cached_property
    def configuration(self) -> str:
        """The id of what all seeds of this trial share."""
        return hash_of({name: value for name, value in self._identity().items() if name != "seed"})

    @cached_property
    def setting(self) -> str:
        """Equal for trials of the same task, variant, options and source weights."""
        return canonical([self.task, self.variant, dict(self.options), self.weights, self.weights_sha256])

    @property
    def label(self) -> str:
        """A short name for people: task, method and the hyper-parameters that tell trials apart."""
        task = f"{self.task}:{self.variant}" if self.variant else self.task
        shown = [f"{k}={self.hparams[k]:g}" for k in ("lr", "rho") if isinstance(self.hparams.get(k), float)]
        return " ".join([task, self.method, *shown, f"seed={self.seed}"])

    def _identity(self) -> dict[str, Any]:
        """All that the trial is named by: given weights count by what is in their file, not by its path.

        Fields that came later count where they are not as they were before.
        """
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        named |= {"weights": "file"} if self.weights_sha256 else {}
        return {name: value for name, value in named.items() if name not in LATER or value != LATER[name]}

    def with_seed(self, seed: int) -> "Trial":
        """The same configuration at another seed."""
        return replace(self, seed=seed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left: losses are means over samples, and seconds leave out every evaluation."""

    trial: str
    epoch: Count  # 1 is the first; 0 is the source model as it is
    train_loss: Annotated[Loss, Metric("nats", "lower", "train_loss")] | None  # None where nothing is trained
    val_loss: Annotated[Loss, Metric("nats", "lower", "val_loss")]
    val_accuracy: Annotated[Fraction, Metric("fraction", "higher", "val_accuracy")]
    seconds: Annotated[Amount, Metric("s", "lower")]
    kept_bytes: Annotated[Count, Metric("bytes", "lower")]  # highest of the steps, as in the result
    layers: tuple[Count, ...]  # every layer that was tuned in this epoch (or chosen, where nothing is trained)
    time: Amount  # seconds since 1970, when the epoch ended
    test_loss: Annotated[Loss, Metric("nats", "lower", "test_loss")] | None = None
    test_accuracy: Annotated[Fraction, Metric("fraction", "higher", "test_accuracy")] | None = None
    step_losses: tuple[Loss, ...] = ()  # where the trial asks for curves, and so are the next two
    accuracy_steps: tuple[Count, ...] = ()  # counted from 1 through all epochs: the powers of two, and the epoch's last
    step_accuracies: tuple[Fraction, ...] = ()  # of the test after each of these steps, fractions
    peak_bytes: Annotated[Count, Metric("bytes", "lower")] = 0  # highest of the steps, as in the result
    flops: Annotated[Count, Metric("FLOPs", "lower", "flops")] = 0  # of all update steps of the epoch

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
    best_epoch: Annotated[Count, Metric("epoch", "neither", "best_epoch")] | None = None
    val_accuracy: Annotated[Fraction, Metric("fraction", "higher", "best_val_accuracy")] | None = None
    val_loss: Annotated[Loss, Metric("nats", "lower", "best_val_loss")] | None = None
    test_accuracy: Annotated[Fraction, Metric("fraction", "higher", "best_test_accuracy")] | None = None
    test_loss: Annotated[Loss, Metric("nats", "lower", "best_test_loss")] | None = None
    test_size: Count = 0
    # Mean over the tuning set with the last epoch's parameters; None where nothing is trained.
    final_train_loss: Annotated[Loss, Metric("nats", "lower", "final_train_loss")] | None = None
    # Training alone: update steps, selection, and the tuning states below the tuned layers.
    seconds: Annotated[Amount, Metric("s", "lower", "total_seconds")] = 0.0
    flops: Annotated[Count, Metric("FLOPs", "lower", "total_flops")] = 0  # of all update steps
    selection_flops: Annotated[Count, Metric("FLOPs", "lower", "selection_flops")] = 0  # of scoring layers
    # Of the passes that compute the tuning states below the tuned layers.
    state_flops: Annotated[Count, Metric("FLOPs", "lower", "state_flops")] = 0
    # Of all passes over val, test and, at the end, tuning samples that are outside ``seconds``.
    evaluation_flops: Annotated[Count, Metric("FLOPs", "lower", "evaluation_flops")] = 0
    # What a step keeps beside the model, highest of all steps: activations for backward, gradients, moments; a lower
    # bound of what the step needs.
    kept_bytes: Annotated[Count, Metric("bytes", "lower", "kept_bytes")] = 0
    # The allocator's highest during a step, beside the model and its input: of a full batch, highest of all steps.
    peak_bytes: Annotated[Count, Metric("bytes", "lower", "peak_bytes")] = 0
    scores: Mapping[str, list[float]] = field(default_factory=dict)  # a criterion's values, a list of one a layer
    saw: tuple[str, ...] = ()  # what its selections looked at: tuning, validation, the source model's own accuracy
    provenance: Mapping[str, Value] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what a reader of the result should know of how the trial went
    # On held-out images of the source, with the best epoch's parameters: what is left of what the source model knew.
    source_accuracy: Annotated[Fraction, Metric("fraction", "higher", "best_source_accuracy")] | None = None


def metrics_of(kind: type[EpochRecord] | type[TrialResult]) -> dict[str, Metric]:
    """The metrics among the fields of a record or a result, by field."""
    found = dict[str, Metric]()
    for name, hint in get_type_hints(kind, include_extras=True).items():
        annotated = [one for one in (hint, *get_args(hint)) if get_origin(one) is Annotated]  # as it is, or in a union
        found.update((name, part) for one in annotated for part in one.__metadata__ if isinstance(part, Metric))
    return found
