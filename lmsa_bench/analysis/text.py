"""Values as text, wherever they are shown."""

import re
import textwrap
from collections.abc import Sequence

WIDTH = 120  # of a line, in characters
GLUE = "\N{NO-BREAK SPACE}"  # where a cell must not be broken: anywhere but after a comma


def aligned(table: Sequence[Sequence[str]], keys: int = 1) -> list[str]:
    """Rows of text in columns, a rule below the first, at most WIDTH wide.

    Where it would be wider, cells are broken after their commas, and titles at their spaces; where that is not enough,
    tables of some of the columns follow each other, each with the first ``keys`` columns.
    """
    glued = [list(table[0]), *([re.sub("(?<!,) ", GLUE, text) for text in row] for row in table[1:])]
    columns = list(zip(*glued, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for text in column for word in text.split(" ")) for column in columns]
    while _total(widths) > WIDTH and widths > least:
        able = [i for i, width in enumerate(widths) if width > least[i]]
        widths[max(able, key=lambda i: widths[i])] -= 1
    some = len(widths)
    while _total(widths[:some]) > WIDTH and some > keys + 1:
        some -= 1
    if some < len(widths):
        first, rest = [row[:some] for row in table], [[*row[:keys], *row[some:]] for row in table]
        return [*aligned(first, keys), "", *aligned(rest, keys)]
    lines = []
    for row in [*glued[:1], ["-" * width for width in widths], *glued[1:]]:
        cells = [textwrap.wrap(text, width, break_on_hyphens=False) for text, width in zip(row, widths, strict=True)]
        for number in range(max(1, *map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            shown = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append(shown.replace(GLUE, " "))
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def seeds_text(counts: Sequence[int]) -> str:
    """The numbers of seeds behind a table or a figure, in words."""
    if not counts:
        return "no seed"
    lowest, highest = min(counts), max(counts)
    return f"n = {lowest} seed{'s' * (lowest != 1)}" if lowest == highest else f"n = {lowest} to {highest} seeds"


def points(fraction: float) -> str:
    """A difference of accuracies in words, such as 1 point."""
    value = f"{100 * fraction:g}"
    return f"{value} point{'s' * (value != '1')}"
