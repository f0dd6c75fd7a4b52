"""A job's trials as Ray Tune sees them; without torch, which the driver does not need."""

from typing import TYPE_CHECKING, Any

from ray import tune

from lmsa_bench.sweep.job import Job

if TYPE_CHECKING:
    from lmsa_bench.sweep.workers import Worker


class TrialTrainable(tune.Trainable):
    """A job's trials in a Ray actor, which is used again for the next job."""

    worker: "Worker"

    def setup(self, config: dict[str, Any]) -> None:
        """See tune.Trainable."""
        from lmsa_bench.sweep.workers import Worker  # imports torch

        self.worker = Worker(Job.from_config(config), self.trial_id)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leaves the last job and starts this one."""
        self.worker.leave()
        self.worker.begin(Job.from_config(new_config), self.trial_id)
        return True

    def cleanup(self) -> None:
        """See tune.Trainable."""
        self.worker.leave()

    def step(self) -> dict[str, Any]:
        """Runs an epoch, or as many as a second holds, and tells how the trials ended that have meanwhile."""
        return self.worker.step()
