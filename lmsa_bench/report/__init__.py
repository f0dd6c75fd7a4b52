"""What a report shows: tables, figures, files."""

from lmsa_bench.report.figures import FIGURES

__all__ = ["FIGURES"]
