"""What a model makes of a split: its loss, its accuracy, and which samples it gets right."""

from typing import NamedTuple

import torch
from torch import Tensor

from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.models import LayeredModel
from lmsa_bench.trial import outcomes
from lmsa_bench.trial.samples import Samples


class Judged(NamedTuple):
    """Mean cross-entropy in nats, accuracy as a fraction, and which samples are right."""

    loss: float
    accuracy: float
    correct: Tensor  # bool (n,)
    margins: Tensor | None = None  # of the logits (n,), where asked for


@torch.no_grad()
def evaluate(model: LayeredModel, samples: Samples, margins: bool = False) -> Judged:
    """Judges a model on all samples of a split."""
    totals = torch.zeros(2, dtype=torch.float64, device=samples.device)
    right, apart = list[Tensor](), list[Tensor]()
    for x, y in samples.in_order():
        output = model.run(x, samples.start)
        right.append(output.argmax(1) == y)
        totals += torch.stack([cross_entropy(output, y).double().sum(), right[-1].double().sum()])
        if margins:
            apart.append(outcomes.margins_of(output, y))
    loss, accuracy = (totals / len(samples)).tolist()
    return Judged(loss, accuracy, torch.cat(right), torch.cat(apart) if margins else None)
