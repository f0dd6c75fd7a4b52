"""What a task and its source model read: made ready, or missing with its remedy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lmsa_bench.errors import UserError
from lmsa_bench.models import weights
from lmsa_bench.tasks.published import DATA_SETS
from lmsa_bench.tasks.task import Source, Task


def prepare(task: Task, root: Path) -> None:
    """Makes ready what a task and its source model need below the data root; raises UserError where it is missing."""
    if has_no_origin(task.source):
        raise UserError(no_training(task))
    with _alone(root):
        task.prepare(root)
        source = task.source
        if source.weights != "pretrain":
            weights.obtain(task.model, source.weights, root)
        if reads_data(source):
            source.prepare(root)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While no other process prepares data below the same root."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"data folder {root}: cannot be written ({error.strerror}); name another") from None
    try:
        yield
    finally:
        lock.release()


def missing_data(task: Task, root: Path) -> list[str]:
    """The data sets that ``prepare`` would not find, one line each with its remedy."""
    source, found = task.source, []
    readers = [(task.name, task.needs, lambda: task.fingerprint(root))]
    if reads_data(source):
        readers.append((f"the source model of {task.name}", source.needs, lambda: source_data(source, root)))
    for reader, needs, prepared in readers:
        sets = [(DATA_SETS[name], parts) for name, parts in needs.items()]
        lacking = [data for data, parts in sets if data.missing(root, parts)]
        if lacking and not _is_there(prepared):
            found += [f"{reader} needs {data.name}: {data.get()}" for data in lacking]
    return found


def missing_weights(task: Task, root: Path) -> list[str]:
    """The line about the task's given weights where they are not there, or must be given."""
    source = task.source
    if has_no_origin(source):
        return [no_training(task)]
    if source.weights == "pretrain" or weights.file_of(task.model, source.weights, root).is_file():
        return []
    how = "they are downloaded on the first run" if source.weights == "hub" else "there is no such file"
    return [f"{task.name} needs weights of {task.model} ({source.weights}): {how}"]


def has_no_origin(source: Source) -> bool:
    """Whether a source model can be neither trained nor loaded."""
    return source.weights == "pretrain" and source.load is None


def no_training(task: Task) -> str:
    """What is said of a source model that has no training data here."""
    offered = f"weights: {{{task.model}: hub}} or a file's path"
    return f"task {task.name}: its source model cannot be trained here: give {offered}"


def reads_data(source: Source) -> bool:
    """Whether the source model is trained here, at least in part, on data of its own."""
    return source.weights == "pretrain" or bool(source.stages and not source.on_tuning)


def source_data(source: Source, root: Path) -> str:
    """What a result says of the data that its source model was trained on."""
    return source.data if source.fingerprint is None else source.fingerprint(root)


def _is_there(read: Callable[[], object]) -> bool:
    try:
        return bool(read())
    except UserError:
        return False
