"""How far a run is: what its checkpoint holds beside tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from lmsa_bench.trial.outcomes import Outcomes
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult, Value

# What decides how a training goes on from a checkpoint, and what is said of one where that was different.
ORIGIN = {
    "trial": "for another trial",
    "trial_code": "by other code",
    "torch": "with another version of torch",
    "device": "on another kind of device",
    "data": "with other data",
    "source": "from another source model",
}


def origin(trial: Trial, device: torch.device, provenance: Mapping[str, Value]) -> dict[str, Value]:
    """The origin of a checkpoint, by the names of ORIGIN."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    told = {name: provenance.get(name) for name in ORIGIN}
    return told | {"trial": trial.id, "torch": str(torch.__version__), "device": kind}


def other_origin(found: Mapping[str, Value], own: Mapping[str, Value]) -> str | None:
    """What is said of a trial that leaves a checkpoint of another origin; None where it is its own."""
    differing = [text for name, text in ORIGIN.items() if found.get(name) != own[name]]
    return f"restarted: its checkpoint was written {' and '.join(differing)}" if differing else None


@dataclass
class Best:
    """The best epoch so far by validation; its test figures are there where the trial asks for curves."""

    best_epoch: int
    val_accuracy: float
    val_loss: float
    test_accuracy: float | None
    test_loss: float | None
    outcomes: Outcomes | None = None

    @classmethod
    def of(cls, record: EpochRecord, outcomes: Outcomes | None) -> "Best":
        """What is kept of an epoch's record, and of its test where that was looked at."""
        return cls(record.epoch, record.val_accuracy, record.val_loss, record.test_accuracy, record.test_loss, outcomes)

    def figures(self) -> dict[str, Any]:
        """What of it is in the trial's result, by field."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "outcomes"}


@dataclass
class State:
    """How far a run is, in plain values: with parameters and the update's state it is the checkpoint."""

    epoch: int = 0
    layers: tuple[int, ...] = ()  # that are tuned now
    scores: dict[str, list[float]] = field(default_factory=dict)
    saw: tuple[str, ...] = ()  # that selections looked at
    best: Best | None = None
    seconds: float = 0.0  # of training
    flops: int = 0
    selection_flops: int = 0
    state_flops: int = 0
    evaluation_flops: int = 0
    kept_bytes: int = 0
    peak_bytes: int = 0
    diverged: bool = False
    remarks: tuple[str, ...] = ()

    def ended(self, trial: str, test_size: int, provenance: Mapping[str, Value]) -> TrialResult:
        """The result of a trial that diverged here, and of another one all but its figures."""
        return TrialResult(
            trial,
            "diverged",
            f"loss not finite in epoch {self.epoch}",
            test_size=test_size,
            seconds=self.seconds,
            flops=self.flops,
            selection_flops=self.selection_flops,
            state_flops=self.state_flops,
            evaluation_flops=self.evaluation_flops,
            kept_bytes=self.kept_bytes,
            peak_bytes=self.peak_bytes,
            scores=self.scores,
            saw=self.saw,
            provenance=provenance,
            remarks=self.remarks,
        )
