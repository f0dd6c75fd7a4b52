"""Fine-tuning methods: the parameters of a factory are the hyper-parameters, with their types, ranges and defaults."""

from lmsa_bench.methods.auto_rgn import auto_rgn
from lmsa_bench.methods.full import full
from lmsa_bench.methods.full_msa import full_msa
from lmsa_bench.methods.lift import lift
from lmsa_bench.methods.lisa import lisa
from lmsa_bench.methods.lmsa import lmsa
from lmsa_bench.methods.lmsa_adam import lmsa_adam
from lmsa_bench.methods.lmsa_adam_k import lmsa_adam_k
from lmsa_bench.methods.method import Averaged, Count, Every, Method, NonNegative, Positive
from lmsa_bench.methods.no_adaptation import no_adaptation
from lmsa_bench.methods.score_only import score_only
from lmsa_bench.methods.single_layer import single_layer
from lmsa_bench.registry import Registry

METHODS = Registry[Method]("method")
METHODS.register(auto_rgn)
METHODS.register(full)
METHODS.register(full_msa)
METHODS.register(lift)
METHODS.register(lisa)
METHODS.register(lmsa)
METHODS.register(lmsa_adam)
METHODS.register(lmsa_adam_k)
METHODS.register(no_adaptation)
METHODS.register(score_only)
METHODS.register(single_layer)

__all__ = ["METHODS", "Averaged", "Count", "Every", "Method", "NonNegative", "Positive"]
