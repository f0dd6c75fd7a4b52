"""What a user did wrong, in one line."""

import errno
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parent
DEPENDENCIES = ("torch", "torchvision", "timm", "ray", "numpy", "pyarrow", "mlflow", "pydantic", "scipy", "sklearn")


class UserError(Exception):
    """A mistake that the user can mend: its text says what was wrong, where, and what would be right."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known) or 'none'}"


def without_password(uri: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown: what stands before the @ of a host is left out."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", uri)


def one_line(error: object) -> str:
    """What an error of another library says, without its line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def raised_at(error: BaseException) -> str:
    """FILE:LINE where an error was raised: in the user's code if it passed through any, else in ours; "" without one.

    Frames of the standard library and of this package's dependencies are left out while there are others.
    """
    paths = sysconfig.get_paths()
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(path, line) for path, line in frames if path.is_relative_to(PACKAGE)]
    installed = [Path(paths["purelib"]), Path(paths["platlib"])]
    dependencies = [folder / name for folder in installed for name in DEPENDENCIES]

    def users(path: Path) -> bool:
        if any(path.is_relative_to(folder) for folder in (PACKAGE, *dependencies)):
            return False
        return any(path.is_relative_to(folder) for folder in installed) or not path.is_relative_to(paths["stdlib"])

    found = [(path, line) for path, line in frames if path.exists() and users(path)] or ours or frames
    return f"{found[-1][0]}:{found[-1][1]}" if found else ""


def in_one_line(error: BaseException) -> str:
    """An unexpected error's type, text and place, such as KeyError: 'momentum' (my_method.py:12)."""
    at = raised_at(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}{f' ({at})' if at else ''}"


def first_cause(error: BaseException) -> BaseException:
    """The error that led to all the others: of a long tale of a failed request, that the connection was refused."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def exit_status(main: Callable[[], int]) -> int:
    """Runs a command and returns its exit status.

    2 with one line on stderr after a user's error or on a full disk, 130 after Ctrl-C.
    """
    try:
        return main()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error}: make room and run the same command again to go on", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
