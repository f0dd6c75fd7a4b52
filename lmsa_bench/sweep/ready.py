"""What trials need before any of them runs, made by a process of its own: it is torch code, and the driver has none."""

import signal
import sys
from collections.abc import Hashable, Iterable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from lmsa_bench.errors import UserError
from lmsa_bench.trial.spec import Trial


class Ready(NamedTuple):
    """What is known once data and weights are there."""

    unready: dict[str, str]  # by Trial.setting, why its data or weights cannot be had
    sources: dict[tuple[str, int], Hashable]  # see queue.Sources
    data: dict[str, str]  # by Trial.setting, the fingerprint of its data, where that is asked for


def make(trials: Iterable[Trial], data: Path, fingerprints: bool) -> Ready:
    """Makes ready the data and weights of these trials."""
    from lmsa_bench.local import unready
    from lmsa_bench.sources import SourceModel
    from lmsa_bench.trial.names import task_of

    first = {(trial.setting, trial.seed): trial for trial in trials}
    found = Ready(unready(first.values(), data), {}, {})
    for key, trial in first.items():
        if trial.setting in found.unready:
            continue
        task = task_of(trial)
        found.sources[key] = str(SourceModel(task, data, trial.seed).group)  # text: to read its values takes torch
        if fingerprints and trial.setting not in found.data:
            found.data[trial.setting] = task.fingerprint(data)
    return found


class Needs:
    """Makes ready the data and weights of a sweep's trials, while Ray starts where it can."""

    def __init__(self, data: Path, fingerprints: bool) -> None:
        self.data, self.fingerprints = data, fingerprints
        self.begun, self.known = set[str](), Ready({}, {}, {})
        self.coming: tuple[Connection, BaseProcess] | None = None

    def begin(self, trials: Iterable[Trial], here: bool) -> None:
        """Begins with those trials whose setting is new; in this process where torch is loaded, or ``here``."""
        fresh = [trial for trial in trials if trial.setting not in self.begun]
        self.begun |= {trial.setting for trial in fresh}
        if not fresh:
            return
        if here or "torch" in sys.modules:
            self._add(make(fresh, self.data, self.fingerprints))
            return
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        other = context.Process(target=_tell, args=(theirs, fresh, self.data, self.fingerprints), daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as it has it then: Ctrl-C is ours, and we end it
        try:
            other.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        self.coming = ours, other

    def wait(self) -> Ready:
        """What is known of all trials that it has begun with; raises UserError where the other process has ended."""
        if self.coming is not None:
            ours, other = self.coming
            try:
                self._add(ours.recv())
            except EOFError:
                raise UserError("the process that makes data and weights ready has ended; run it again") from None
            other.join()
            self.coming = None
        return self.known

    def _add(self, found: Ready) -> None:
        self.known.unready.update(found.unready)
        self.known.sources.update(found.sources)
        self.known.data.update(found.data)


def _tell(to: Connection, trials: list[Trial], data: Path, fingerprints: bool) -> None:
    found = make(trials, data, fingerprints)
    with suppress(BrokenPipeError):  # the driver has ended
        to.send(found)
