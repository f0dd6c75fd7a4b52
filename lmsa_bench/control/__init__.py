"""The paper's mathematics, in its notation, and the registry of criteria: one line per criterion."""

from lmsa_bench.control.criteria import Criterion, predicted_loss, rgn, snr
from lmsa_bench.registry import Registry

CRITERIA = Registry[Criterion]("criterion")
CRITERIA.register(predicted_loss)
CRITERIA.register(rgn)
CRITERIA.register(snr)
