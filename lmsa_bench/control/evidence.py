"""What a selector may look at: tuning batches, and what it asks for beyond them, which is recorded; never the test."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lmsa_bench.control.criteria import Batch, NoBatches, Scores
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

TUNING, VALIDATION, SOURCE = "tuning", "validation", "source accuracy"


class Evidence:
    """Iterating over it gives tuning batches, in a new order at each selection; ``saw`` are the names of what was used.

    A function that is annotated to take an iterable of batches sees no more than these; one that takes Evidence may.
    """

    def __init__(
        self,
        tuning: Callable[[], Iterator[Batch]] = lambda: iter(()),
        validation: Callable[[], Iterator[Batch]] | None = None,
        source_accuracy: float | None = None,
        update: Any = None,
        before: Mapping[str, list[float]] | None = None,
    ) -> None:
        self._tuning, self._validation, self._source_accuracy = tuning, validation, source_accuracy
        self.update = update  # the trial's own, for a selector that goes by what it has gathered in its steps
        self.before = before or {}  # the scores of the selection before this one
        self.saw: set[str] = set()

    def __iter__(self) -> Iterator[Batch]:
        self.saw.add(TUNING)
        return self._tuning()

    def validation(self) -> Iterator[Batch]:
        """The validation split in batches; raises NoBatches where there is none."""
        self.saw.add(VALIDATION)
        if self._validation is None:
            raise NoBatches("there are no validation batches")
        return self._validation()

    def source_accuracy(self) -> float:
        """The source model's accuracy on held-out images before the shift, a fraction; raises UserError if unknown."""
        self.saw.add(SOURCE)
        if self._source_accuracy is None:
            raise UserError("the source model's own accuracy is not known: its held-out images are not there")
        return self._source_accuracy


Judge = Callable[[LayeredModel, Evidence], Scores]
"""A criterion that may ask for more than tuning batches; every Criterion is one."""
