"""Which trials a worker gets next: by their source models, and short ones several at a time."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from lmsa_bench.sweep import nodes
from lmsa_bench.sweep.job import Job, Orders
from lmsa_bench.trial.spec import Trial

Sources = Mapping[tuple[str, int], Hashable]
"""By a trial's setting and seed, what is equal for those that start from the same source model."""

ASK_SECONDS = 10.0  # between two looks at what results have added, while others wait
TOGETHER_SECONDS = 2.0  # that a worker runs trials for without asking for others
NEAR = 64  # jobs in which others of a setting are looked for


class Queue(Searcher):
    """Hands out jobs in order, and then those that results have added meanwhile.

    The first trial of a source model makes it where it is missing, and the others come later if there is other work.
    Short trials go to a worker several at a time: each job costs Tune and the worker a tenth of a second. ``typical``
    tells how long a trial like this one takes; a setting and seed that is not in ``sources`` has its own.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        more: Callable[[], list[Job]],
        orders: Orders,
        typical: Callable[[Trial], float | None] = lambda trial: None,
        sources: Sources | None = None,
    ) -> None:
        super().__init__()
        self.waiting, self.more, self.orders, self.typical = deque(jobs), more, orders, typical
        self.out = list[Job]()
        self.making = dict[str, Hashable]()  # by Tune's id of a trial, the source model that it may be making
        self.made = set[Hashable]()
        self.lethal = set[Hashable]()  # source models whose making ended the worker
        self.ended = self.asked = 0
        self.looked = time.monotonic()
        self.sources = sources or {}

    def source(self, job: Job) -> Hashable:
        """Equal for trials that start from the same source model."""
        key = job.trial.setting, job.trial.seed
        return self.sources.get(key, key)

    def suggest(self, trial_id: str) -> Any:
        """See Searcher."""
        if self.asked < self.ended and not (self.waiting and time.monotonic() - self.looked < ASK_SECONDS):
            self.asked, self.looked = self.ended, time.monotonic()
            self.waiting.extend(self.more())
        if (job := self._next()) is None:
            return None if self.ended < len(self.out) else Searcher.FINISHED
        self.waiting.remove(job)
        if (source := self.source(job)) not in self.made:
            self.making[trial_id] = source
        else:
            job = replace(job, then=tuple(self._company(job)))
        self.out.append(job)
        return replace(job, orders=self.orders).to_config()

    def _company(self, job: Job) -> list[Trial]:
        """Takes out the next trials of its setting that are as short, while others are left for all workers."""
        most = len(self.waiting) // (2 * self.orders.peers)
        seconds, found = self.typical(job.trial), list[Job]()
        for other in list(itertools.islice(self.waiting, NEAR)):
            if other.trial.setting != job.trial.setting or self.source(other) not in self.made:
                continue
            took = self.typical(other.trial)
            if seconds is None or took is None or len(found) == most or seconds + took > TOGETHER_SECONDS:
                break
            found.append(other)
            seconds += took
        for other in found:
            self.waiting.remove(other)
        return [other.trial for other in found]

    def _next(self) -> Job | None:
        """The first job whose source model is there or nobody makes, else one that waits for it; None: none can run."""
        busy, second = set(self.making.values()) - self.made, None
        for job in self.waiting:
            if (source := self.source(job)) not in self.lethal:
                if source not in busy:
                    return job
                second = second or job
        return second

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See Searcher."""
        if trial_id in self.making:
            self.made.add(self.making.pop(trial_id))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Searcher."""
        self.ended += 1
        if (source := self.making.pop(trial_id, None)) is None:
            return
        if not error:
            self.made.add(source)
        elif nodes.told(nodes.making(self.orders.scratch, trial_id)):
            self.lethal.add(source)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's own state is disposable."""

    def __getstate__(self) -> dict[str, object]:
        """Nothing either: Tune keeps a copy of its searcher on disk."""
        return {}
