"""What a user did wrong, in one line."""

import errno
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


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
