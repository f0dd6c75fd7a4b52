"""LoRA+: LoRA whose B learns faster than its A (Hayou et al., 2024; peft's optimizers/loraplus.py)."""

from lmsa_bench.methods.lora import lora
from lmsa_bench.methods.method import Count, Method, NonNegative, Positive


def lora_plus(
    lr: Positive, rank: Count = 8, alpha: Positive = 8.0, ratio: Positive = 16.0, weight_decay: NonNegative = 0.0
) -> Method:
    """LoRA with the rate ``ratio`` · lr for B; 16 is the paper's."""
    return lora(lr, rank, alpha, ratio, weight_decay)
