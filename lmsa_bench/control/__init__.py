"""The paper's mathematics, in its notation, and the registry of criteria: one line per criterion."""

from lmsa_bench.control.evidence import Judge
from lmsa_bench.control.gate import gate, gate_ahead, gate_by_means
from lmsa_bench.control.gradient_criteria import auto_snr, batch_snr, fisher, gradient_length, rgn
from lmsa_bench.control.lookahead import halving, one_epoch, one_step_ahead, steps_ahead
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.probes import probes
from lmsa_bench.control.tangent import tangent
from lmsa_bench.control.weight_criteria import outliers, spectrum
from lmsa_bench.registry import Registry

CRITERIA = Registry[Judge]("criterion")
CRITERIA.register(auto_snr)
CRITERIA.register(batch_snr)
CRITERIA.register(fisher)
CRITERIA.register(gate)
CRITERIA.register(gate_ahead)
CRITERIA.register(gate_by_means)
CRITERIA.register(gradient_length)
CRITERIA.register(halving)
CRITERIA.register(one_epoch)
CRITERIA.register(one_step_ahead)
CRITERIA.register(outliers)
CRITERIA.register(predicted_loss)
CRITERIA.register(probes)
CRITERIA.register(rgn)
CRITERIA.register(spectrum)
CRITERIA.register(steps_ahead)
CRITERIA.register(tangent)
