"""Published weights: where they come from, what input they take, and how a file of weights becomes a source model."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmsa_bench.download import fetch
from lmsa_bench.errors import UserError, one_line

SHOWN = 3  # keys in an error about many
WRAPPINGS = 3  # that are taken off a state dict; a file can make a dict that holds itself
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """A checkpoint on the web and what is known of it."""

    url: str
    file: str  # its name below <data root>/weights
    sha256: str  # or its first digits
    classes: int
    accuracy: float | None  # as published, on the test images of what it was trained on
    mean: tuple[float, float, float] | None = None  # of its input on [0, 1] pixels; None: it takes those as they are
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
    """Where a model's weights come from unless a suite says: the hub where they are published, else training."""
    return "hub" if model in PUBLISHED else "pretrain"


def normalised(model: str) -> Callable[[Tensor], Tensor]:
    """The input that a model takes, from pixels on [0, 1], (K, 3, H, W): the ImageNet models' is standardised."""
    known = PUBLISHED.get(model)
    if known is None or known.mean is None or known.std is None:
        return lambda x: x
    mean, std = (torch.tensor(values)[:, None, None] for values in (known.mean, known.std))
    return lambda x: (x - mean.to(x.device)) / std.to(x.device)


def file_of(model: str, weights: str, root: Path) -> Path:
    """The file of a model's given weights: a path as it is, the hub's below the data root; it need not be there."""
    if weights != "hub":
        return Path(weights)
    if model not in PUBLISHED:
        raise UserError(f"no weights of {model} are published: expected pretrain or a file, not hub")
    return root / "weights" / PUBLISHED[model].file


def obtain(model: str, weights: str, root: Path) -> Path:
    """The file of a model's given weights, downloaded where it is the hub's and missing; raises UserError."""
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
    """The tensors of a checkpoint by key, without the wrappings and prefixes of trainers; raises UserError."""
    content = _content(path)
    for _ in range(WRAPPINGS):
        inner = [content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)]
        content = inner[0] if inner else content
    for prefix in ("module.", "model."):
        if content and all(str(key).startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    wrong = [f"{key!s:.80}" for key, value in content.items() if not (isinstance(key, str) and _is_plain(value))]
    if wrong or not content:
        raise UserError(f"weights {path}: not a state dict of tensors{_some(': ', wrong)}")
    return dict(content)


def load(net: nn.Module, path: Path, new_head: bool) -> bool:
    """Loads a checkpoint into a network and says whether its head came with it.

    Where ``new_head``, a head of another number of classes is left out, and the network keeps its own. Raises UserError
    where keys are missing, too many or of another shape.
    """
    state, own, head = read(path), net.state_dict(), head_of(net)
    mine = {key: value for key, value in own.items() if key in (f"{head}.weight", f"{head}.bias")}
    outputs = state.get(f"{head}.weight", torch.empty(0)).shape[:1].numel()
    classes = len(own[f"{head}.weight"])
    fits = outputs in (0, classes)
    if not fits and not new_head:
        raise UserError(f"weights {path}: its model has {outputs} outputs, the task has {classes} classes")
    state = state if fits else state | mine
    # Files older than this counter, which nothing here reads, do without it.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    other = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or extra or other:
        found = [_some("missing keys ", missing), _some("extra keys ", extra), _some("other shapes ", other)]
        raise UserError(f"weights {path}: do not fit the model: {'; '.join(filter(None, found))}")
    strange = [
        key
        for key, value in own.items()
        if key in state
        and not (
            state[key].is_floating_point() == value.is_floating_point() and state[key].to(value.dtype).isfinite().all()
        )
    ]
    if strange:
        raise UserError(f"weights {path}: not numbers, or not of the model's type, in {_some('', strange)}")
    net.load_state_dict(own | state)
    return fits


def head_of(net: nn.Module) -> str:
    """The name of the classifier: the last linear map."""
    names: list[str] = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


def unpack(path: Path, device: torch.device | str = "cpu") -> Any:
    """The tensors and plain values of a file that torch.save wrote: runs no code of it; raises UserError."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                held = sum(part.file_size for part in file.infolist())
                if held > path.stat().st_size:  # torch.save compresses nothing
                    raise ValueError(f"it would unpack to {held} bytes")
                if wrong := file.testzip():  # torch does not look at the checksums
                    raise ValueError(f"{wrong} is damaged")
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
    """Whether it is a tensor with its numbers in memory, which sparse, quantised and meta tensors are not."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return not (value.is_quantized or value.is_complex())


def _some(before: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{before}{', '.join(names[:SHOWN])}{more}" if names else ""
