"""Common image corruptions at their published strengths (Hendrycks and Dietterich, arXiv:1903.12261), for any size."""

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lmsa_bench.errors import UserError, nearest
from lmsa_bench.registry import Registry
from lmsa_bench.tasks.task import to_unit

CORRUPTIONS = Registry[Tensor]("corruption")

Strength = float | tuple[float, float]

# Strengths of the severities 1 to 5, by the benchmark that published them.
SEVERITIES: Mapping[str, Mapping[str, tuple[Strength, ...]]] = {
    "cifar": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.1),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
    "imagenet": {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
    },
}


def strength(name: str, severity: int, table: str = "imagenet") -> Strength:
    """The published strength of a corruption at severity 1 to 5; raises UserError where there is none."""
    if table not in SEVERITIES:
        raise UserError(f"unknown severity table {table!r}: {nearest(table, SEVERITIES)}")
    if name not in SEVERITIES[table]:
        raise UserError(f"no {table} severities for corruption {name!r}: {nearest(name, SEVERITIES[table])}")
    if severity not in range(1, 6):
        raise UserError(f"severity {severity} of {name}: expected 1 to 5")
    return SEVERITIES[table][name][severity - 1]


@CORRUPTIONS.register
def gaussian_noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Adds normal noise of that standard deviation on [0, 1] pixels."""
    return _to_bytes(to_unit(images) + deviation * torch.randn(images.shape, generator=generator))


@CORRUPTIONS.register
def shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Counts photons: a Poisson number at each pixel, of which `photons` make white."""
    return _to_bytes(torch.poisson(to_unit(images) * photons, generator=generator) / photons)


@CORRUPTIONS.register
def impulse_noise(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Salt and pepper: each value becomes 0 or 255, as likely, with probability `amount`."""
    draw = torch.rand(images.shape, generator=generator)
    salt = torch.where(draw < amount / 2, 255, 0).to(torch.uint8)
    return torch.where(draw < amount, salt, images)


@CORRUPTIONS.register
def defocus_blur(images: Tensor, disk: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Blurs with a disk of that radius, its edge smoothed by a Gaussian of that deviation, both in pixels."""
    from scipy import ndimage  # here: only a preparation needs it, and it is slow to import

    radius, smoothing = disk
    reach, tap = (8.0, 1) if radius <= 8 else (radius, 2)
    grid = np.arange(-reach, reach + 1)
    kernel = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    edge = np.exp(-(np.arange(-tap, tap + 1) ** 2) / (2 * smoothing**2))
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel / kernel.sum(), edge / edge.sum(), axis, mode="mirror")
    used = np.flatnonzero(kernel.any(axis=1))
    kernel = kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1]
    blurred = ndimage.correlate(to_unit(images).numpy(), kernel[None, None], mode="mirror")
    return _to_bytes(torch.from_numpy(blurred))


@CORRUPTIONS.register
def contrast(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Pulls each value towards the mean of its image and channel, to that fraction of its distance."""
    x = to_unit(images)
    mean = x.mean(dim=(2, 3), keepdim=True)
    return _to_bytes((x - mean) * factor + mean)


@CORRUPTIONS.register
def brightness(images: Tensor, added: float, generator: torch.Generator) -> Tensor:
    """Adds to the value of HSV, which is the largest channel, at the same hue and saturation."""
    x = to_unit(images)
    value = x.amax(dim=1, keepdim=True)
    lifted = (value + added).clamp(max=1)
    # Hue and saturation depend on the channels' ratios alone; black has none and becomes grey.
    return _to_bytes(torch.where(value > 0, x / value.clamp(min=1e-6) * lifted, lifted))


@CORRUPTIONS.register
def pixelate(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Shrinks with a box filter to that fraction of height and width, and enlarges again."""

    def one(image: Image.Image) -> Image.Image:
        small = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(images, one)


@CORRUPTIONS.register
def jpeg_compression(images: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    """Writes and reads each image as JPEG of that quality."""

    def one(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(quality))
        return Image.open(file)

    return _each(images, one)


def _to_bytes(x: Tensor) -> Tensor:
    # Rounded, where the published scripts cut off: a corruption of strength 0 is then the image itself.
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def _each(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    grey = images.shape[1] == 1
    changed = [
        np.asarray(change(Image.fromarray(image[..., 0] if grey else image)))
        for image in images.permute(0, 2, 3, 1).contiguous().numpy()
    ]
    stacked = torch.from_numpy(np.stack(changed))
    return stacked[:, None] if grey else stacked.permute(0, 3, 1, 2).contiguous()
