"""Trials that tune one layer, and criteria that score them, written by hand."""

from dataclasses import replace

from hand_made import suite_of

from lmsa_bench.results.table import Entry, rows
from lmsa_bench.trial.spec import EpochRecord, Trial, TrialResult


def ended(trial, layers, accuracy, train_loss, val=0.5, scores=None, status="finished"):
    """A trial of one epoch (or none, without a train loss) with its result and its loss after training."""
    epoch = int(train_loss is not None)
    running = None if train_loss is None else 9 - train_loss  # orders layers the other way round
    record = EpochRecord(trial.id, epoch, running, 1.0, val, 1.0, 1, layers, 1.0)
    metrics = (epoch, val, 1.0, accuracy, 1.0, 0, train_loss) if status == "finished" else ()
    return Entry(trial, [record], TrialResult(trial.id, status, "", *metrics, scores=scores or {}))


def scored(task, seed, scores, variant="", name="rgn"):
    """A criterion's trial: larger scores are better, except for the predicted loss."""
    best = min if name == "predicted_loss" else max
    layer = scores.index(best(scores))
    trial = Trial(task, variant, "score_only", {"criterion": name}, seed, 0)
    return ended(trial, (layer,), 0.1, None, scores={name: list(scores), "loss": [1.0] * len(scores)})


def tuned(task, seed, n, accuracy, loss, variant="", lr=0.1, val=0.5, status="finished"):
    trial = Trial(task, variant, "single_layer", {"n": n, "lr": lr}, seed, 1)
    return ended(trial, (n,), accuracy, loss, val, status=status)


def layer_rows(entries):
    """One row per layer."""
    return {f"layer_{n}": [e for e in entries if e.trial.hparams["n"] == n] for n in range(3)}


def measured(criteria, layers):
    groups = criteria | layer_rows(layers)
    each = {name: (("n", int(name[-1])),) for name in groups if name.startswith("layer")}
    suite = suite_of(groups, each=each, truths=list(each))
    return suite, rows([entry for group in groups.values() for entry in group])


def of_all_layers(variant="", accuracy=0.6, flops=100):
    """A row that tunes all three layers, at two seeds."""
    trials = [Trial("noise", variant, "full", {"lr": 0.1}, seed, 1) for seed in (0, 1)]
    entries = [ended(trial, (0, 1, 2), accuracy, 0.1) for trial in trials]
    return [e._replace(records=[replace(e.records[0], flops=flops)]) for e in entries]
