"""How all figures look."""

from collections.abc import Sequence
from itertools import cycle, islice
from statistics import fmean
from typing import TYPE_CHECKING

from lmsa_bench.analysis.ranks import half_width, t_interval

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


def reach(values: Sequence[float], most: float = 100) -> tuple[float, float]:
    """How far their 95 % t interval goes below and above the mean, within 0 and ``most``; 0 for too few."""
    half, mean = half_width(t_interval(values), len(values)), fmean(values)
    return min(half, mean), min(half, most - mean)


def panels(
    title: str, rows: int, columns: int, size: tuple[float, float], sharey: bool = False
) -> "tuple[Figure, list[list[Axes]]]":
    """A figure with a title and a grid of panels of that size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * size[0], rows * size[1] + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, sharey=sharey)]
