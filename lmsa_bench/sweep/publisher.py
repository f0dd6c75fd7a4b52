"""Publishes a sweep's trials to the tracking store while it runs."""

import threading
from collections.abc import Collection

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.tracking import ResultStore

PUBLISH_SECONDS = 15.0  # a call looks for what is there already, which costs the same for one trial as for many
MOST_SECONDS = 120.0  # between two tries of a store that does not answer
END_SECONDS = 300.0  # for the last time: a store that is slow must not hold up the end


class Publisher:
    """Publishes these trials while the block runs, and at its end; nothing is lost while the store is down or slow.

    ``trouble`` says after the block why the store lacks some of them, None where it has them all.
    """

    def __init__(self, store: ResultStore, journal: Journal, suite: str, ids: Collection[str]) -> None:
        self.store, self.journal, self.suite, self.ids = store, journal, suite, ids
        self.trouble: str | None = None
        self._written = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_publishing, name="publisher", daemon=True)

    def __enter__(self) -> "Publisher":
        self.journal.add_suite(self.suite, self.ids)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self.trouble = f"tracking store {self.store.shown} is too slow: not done after {END_SECONDS:g} s"

    def _keep_publishing(self) -> None:
        pause = PUBLISH_SECONDS
        while not self._ended.wait(pause):
            self._publish()
            pause = PUBLISH_SECONDS if self.trouble is None else min(2 * pause, MOST_SECONDS)
        self._publish()

    def _publish(self) -> None:
        before, self.trouble = self.trouble, "the publisher failed"
        try:
            self.journal.refresh()
            if set(self.ids).isdisjoint(self.journal.ids()):  # none has started: MLflow need not be imported
                self.trouble = None
                return
            self._written += self.store.publish(self.journal, self.suite, self.ids)
            if self._ended.is_set():
                if self._written:
                    self.store.deduplicate()
                if not self.store.is_settled(self.journal, self.suite, self.ids):
                    self.store.settle(self.journal, self.suite, self.ids)
            self.trouble = None
        except UserError as error:  # a refusal too: the sweep continues, and reports it at its end
            self.trouble = str(error)
        if self._ended.is_set():
            return
        if before is None and self.trouble is not None:
            print(f"warning: {self.trouble}; records wait on disk, trying again", flush=True)
        elif before is not None and self.trouble is None:
            print(f"tracking store {self.store.shown} is reachable again and up to date", flush=True)
