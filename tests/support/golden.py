"""Tiny trials in float64 whose figures a file holds:  python tests/support/golden.py  rewrites it, with what changed.

Every random number is made of integers, which are the same on every CPU, and float64 leaves rounding below 1e-9.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import toy

from lmsa_bench.local import ready
from lmsa_bench.methods import METHODS
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import build
from lmsa_bench.tasks.task import Split, Splits, Task, view
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import PROTOCOL, Trial

FILE = Path(__file__).parents[1] / "golden.json"
TOLERANCE = 1e-9
IMAGES = 24  # of each split
READINGS = {
    f"lmsa {view} {penalty} {reduction}": (
        "lmsa",
        {"lr": 1e-2, "rho": 0.1, "state_view": view, "costate_penalty": penalty, "reduction": reduction},
    )
    for view, penalty, reduction in (("flat", True, "sum"), ("sample", False, "sum"), ("position", True, "mean"))
}
OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("lmsa_bench.")]  # no plug-in's
# These have their tasks in turn; a later method's is by its name alone, so that one more moves no other's.
FIRST = (
    "auto_rgn",
    "full",
    "full_msa",
    "lift",
    "lisa",
    "lmsa",
    "lmsa_adam",
    "lmsa_adam_k",
    "no_adaptation",
    "score_only",
    "single_layer",
)
TASKS = ("digits_c", "digits_flip", "digits_super", "digits_masked")  # a transformer's is the last


def cases() -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(name, task, method, hyper-parameters): methods on tasks in turn, L-MSA's readings, a transformer, and pairs."""
    for method in OURS:
        task = TASKS[FIRST.index(method) % 3 if method in FIRST else sum(map(ord, method)) % 3]
        yield f"{method} on {task}", task, method, {}
    for i, (name, (method, given)) in enumerate(READINGS.items()):
        task = TASKS[i]
        yield f"{name} on {task}", task, method, given
    for method in ("full", "lmsa"):
        yield f"{method} on digits_masked", "digits_masked", method, {"lr": 1e-3}
    yield "lmsa on digit_pairs_c", "digit_pairs_c", "lmsa", {}


def run(task_name: str, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's records and result, without what a run does not decide."""
    task = build(task_name)
    data = Path(tempfile.gettempdir()) / "lmsa_golden"
    data.mkdir(exist_ok=True)
    task.prepare(data)
    splits = Splits(*(_few(split) for split in task.splits(data, task.variants[0], 0)))
    task = replace(task, transform=_doubled(task))
    hparams = toy.hparams(method, **given)
    epochs = 2 if METHODS.get(method)(**hparams).update is not None else 0
    trial = Trial(task.name, task.variants[0], method, hparams, 0, epochs, 8)
    with tempfile.TemporaryDirectory() as folder, ready():
        model = _model(task)
        one = Run(
            trial, task, model, METHODS.get(method)(**hparams), splits, Path(folder), toy.CPU, {"source_accuracy": 0.9}
        )
        records = [_figures(asdict(record)) for record in one.epochs()]
        return {"epochs": records, "result": _figures(asdict(one.result()))}


def compare(known: Any, new: Any, at: str = "") -> Iterator[str]:
    """Where two documents differ by more than TOLERANCE, a line each."""
    if isinstance(known, dict) and isinstance(new, dict):
        for name in sorted({*known, *new}):
            yield from compare(known.get(name), new.get(name), f"{at} {name}".strip())
    elif isinstance(known, list) and isinstance(new, list) and len(known) == len(new):
        for i, (a, b) in enumerate(zip(known, new, strict=True)):
            yield from compare(a, b, f"{at}[{i}]")
    elif isinstance(known, float) and isinstance(new, int | float):
        if not abs(known - new) <= TOLERANCE * max(1.0, abs(known)):
            yield f"{at}: {known!r} became {new!r}"
    elif known != new:
        yield f"{at}: {known!r} became {new!r}"


def _few(split: Split) -> Split:
    return view(split, torch.arange(min(IMAGES, len(split))) * (len(split) // IMAGES or 1))


def _doubled(task: Task) -> Any:
    # The mask is made of exponentials in float32, whose last bit depends on the CPU: their sixteenths do not.
    if task.name == "digits_masked":
        return lambda images: (task.transform(images).double() * 16).round() / 16
    return lambda images: task.transform(images).double()


def _model(task: Task) -> LayeredModel:
    """A network of weights of the right size, each made of an integer."""
    from lmsa_bench.models import MODELS

    model = MODELS.get(task.model)(task.classes, task.input_shape).double().eval()
    draw = generator(0, "golden", task.model)
    with torch.no_grad():
        for parameter in model.source.parameters():
            uniform = torch.randint(-(2**20), 2**20, parameter.shape, generator=draw).double() / 2**20
            if parameter.ndim > 1:
                parameter.copy_(uniform * (3 / parameter[0].numel()) ** 0.5)
            else:
                parameter.copy_(1 + 0.1 * uniform if parameter.mean() == 1 else 0.1 * uniform)
    return model


def _figures(document: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("trial", "time", "seconds", "provenance", "peak_bytes", "saw")
    return json.loads(json.dumps({name: value for name, value in document.items() if name not in left_out}))


def main() -> int:
    """Writes the file where PROTOCOL has been raised since it was written, and prints what changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--same-protocol", action="store_true", help="for new cases and fields alone")
    options = parser.parse_args()
    known = json.loads(FILE.read_text()) if FILE.exists() else {"protocol": None, "trials": {}}
    trials = {name: run(*case) for name, *case in cases()}
    changes = list(compare(known["trials"], trials))
    print("\n".join(changes) or "nothing changed")
    changed = [line for line in changes if not line.split(": ", 1)[1].startswith("None became")]
    if changed and known["protocol"] == PROTOCOL and not options.same_protocol:
        print(f"numbers changed under protocol {PROTOCOL}: raise it in lmsa_bench/trial/spec.py first", file=sys.stderr)
        return 1
    FILE.write_text(json.dumps({"protocol": PROTOCOL, "trials": trials}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
