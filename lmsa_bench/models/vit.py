"""Vision transformers from timm, cut into their blocks (paper, appendix A.2.4)."""

from typing import Any

import torch
from torch import Tensor, nn

from lmsa_bench.models.layered import LayeredModel


class EmbeddedBlock(nn.Module):
    """Layer 0: patch, class and position embeddings and the first block; (K, C, H, W) to (K, 1 + patches, D)."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patch_embed, self.cls_token, self.pos_embed = vit.patch_embed, vit.cls_token, vit.pos_embed
        self.block = vit.blocks[0]

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)
        cls = self.cls_token.expand(len(patches), -1, -1)
        states: Tensor = self.block(torch.cat([cls, patches], 1) + self.pos_embed)
        return states


class ClassifiedBlock(nn.Module):
    """The last layer: the last block, norm, and the head on the class token; (K, 1 + patches, D) to (K, classes)."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.block, self.norm, self.head = vit.blocks[-1], vit.norm, vit.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(class_token(self.norm(self.block(x))))
        return logits


def class_token(tokens: Tensor) -> Tensor:
    """The token that the head reads: (K, 1 + patches, D) to (K, D)."""
    return tokens[:, 0]


def cut(vit: Any) -> LayeredModel:
    """One layer per block of a timm VisionTransformer; raises ValueError if it has parts that the cut would drop."""
    plain = vit.global_pool == "token" and vit.num_prefix_tokens == 1 and not vit.no_embed_class
    if not (plain and isinstance(vit.norm_pre, nn.Identity) and isinstance(vit.fc_norm, nn.Identity)):
        raise ValueError("expected a plain vision transformer that classifies its class token")
    for block in vit.blocks:
        block.attn.fused_attn = False  # the co-state penalty needs double backward, which fused kernels lack
    inner = dict(zip([f"block{n}" for n in range(1, len(vit.blocks) - 1)], vit.blocks[1:-1], strict=True))
    last = f"block{len(vit.blocks) - 1}"
    layers = {"block0": EmbeddedBlock(vit), **inner, last: ClassifiedBlock(vit)}
    return LayeredModel(vit, layers, reads={last: class_token})


def _vit(classes: int, input_shape: tuple[int, int, int], **sizes: Any) -> LayeredModel:
    from timm.models.vision_transformer import VisionTransformer  # takes seconds to import

    channels, *size = input_shape
    return cut(VisionTransformer(img_size=(size[0], size[1]), in_chans=channels, num_classes=classes, **sizes))


def deit_tiny(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """DeiT-Tiny with 16x16 patches, 12 layers, 5.7 M parameters with 1000 classes (paper, table 2)."""
    return _vit(classes, input_shape, patch_size=16, embed_dim=192, depth=12, num_heads=3)


def small_vit(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """DeiT-Tiny's 12 blocks at width 48, with 2x2 patches for 8x8 images: the small suites' transformer."""
    return _vit(classes, input_shape, patch_size=2, embed_dim=48, depth=12, num_heads=3, mlp_ratio=2)
