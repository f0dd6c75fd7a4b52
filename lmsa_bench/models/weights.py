"""Published weights: where to get them, how their inputs are normalised, and how to load a file of weights."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmsa_bench.download import checksum, fetch
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.models.layered import head_of

MAX_SHOWN = 3  # keys named in an error message
MAX_NESTING = 3  # levels of {"state_dict": ...} around a state dict; in a hostile file a dict can contain itself
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """A checkpoint that can be downloaded."""

    url: str
    file: str  # its name in <data root>/weights
    sha256: str  # hex digits, or the first few
    classes: int
    accuracy: float | None  # as published, a fraction, on the test images of its training distribution
    mean: tuple[float, float, float] | None = None  # of its training pixels in [0, 1]; None: inputs are not normalised
    std: tuple[float, float, float] | None = None


PUBLISHED: Mapping[str, Published] = {
    "wrn_28_10": Published(  # RobustBench's "Standard"
        url="https://drive.usercontent.google.com/download?id=1t98aEuzeTL8P7Kpd5DIrCoCL21BNZUhC&export=download&confirm=t",
        file="Standard.pt",
        sha256="6ed1c75dad63e8ebdbef365020dd1a7eee5e79cf8a1438bd3bdc3b9c7aab3d44",
        classes=10,
        accuracy=0.9478,
    ),
    "resnet50": Published(  # torchvision's IMAGENET1K_V1, timm's resnet50.tv_in1k
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        file="resnet50-0676ba61.pth",
        sha256="0676ba61",
        classes=1000,
        accuracy=0.7613,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "deit_tiny": Published(  # timm's deit_tiny_patch16_224.fb_in1k
        url="https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth",
        file="deit_tiny_patch16_224-a1311bcf.pth",
        sha256="a1311bcf",
        classes=1000,
        accuracy=None,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
}


def default(model: str) -> str:
    """Where a model's weights come from by default: "hub" if they are published, else "pretrain"."""
    return "hub" if model in PUBLISHED else "pretrain"


def normalised(model: str) -> Callable[[Tensor], Tensor]:
    """A model's normalisation of pixels in [0, 1], (K, 3, H, W): standardised for ImageNet models, else unchanged."""
    published = PUBLISHED.get(model)
    if published is None or published.mean is None or published.std is None:
        return lambda x: x
    mean, std = (torch.tensor(values)[:, None, None] for values in (published.mean, published.std))
    return lambda x: (x - mean.to(x.device)) / std.to(x.device)


def file_of(model: str, weights: str, root: Path) -> Path:
    """The path of a model's weights, which need not exist: ``weights`` itself, or a file in the data root for "hub"."""
    if weights != "hub":
        return Path(weights)
    if model not in PUBLISHED:
        raise UserError(f"no weights of {model} are published: expected pretrain or a file, not hub")
    return root / "weights" / PUBLISHED[model].file


def content_of(weights: str) -> str:
    """The sha256 of a file of weights in hex; "" for "pretrain" and "hub", or if there is no such file."""
    if weights in ("pretrain", "hub"):
        return ""
    try:
        stat = Path(weights).stat()
    except OSError:
        return ""
    return _content_of(Path(weights), stat.st_size, stat.st_mtime_ns)


@cache
def _content_of(path: Path, size: int, time: int) -> str:
    return checksum(path, "sha256")


def obtain(model: str, weights: str, root: Path) -> Path:
    """The path of a model's weights, downloaded if they are the hub's and missing; raises UserError."""
    path = file_of(model, weights, root)
    if weights == "hub":
        try:
            fetch(PUBLISHED[model].url, path, {"sha256": PUBLISHED[model].sha256})
        except UserError as error:
            raise UserError(f"weights of {model}: {error}; or put the file at {path}") from None
    elif not path.is_file():
        raise UserError(f"weights of {model}: no file {path}")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by key, without the nesting and key prefixes of trainers; raises UserError."""
    content = _content(path)
    for _ in range(MAX_NESTING):
        nested = [content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)]
        content = nested[0] if nested else content
    for prefix in ("module.", "model."):
        if content and all(str(key).startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    invalid = [f"{key!s:.80}" for key, value in content.items() if not (isinstance(key, str) and _is_plain(value))]
    if invalid or not content:
        raise UserError(f"weights {path}: not a state dict of tensors{_listed(': ', invalid)}")
    return dict(content)


def load(net: nn.Module, path: Path, new_head: bool) -> bool:
    """Loads a checkpoint into a network; returns whether its head was loaded too.

    With ``new_head``, a head for another number of classes is skipped, and the network's own is kept. Raises UserError
    if keys are missing or unexpected, or if a tensor has another shape, another kind of number, or is not finite.
    """
    state, current, head = read(path), net.state_dict(), head_of(net)
    outputs = state.get(f"{head}.weight", torch.empty(0)).shape[:1].numel()
    classes = len(current[f"{head}.weight"])
    fits = outputs in (0, classes)
    if not fits and not new_head:
        raise UserError(f"weights {path}: its model has {outputs} outputs, the task has {classes} classes")
    if not fits:
        state |= {key: value for key, value in current.items() if key in (f"{head}.weight", f"{head}.bias")}
    # Older files lack BatchNorm's counter, which nothing here reads.
    missing = [key for key in current if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in current]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in current.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or unexpected or shapes:
        lists = {"missing keys ": missing, "unexpected keys ": unexpected, "other shapes ": shapes}
        misfits = "; ".join(_listed(label, keys) for label, keys in lists.items() if keys)
        raise UserError(f"weights {path}: do not fit the model: {misfits}")
    invalid = [
        key
        for key, value in current.items()
        if key in state
        and not (
            state[key].is_floating_point() == value.is_floating_point() and state[key].to(value.dtype).isfinite().all()
        )
    ]
    if invalid:
        raise UserError(f"weights {path}: not finite, or not of the model's type: {_listed('', invalid)}")
    net.load_state_dict(current | state)
    return fits


def unpack(path: Path, device: torch.device | str = "cpu") -> Any:
    """The tensors and plain values of a file written by torch.save, without running code in it; raises UserError."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                unpacked = sum(part.file_size for part in file.infolist())
                if unpacked > path.stat().st_size:  # torch.save does not compress
                    raise ValueError(f"it would unpack to {unpacked} bytes")
                if damaged := file.testzip():  # torch does not verify the checksums
                    raise ValueError(f"{damaged} is damaged")
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: cannot be read ({reason})") from None


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else unpack(path)
    except UserError as error:
        raise UserError(f"weights {error}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"weights {path}: not a state dict but a {type(content).__name__}")
    return content


def _safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - as above
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from None


def _is_plain(value: object) -> bool:
    """Whether a value is a dense, real tensor in memory: not sparse, quantised, complex or meta."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return not (value.is_quantized or value.is_complex())


def _listed(label: str, names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"{label}{', '.join(names[:MAX_SHOWN])}{more}" if names else ""
