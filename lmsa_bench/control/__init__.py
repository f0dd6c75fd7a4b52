"""The paper's mathematics, in its notation, and the registry of criteria: one line per criterion."""

from lmsa_bench.control.criteria import Criterion
from lmsa_bench.control.gradient_criteria import auto_snr, batch_snr, rgn
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.registry import Registry

CRITERIA = Registry[Criterion]("criterion")
CRITERIA.register(auto_snr)
CRITERIA.register(batch_snr)
CRITERIA.register(predicted_loss)
CRITERIA.register(rgn)
