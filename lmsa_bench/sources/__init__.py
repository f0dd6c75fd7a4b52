"""Source models: what a task starts from, each made once and kept by the fingerprint of all that decides it."""

from lmsa_bench.sources.model import SourceFacts, SourceModel

__all__ = ["SourceFacts", "SourceModel"]
