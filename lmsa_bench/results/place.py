"""Where trials run and what their results say of it, and how one ends that cannot be run; without torch."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmsa_bench.errors import UserError, in_one_line, one_line
from lmsa_bench.results.journal import ERROR, Journal
from lmsa_bench.trial import checkpoint
from lmsa_bench.trial.spec import Trial, TrialResult, Value

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """Where trials run, what they write to, and what their results say of it."""

    journal: Journal
    data: Path
    device: "torch.device | str" = "cpu"
    provenance: Mapping[str, Value] = field(default_factory=dict)

    def knowing(self, facts: Mapping[str, Value]) -> "Place":
        """The same place, of which results say more."""
        return replace(self, provenance={**self.provenance, **facts})


class Failure(NamedTuple):
    """Why a trial cannot be run: in one line, and the traceback where it was not a mistake in the suite's values."""

    reason: str
    traceback: str = ""


def why(error: BaseException) -> Failure:
    """Why a trial failed: a mistake in the suite's values as it is, any other error with its file and line."""
    if isinstance(error, UserError):
        return Failure(one_line(error))
    return Failure(in_one_line(error), "".join(traceback.format_exception(error)))


def fail(trial: Trial, place: Place, failure: Failure) -> TrialResult:
    """Ends a trial as failed, with the reason in its result and the traceback in its folder."""
    folder, reason = place.journal.folder(trial), failure.reason
    if failure.traceback:
        (folder / ERROR).write_text(failure.traceback)
        reason = f"{reason}; its traceback: {folder / ERROR}"
    result = TrialResult(trial.id, "failed", reason, provenance=place.provenance)
    place.journal.finish(result)
    checkpoint.remove(folder)
    return result
