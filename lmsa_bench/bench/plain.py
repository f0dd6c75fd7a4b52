"""The loop that a sweep is measured against, as one writes it for a paper:  python -m lmsa_bench.bench.plain SUITE

Each trial loads its data and its source model, trains, and evaluates the whole network on validation and test images
after each epoch; a pool of processes takes one trial after the other. It keeps an accuracy a trial: no records to
resume from, no costs, no provenance. Methods and tasks are the package's own, so both sides compute the same numbers.
"""

import argparse
import json
import multiprocessing
import os
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.control.evidence import Evidence
from lmsa_bench.models import LayeredModel
from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.tasks.task import Split, Task
from lmsa_bench.trial.names import method_of, task_of
from lmsa_bench.trial.spec import Trial

Samples = tuple[Tensor, Tensor]
EVALUATION_BATCH = 512


def load_split(task: Task, split: Split) -> Samples:
    """All images of a split as the model's input, and their labels."""
    return task.transform(split.images[torch.arange(len(split))]), split.labels


@torch.no_grad()
def evaluate(model: LayeredModel, samples: Samples) -> tuple[float, float]:
    """Accuracy and mean loss of the whole network."""
    correct = loss = 0.0
    for x, y in zip(*(part.split(EVALUATION_BATCH) for part in samples), strict=True):
        output = model(x)
        correct += (output.argmax(1) == y).sum().item()
        loss += F.cross_entropy(output, y, reduction="none").double().sum().item()
    return correct / len(samples[1]), loss / len(samples[1])


def train(trial: Trial, data: Path) -> float:
    """Runs a trial: the test accuracy of its best epoch by validation, a fraction; nan where it diverges."""
    task, method = task_of(trial), method_of(trial)
    model = SourceModel(task, data, trial.seed).load(torch.device("cpu"))
    (x, y), val, test = (load_split(task, split) for split in task.splits(data, trial.variant, trial.seed))

    def batches(step: int) -> Evidence:
        order = torch.randperm(len(y), generator=generator(trial.seed, "tuning batches", step))
        return Evidence(lambda: ((x[some], y[some]) for some in order.split(trial.batch_size)))

    if method.update is None:
        method.select(model, batches(0), 0, generator(trial.seed, "select", 0))
        return evaluate(model, test)[0]
    update = method.update(model)
    layers: tuple[int, ...] = ()
    best, kept, step = (-1.0, 0.0), 0.0, 0
    for epoch in range(1, trial.epochs + 1):
        order = torch.randperm(len(y), generator=generator(trial.seed, "order", epoch)).split(trial.batch_size)
        for some in order:
            if method.every.due(step, len(order)):
                layers = method.select(model, batches(step), step, generator(trial.seed, "select", step)).layers
                model.tune_only(layers, method.rest)
            update.step(x[some], y[some], layers)
            step += 1
        accuracy, loss = evaluate(model, val)
        tested, _ = evaluate(model, test)
        if loss != loss:
            return float("nan")
        if (accuracy, -loss) > best:
            best, kept = (accuracy, -loss), tested
    return kept


def set_up() -> None:
    """Makes a process of the pool ready."""
    torch.set_num_threads(1)


def main() -> None:
    """Runs trials of a suite and writes their test accuracies as JSON, by the trials' names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--trials", type=Path, required=True, help="a JSON file with the ids of those to run")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    asked = set(json.loads(options.trials.read_text()))
    trials = [trial for trial in load(options.suite, options.seeds).trials if trial.id in asked]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), set_up) as pool:
        accuracies = pool.map(partial(train, data=options.data), trials, chunksize=1)
    options.out.write_text(json.dumps({trial.id: found for trial, found in zip(trials, accuracies, strict=True)}))


if __name__ == "__main__":
    main()
