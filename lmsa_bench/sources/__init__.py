"""Source models: what a task starts from, each made once and kept by the fingerprint of all that decides it."""

from lmsa_bench.sources.facts import SourceFacts
from lmsa_bench.sources.model import SourceModel

__all__ = ["SourceFacts", "SourceModel"]
