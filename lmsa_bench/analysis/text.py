"""Values as text, wherever they are shown."""

from collections.abc import Sequence


def aligned(table: list[list[str]]) -> list[str]:
    """Rows of text in columns, a rule below the first."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in table]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


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
