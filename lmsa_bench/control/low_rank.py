"""Low-rank corrections of linear maps and convolutions, as parameters of their own (LoRA)."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmsa_bench.models.layered import LayeredModel

Adapted = nn.Linear | nn.Conv2d
A, B = "lora_a", "lora_b"  # names of the factors among the parameters of a module


def add(rank: int, alpha: float, model: LayeredModel, draw: torch.Generator) -> None:
    """Adds alpha/rank · B·A to each linear map and convolution in one group, and makes A and B all there is of θ_n.

    A starts as a layer's weights do (uniform within 1/√(inputs of a unit)), B at 0, so nothing changes at first. A's
    rows have the shape of the weight's; B is (outputs, rank), a 1x1 convolution after A's.
    """
    for module in model.source.modules():
        if isinstance(module, Adapted) and getattr(module, "groups", 1) == 1:
            outputs, *row = module.weight.shape
            bound = 1 / math.sqrt(math.prod(row))
            uniform = torch.rand(rank, *row, generator=draw, dtype=torch.float64)
            a = ((2 * uniform - 1) * bound).to(module.weight)
            module.register_parameter(A, nn.Parameter(a))
            module.register_parameter(B, nn.Parameter(module.weight.new_zeros(outputs, rank)))
            module.register_forward_hook(partial(_correct, scale=alpha / rank))
    model.restrict(lambda name, module: name.rpartition(".")[2] in (A, B))


def is_b(name: str) -> bool:
    """Whether a parameter of that name is a factor B."""
    return name.rpartition(".")[2] == B


def _correct(module: nn.Module, inputs: tuple[Tensor], output: Tensor, scale: float) -> Tensor:
    a, b = module.get_parameter(A), module.get_parameter(B)
    if isinstance(module, nn.Conv2d):
        low = F.conv2d(inputs[0], a, None, module.stride, module.padding, module.dilation)
        return output + scale * F.conv2d(low, b[:, :, None, None])
    return output + scale * F.linear(F.linear(inputs[0], a), b)
