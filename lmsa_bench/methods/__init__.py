"""Fine-tuning methods: the parameters of a factory are the hyper-parameters, with their types, ranges and defaults."""

from lmsa_bench.methods.auto_rgn import auto_rgn
from lmsa_bench.methods.auto_rgn_published import auto_rgn_published
from lmsa_bench.methods.auto_snr_published import auto_snr_published
from lmsa_bench.methods.autofreeze import autofreeze
from lmsa_bench.methods.badam import badam
from lmsa_bench.methods.bitfit import bitfit
from lmsa_bench.methods.fisher_top import fisher_top
from lmsa_bench.methods.ftp import ftp
from lmsa_bench.methods.full import full
from lmsa_bench.methods.full_msa import full_msa
from lmsa_bench.methods.given_layers import given_layers
from lmsa_bench.methods.hift import hift
from lmsa_bench.methods.l2_sp import l2_sp
from lmsa_bench.methods.layer_decay import layer_decay
from lmsa_bench.methods.lift import lift
from lmsa_bench.methods.linear_probe import linear_probe
from lmsa_bench.methods.lisa import lisa
from lmsa_bench.methods.lisa_lmflow import lisa_lmflow
from lmsa_bench.methods.lmsa import lmsa
from lmsa_bench.methods.lmsa_adam import lmsa_adam
from lmsa_bench.methods.lmsa_adam_k import lmsa_adam_k
from lmsa_bench.methods.lmsa_closed_form import lmsa_closed_form
from lmsa_bench.methods.lmsa_top import lmsa_top
from lmsa_bench.methods.lora import lora
from lmsa_bench.methods.lora_plus import lora_plus
from lmsa_bench.methods.lp_ft import lp_ft
from lmsa_bench.methods.method import Averaged, Count, Every, Method, NonNegative, Positive
from lmsa_bench.methods.no_adaptation import no_adaptation
from lmsa_bench.methods.norm_only import norm_only
from lmsa_bench.methods.ows import ows
from lmsa_bench.methods.random_layer import random_layer
from lmsa_bench.methods.score_only import score_only
from lmsa_bench.methods.single_layer import single_layer
from lmsa_bench.methods.spd import spd
from lmsa_bench.methods.spectrum_top import spectrum_top
from lmsa_bench.methods.subtuning import subtuning
from lmsa_bench.methods.wise_ft import wise_ft
from lmsa_bench.registry import Registry

METHODS = Registry[Method]("method")
METHODS.register(auto_rgn)
METHODS.register(auto_rgn_published)
METHODS.register(auto_snr_published)
METHODS.register(autofreeze)
METHODS.register(badam)
METHODS.register(bitfit)
METHODS.register(fisher_top)
METHODS.register(ftp)
METHODS.register(full)
METHODS.register(full_msa)
METHODS.register(given_layers)
METHODS.register(hift)
METHODS.register(l2_sp)
METHODS.register(layer_decay)
METHODS.register(lift)
METHODS.register(linear_probe)
METHODS.register(lisa)
METHODS.register(lisa_lmflow)
METHODS.register(lmsa)
METHODS.register(lmsa_adam)
METHODS.register(lmsa_adam_k)
METHODS.register(lmsa_closed_form)
METHODS.register(lmsa_top)
METHODS.register(lora)
METHODS.register(lora_plus)
METHODS.register(lp_ft)
METHODS.register(no_adaptation)
METHODS.register(norm_only)
METHODS.register(ows)
METHODS.register(random_layer)
METHODS.register(score_only)
METHODS.register(single_layer)
METHODS.register(spd)
METHODS.register(spectrum_top)
METHODS.register(subtuning)
METHODS.register(wise_ft)

__all__ = ["METHODS", "Averaged", "Count", "Every", "Method", "NonNegative", "Positive"]
