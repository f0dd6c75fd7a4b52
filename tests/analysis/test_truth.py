"""The true loss is the one after training, evaluated apart, and it can name another layer than the running mean."""

import pytest
import torch
import toy
from hand_made import suite_of
from torch.nn import functional as F

from lmsa_bench.analysis.measures import measure
from lmsa_bench.results.table import Entry, rows
from lmsa_bench.tasks.task import to_unit


def test_the_true_loss_is_of_the_whole_tuning_set_after_training(tmp_path):
    torch.set_num_threads(1)
    made, own = {}, []
    for n in range(4):
        run = toy.run(toy.trial("single_layer", epochs=1, n=n, lr=0.1), tmp_path)
        records = list(run.epochs())
        with torch.no_grad():  # by hand, from the images, before result() takes the best epoch's parameters
            split = toy.splits(tmp_path, "", 0).train
            own.append(F.cross_entropy(run.model(to_unit(split.images)), split.labels).item())
        made[f"layer_{n}"] = [Entry(run.trial, records, run.result())]
    each = {name: (("n", int(name[-1])),) for name in made}
    table = rows([entry for entries in made.values() for entry in entries])
    truth = measure(suite_of(made, each=each, truths=list(made)), table).truths("toy")["", 0]
    assert truth.losses == pytest.approx(own, rel=1e-5)
    running = [entries[0].records[-1].train_loss for entries in made.values()]
    # The mean of the batches, each before its step, prefers another layer than the loss after training.
    assert running.index(min(running)) != truth.losses.index(min(truth.losses))
    undeclared = suite_of(made, each=each, truths=list(made)[1:])  # no row counts as a layer's truth by its shape
    assert measure(undeclared, table).truths("toy") == {}


def test_there_is_none_where_nothing_is_trained_or_the_loss_is_not_finite(tmp_path):
    for method, given in (("no_adaptation", {}), ("score_only", {}), ("full", {"lr": 3e38})):
        run = toy.run(toy.trial(method, epochs=2, **given), tmp_path)
        list(run.epochs())
        assert run.result().final_train_loss is None


def test_the_last_epochs_parameters_count_and_the_result_is_asked_for_twice(tmp_path):
    run = toy.run(toy.trial("full", epochs=3), tmp_path)
    records = list(run.epochs())
    with torch.no_grad():
        split = toy.splits(tmp_path, "", 0).train
        last = F.cross_entropy(run.model(to_unit(split.images)), split.labels).item()
    result = run.result()
    assert result.best_epoch < records[-1].epoch  # whose parameters the test is evaluated with
    assert result.final_train_loss == pytest.approx(last, rel=1e-5) and run.result() == result
