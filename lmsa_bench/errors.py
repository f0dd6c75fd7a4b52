"""Errors for users, in one line: what was wrong, where, and what would be right."""

import errno
import gc
import os
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
DEPENDENCIES = ("torch", "torchvision", "timm", "ray", "numpy", "pyarrow", "mlflow", "pydantic", "scipy", "sklearn")
DISK = {  # what a user does about a disk that fails, or a folder that was closed
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "make the disk writable",
    errno.EACCES: "open it to yourself",
    errno.EPERM: "open it to yourself",
    errno.EIO: "mend the disk",
    errno.ESTALE: "mount the folder again",
}
LONGEST = 2000  # characters of a message
RARELY = (50_000, 20, 100)  # new objects, and looks of the lower kind, between two looks for garbage of each generation
INTERRUPTED = "interrupted: run the same command again to resume"


class UserError(Exception):
    """A mistake that the user can fix: the message says what was wrong, where, and what would be right."""


class StoreUnavailable(UserError):
    """The tracking server does not answer, or another publisher is at work: nothing is lost, publish again later."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known name, and all known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known) or 'none'}"


def without_password(uri: str) -> str:
    """A URI, or a text with URIs in it, with ***@ in place of the credentials before a host."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", uri)


def printable(text: str) -> str:
    """A text of unknown origin for a terminal, which would obey its control characters; line breaks and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def one_line(error: object) -> str:
    """An error's message for a terminal, without line breaks and not too long; its type if the message is empty."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text)} characters)"


def raised_at(error: BaseException) -> str:
    """FILE:LINE where an error was raised, in the user's code if the traceback has any; "" without a traceback.

    Frames of the standard library and of this package's dependencies are used only if there are no others.
    """
    paths = sysconfig.get_paths()
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(path, line) for path, line in frames if path.is_relative_to(PACKAGE)]
    installed = [Path(paths["purelib"]), Path(paths["platlib"])]
    dependencies = [folder / name for folder in installed for name in DEPENDENCIES]

    def is_users(path: Path) -> bool:
        if any(path.is_relative_to(folder) for folder in (PACKAGE, *dependencies)):
            return False
        return any(path.is_relative_to(folder) for folder in installed) or not path.is_relative_to(paths["stdlib"])

    relevant = [(path, line) for path, line in frames if path.exists() and is_users(path)] or ours or frames
    return f"{relevant[-1][0]}:{relevant[-1][1]}" if relevant else ""


def in_one_line(error: BaseException) -> str:
    """An unexpected error's type, message and place, such as KeyError: 'momentum' (my_method.py:12)."""
    place = raised_at(error)
    text = one_line(error) if str(error).strip() else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{f' ({place})' if place else ''}"


def first_cause(error: BaseException) -> BaseException:
    """The error at the start of a chain, such as the refused connection behind a failed request."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def exit_status(main: Callable[[], int]) -> int:
    """Runs a command and returns its exit status: what main returns, 2 on a UserError or a failing disk, 130 on Ctrl-C.

    Each of these errors prints one line to stderr.
    """
    try:
        return main()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK:
            raise
        remedy = f"{DISK[error.errno]} and run the same command again to resume"
        print(f"error: {one_line(error)}: {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


@contextmanager
def importing() -> Iterator[None]:
    """Around imports: what they bring stays, and to look through it for garbage takes a tenth of a small sweep."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def imported(command: str) -> Any:
    """A command's module; Ctrl-C meanwhile ends the process at once, since libraries break where it meets an import."""

    def stop(*_: object) -> None:
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(130)

    before = signal.signal(signal.SIGINT, stop)
    try:
        with importing():
            return import_module(command)
    finally:
        signal.signal(signal.SIGINT, before)


def run_command(room: str, arguments: Sequence[str]) -> int:
    """Runs a room's command; its arguments are looked at first, since what else it imports takes seconds."""
    import_module(f"lmsa_bench.{room}.arguments").parser().parse_args(arguments)
    gc.set_threshold(*RARELY)  # most of what a command makes stays; trials have Python's own numbers (local.set_up)
    try:
        status: int = imported(f"lmsa_bench.{room}.command").main(arguments)
    finally:
        gc.freeze()  # else the process looks through all that it still has before it ends
    return status
