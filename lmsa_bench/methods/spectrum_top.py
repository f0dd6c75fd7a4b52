"""Spectrum: the layers with the best signal-to-noise ratio of their weights (Hartford et al., 2024)."""

from functools import partial
from typing import Annotated

import torch
from annotated_types import Gt, Le

from lmsa_bench.control import selectors
from lmsa_bench.control.evidence import Evidence
from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.updates import Adam
from lmsa_bench.control.weight_criteria import spectrum
from lmsa_bench.methods.method import Method, NonNegative, Positive
from lmsa_bench.models.layered import LayeredModel

Share = Annotated[float, Gt(0), Le(1)]


def spectrum_top(lr: Positive, share: Share = 0.5, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the top ``share`` of the layers, at least one, with Adam; no data is looked at.

    Half is the code's default (cognitivecomputations/spectrum). Departure: it ranks the matrices of each kind, such as
    all down-projections; here layers are ranked, by the mean over their matrices.
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        k = max(1, int(share * len(model)))
        return selectors.best(spectrum(), k=k)(model, evidence, step, generator)

    return Method(select, partial(Adam, lr=lr, weight_decay=weight_decay))
