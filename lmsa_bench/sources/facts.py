"""What is known of a source model, for the results that start from it and for the reader of a sweep."""

from dataclasses import asdict, dataclass

from lmsa_bench.tasks.task import Task
from lmsa_bench.trial.spec import Value

POINTS = 2.0  # by which given weights may miss their published accuracy before a warning


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source model once it is there: part of the provenance of the results that start from it."""

    data: str  # fingerprint of the task's data
    source: str  # fingerprint of the source model
    source_accuracy: float | None  # on held-out images, a fraction; None where there are none
    source_data: str | None = None  # fingerprint of what it was trained on; None where it was not trained here
    source_seed: int | None = None  # of the trials that share it; None where all seeds do
    source_code: str = ""  # of the network and its training
    stages_skipped: bool = False  # given weights fit the task's classes, so the recipe's further training was left out

    def provenance(self) -> dict[str, Value]:
        """The facts as a result records them."""
        found = asdict(self)
        for name in ("source_data", "source_seed"):
            if found[name] is None:
                del found[name]
        if not self.stages_skipped:
            del found["stages_skipped"]
        return found

    def judgement(self, task: Task) -> str:
        """One line about the held-out accuracy, with a warning near chance or where published weights miss theirs."""
        source, accuracy = task.source, self.source_accuracy
        seed = "" if self.source_seed is None else f", seed {self.source_seed}"
        line = f"source model of {task.name}{seed}: {task.model}, {source.weights}"
        if self.stages_skipped:
            line = f"{line}, whose classifier fits the task's {task.classes} classes, so it was not trained further"
        if accuracy is None:
            return f"{line}: accuracy not measured, its held-out images are not there"
        line = f"{line}: {accuracy:.2%} on held-out images"
        if accuracy < 2 / task.classes:
            line = f"{line}; warning: near chance, which is {1 / task.classes:.2%}: has it learned its task?"
        if source.accuracy is None or source.weights == "pretrain":
            return line
        off = 100 * abs(accuracy - source.accuracy) > POINTS
        warning = f"; warning: off by more than {POINTS:g} points, is it another model or another normalisation?"
        return f"{line}, published {source.accuracy:.2%}{warning if off else ''}"
