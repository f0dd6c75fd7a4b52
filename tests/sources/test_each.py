"""One source model for all seeds, or one for each."""

from dataclasses import replace

import torch
from toy import same, task

from lmsa_bench.sources import SourceModel
from lmsa_bench.suites.load import load
from lmsa_bench.trial.spec import Trial

CPU = torch.device("cpu")
SUITE = "suite: s\ntasks: [digits_flip]\nseeds: 2\nsources: {}\nrows: {{full: {{grid: {{lr: 1e-2}}}}}}\n"


def test_each_seed_trains_its_own_and_seed_0_the_one_that_all_share_otherwise(tmp_path):
    shared = task()
    tasks = {"one": shared, "each": replace(shared, source=replace(shared.source, each=True))}
    models = {(kind, seed): SourceModel(tasks[kind], tmp_path, seed) for kind in tasks for seed in (0, 1)}
    facts = {key: model.ensure(CPU) for key, model in models.items()}
    states = {key: model.load(CPU).source.state_dict() for key, model in models.items()}
    assert same(states["one", 0], states["one", 1]) and same(states["one", 0], states["each", 0])
    assert not same(states["each", 0], states["each", 1])
    assert models["one", 0].group == models["one", 1].group == models["each", 0].group != models["each", 1].group
    assert [facts[key].source_seed for key in facts] == [None, None, 0, 1]
    assert len({found.source for found in facts.values()}) == 2


def test_given_weights_are_one(tmp_path):
    torch.save({}, tmp_path / "w.pt")
    given = task(weights=str(tmp_path / "w.pt"))
    each = replace(given, source=replace(given.source, each=True))
    assert SourceModel(each, tmp_path, 1).group == SourceModel(given, tmp_path, 0).group


def test_one_keeps_the_ids_of_older_versions(tmp_path):
    old = Trial("digits_flip", "", "full", {"lr": 0.01, "weight_decay": 0.0}, 1, 10)
    path = tmp_path / "s.yaml"
    path.write_text(SUITE.format("one"))
    assert [trial.id for trial in load(str(path)).trials][1] == old.id
    assert replace(old, protocol=2).id == "f7f253448b617fe4"
    path.write_text(SUITE.format("each"))
    assert old.id not in {trial.id for trial in load(str(path)).trials}
