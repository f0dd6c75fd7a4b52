"""A trial's records, recomputed by a plain training loop."""

import pytest
import torch

from lmsa_bench.seeding import generator
from lmsa_bench.sources import SourceModel
from lmsa_bench.trial.names import task_of


def plain_loop(trial, data):
    """Full fine-tuning by hand: per epoch, (train loss, val loss, val accuracy, test loss, test accuracy)."""
    task = task_of(trial)
    net = SourceModel(task, data).load(torch.device("cpu")).source.eval()
    train, val, test = task.splits(data, trial.variant, trial.seed)

    def tensors(split):
        everything = torch.arange(len(split))
        return split.images[everything].float() / 255, split.labels

    def measures(images, labels):
        with torch.no_grad():
            logits = net(images)
            accuracy = (logits.argmax(1) == labels).float().mean().item()
            return torch.nn.functional.cross_entropy(logits, labels).item(), accuracy

    x, y = tensors(train)
    optimizer = torch.optim.Adam(net.parameters(), lr=trial.hparams["lr"])
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    for epoch in range(1, trial.epochs + 1):
        order, losses = torch.randperm(len(y), generator=generator(trial.seed, "order", epoch)), []
        for batch in order.split(trial.batch_size):
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        yield sum(losses) / len(y), *measures(*tensors(val)), *measures(*tensors(test))


def test_full_fine_tuning_is_a_plain_loop(run):
    suite, results, data = run
    trials = [trial for trial in suite.trials if trial.method == "full" and trial.seed == 0]
    assert len(trials) == 2 * (2 + 1)  # two rates; digits_c has two corruptions
    for trial in trials:
        entry = results.journal.entry(trial.id)
        epochs = list(plain_loop(trial, data))
        for record, (train_loss, val_loss, val_accuracy, *_) in zip(entry.records, epochs, strict=True):
            assert record.train_loss == pytest.approx(train_loss, rel=1e-4)
            assert record.val_loss == pytest.approx(val_loss, rel=1e-4)
            assert record.val_accuracy == pytest.approx(val_accuracy, abs=1e-6)
        best = min(range(len(epochs)), key=lambda i: (-epochs[i][2], epochs[i][1], i))
        assert entry.result.best_epoch == best + 1
        assert entry.result.test_loss == pytest.approx(epochs[best][3], rel=1e-4)
        assert entry.result.test_accuracy == pytest.approx(epochs[best][4], abs=1e-6)
