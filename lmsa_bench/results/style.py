"""How all figures look."""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from lmsa_bench.results.ranks import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours stay apart for colour-blind readers; the markers do so in print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"  # one more than colours: every pair of the two comes once before any comes again
GREY = "#777777"


def colours(count: int) -> list[str]:
    """So many colours, from the start again where there are not enough."""
    return list(islice(cycle(COLOURS), count))


def panels(
    title: str, rows: int, columns: int, size: tuple[float, float], sharey: bool = False
) -> "tuple[Figure, list[list[Axes]]]":
    """A figure with a title and a grid of panels of that size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * size[0], rows * size[1] + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, sharey=sharey)]


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of the values' mean; 0 for a single value, which has none."""
    interval = t_interval(values)
    return (interval.high - interval.low) / 2 if interval else 0.0


def seeds_text(counts: Sequence[int]) -> str:
    """The numbers of seeds behind a figure's marks, in words."""
    lowest, highest = min(counts), max(counts)
    return f"n = {lowest} seeds" if lowest == highest else f"n = {lowest} to {highest} seeds"
