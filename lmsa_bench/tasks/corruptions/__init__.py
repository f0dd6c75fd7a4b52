"""Common image corruptions (Hendrycks and Dietterich, arXiv:1903.12261), at their published strengths and any other.

A corruption takes the levels of an image (C, H, W) of one or three channels, black 0 and white 1, a strength and a
generator, and returns the new levels, of which what lies outside [0, 1] is clipped.
"""

import hashlib
import inspect
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmsa_bench.registry import Registry
from lmsa_bench.tasks.corruptions import blur, digital, noise, spatter, weather
from lmsa_bench.tasks.corruptions.pixels import Levels, Rounding, to_bytes
from lmsa_bench.tasks.corruptions.severities import SEVERITIES, Strength, strength

CORRUPTIONS = Registry[Levels]("corruption")
CORRUPTIONS.register(noise.gaussian_noise)
CORRUPTIONS.register(noise.shot_noise)
CORRUPTIONS.register(noise.impulse_noise)
CORRUPTIONS.register(noise.speckle_noise)
CORRUPTIONS.register(blur.defocus_blur)
CORRUPTIONS.register(blur.gaussian_blur)
CORRUPTIONS.register(blur.glass_blur)
CORRUPTIONS.register(blur.motion_blur)
CORRUPTIONS.register(blur.zoom_blur)
CORRUPTIONS.register(weather.fog)
CORRUPTIONS.register(weather.frost)
CORRUPTIONS.register(weather.snow)
CORRUPTIONS.register(spatter.spatter)
CORRUPTIONS.register(digital.brightness)
CORRUPTIONS.register(digital.contrast)
CORRUPTIONS.register(digital.elastic_transform)
CORRUPTIONS.register(digital.jpeg_compression)
CORRUPTIONS.register(digital.pixelate)
CORRUPTIONS.register(digital.saturate)

__all__ = ["CORRUPTIONS", "SEVERITIES", "Rounding", "Strength", "code_of", "corrupt", "strength"]


def code_of(name: str) -> str:
    """A digest of the files that make a corruption: an image prepared by others may be another one."""
    files = {Path(inspect.getfile(CORRUPTIONS.get(name))), *Path(__file__).parent.glob("*.py")}
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def corrupt(
    name: str, images: Tensor, strength: Strength, generator: torch.Generator, rounding: Rounding = "nearest"
) -> Tensor:
    """Images (n, C, H, W) uint8 after a corruption, one after the other from the same generator.

    `rounding` is "nearest", so that a corruption of strength 0 is the image itself, or "published": levels are float64
    and cut to the byte below, as in CIFAR-10-C and in ImageNet-C, whose images were then stored as JPEG of quality 85.
    """
    change = CORRUPTIONS.get(name)
    precision = np.float32 if rounding == "nearest" else np.float64
    corrupted = [
        to_bytes(change(image.astype(precision) / 255, strength, generator), rounding) for image in images.numpy()
    ]
    return torch.from_numpy(np.stack(corrupted))
