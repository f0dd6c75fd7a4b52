"""States that the trials of a node share: the same numbers with and without, in bounded room, whatever happens."""

import resource
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
import toy

from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.trial import cost, meter, shared
from lmsa_bench.trial.made_of import made_of
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.selecting import Selecting
from lmsa_bench.trial.shared import Shared

SIZES = {1: 16 * 16, 2: 32 * 4}  # floats of a toy image's x_1 (16 channels of 4x4) and x_2 (32 of 2x2)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def at(folder: Path, budget: int = 1 << 30, split: str = "") -> Shared:
    return Shared(folder / "shared", budget, split)


def run(asked, folder, among):
    """All that a trial leaves, without times, and how many images passed its first layer."""
    method = METHODS.get(asked.method)(**asked.hparams)
    folder.mkdir(exist_ok=True)
    model, seen = toy.source_model(), []
    model.layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])))
    parts = toy.splits(folder, "", asked.seed)
    one = Run(asked, toy.task(), model, method, parts, folder, toy.CPU, None, among)
    records = toy.untimed(list(one.epochs()))
    result = {name: value for name, value in asdict(one.result()).items() if name != "seconds"}
    return (records, result), sum(seen), one.result().seconds


@pytest.mark.parametrize("curves", [False, True])
@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("single_layer", {"n": 1}),
        ("single_layer", {"n": 2, "update": "msa"}),
        ("single_layer", {"n": -1}),
        ("lmsa", {}),
        ("full", {}),
        ("no_adaptation", {}),
        ("score_only", {}),
    ],
)
def test_records_are_the_same_with_and_without(method, given, curves, tmp_path):
    asked = toy.trial(method, curves=curves, **given)
    alone, _, _ = run(asked, tmp_path / "alone", None)
    first, _, _ = run(asked, tmp_path / "first", at(tmp_path))
    second, _, _ = run(asked, tmp_path / "second", at(tmp_path))
    assert first == alone and second == alone


def test_layers_below_run_once_for_all_trials(tmp_path):
    tuned = {"n": 2, "lr": 1e-2}
    expected, images, seconds = run(toy.trial("single_layer", **tuned), tmp_path / "first", at(tmp_path))
    # 40 tuning, 20 validation and 24 test images once, two of each as a probe, and one of each shape to count FLOPs.
    assert 84 <= images <= 84 + 3 * 2 + 10
    again, images, earlier = run(toy.trial("single_layer", **tuned), tmp_path / "again", at(tmp_path))
    assert images <= 3 * 2 + 10 and again == expected
    assert seconds > 0 and earlier > 0
    # What lies above starts from there, and so does a scorer, to which the network's outputs are states too.
    *_, images, _ = run(toy.trial("single_layer", n=3), tmp_path / "above", at(tmp_path))
    assert images <= 3 * 2 + 10
    *_, images, _ = run(toy.trial("no_adaptation"), tmp_path / "none", at(tmp_path))
    assert images <= 2 * 2 + 10


def test_what_computing_the_states_took_counts_in_each_trial(tmp_path, monkeypatch):
    read = Shared.read
    monkeypatch.setattr(Shared, "read", lambda *given: (found := read(*given)) and found._replace(seconds=1000.0))
    assert run(toy.trial("single_layer", n=2), tmp_path / "one", at(tmp_path))[2] > 1000


def test_states_of_other_weights_samples_or_code_are_others(tmp_path):
    model, other = toy.source_model(), toy.source_model(seed=1)
    places = {
        at(tmp_path).path("val", model, 2),
        at(tmp_path).path("val", model, 1),
        at(tmp_path).path("val", other, 2),
        at(tmp_path).path("test", model, 2),
        at(tmp_path, split="another seed").path("val", model, 2),
    }
    assert len(places) == 5
    with torch.no_grad():
        model.parameters_of(3)[0].add_(1)  # above
    assert at(tmp_path).path("val", model, 2) in places


def test_a_folder_keeps_its_budget_and_what_was_used_last(tmp_path):
    size = 4 * 40 * SIZES[1]
    among = at(tmp_path, budget=2 * (size + 300))
    x = torch.randn(40, SIZES[1])
    for name in "abc":
        among.write(tmp_path / "shared" / name, 40, x[:2], [x], lambda: 1.0)
        assert among.read(tmp_path / "shared" / "a", 40) is not None
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["a", "c"]
    found = among.read(tmp_path / "shared" / "c", 40)
    assert torch.equal(found.x, x) and found.seconds == 1.0
    among.write(tmp_path / "shared" / "large", 400, x[:2], [x] * 10, lambda: 1.0)  # never fits, and removes nothing
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["a", "c"]
    assert torch.equal(found.x, x)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-50], lambda data: b"", lambda data: data[:-60] + b"damage" * 10]
)
def test_a_damaged_file_is_computed_again(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "_verified", set())
    expected, _, _ = run(toy.trial("single_layer", n=2), tmp_path / "first", at(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "shared").iterdir()}
    for path, data in before.items():
        path.write_bytes(damage(data))
    shared._verified.clear()  # as another process
    assert run(toy.trial("single_layer", n=2), tmp_path / "again", at(tmp_path))[0] == expected
    array = 40 * SIZES[2] * 4  # ends of header, array and digest; the seconds differ
    assert all(path.read_bytes()[: array // 2] == data[: array // 2] for path, data in before.items())


def test_a_full_disk_costs_no_trial(tmp_path):
    expected, _, _ = run(toy.trial("single_layer", n=2), tmp_path / "alone", None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # any write beyond raises, as on a full disk
        found, _, _ = run(toy.trial("single_layer", n=2), tmp_path / "full", at(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found == expected and not list((tmp_path / "shared").iterdir())


def test_the_user_says_how_much_room_there_is(tmp_path, monkeypatch):
    assert Shared.of(tmp_path).budget == 8 << 30
    monkeypatch.setenv("LMSA_SHARED_GIB", "0.5")
    assert Shared.of(tmp_path).budget == 1 << 29
    monkeypatch.setenv("LMSA_SHARED_GIB", "0")
    assert Shared.of(tmp_path) is None
    monkeypatch.setenv("LMSA_SHARED_GIB", "much")
    with pytest.raises(UserError, match="LMSA_SHARED_GIB='much': expected the GiB"):
        Shared.of(tmp_path)


def test_a_selection_is_made_once_for_all_that_make_the_same(tmp_path, monkeypatch):
    made = []
    real = Selecting._made
    monkeypatch.setattr(Selecting, "_made", lambda self, *given: made.append(1) or real(self, *given))
    results = []
    for method, given in [
        ("lmsa", {"lr": 1e-2}),
        ("lmsa", {"lr": 1e-3}),
        ("lmsa_adam", {"lr": 1e-3}),
        ("lmsa", {"c": 0.5}),
        ("auto_rgn", {}),
        ("score_only", {"criterion": "predicted_loss"}),
    ]:
        asked = toy.trial(method, **given)
        (_, result), *_ = run(asked, tmp_path / f"{len(results)}", at(tmp_path))
        results.append(result)
        assert result == run(asked, tmp_path / f"{len(results)} alone", None)[0][1]
    alone = 6
    # Of six, two have the first one's criterion and its arguments; score_only logs it under a name of its own.
    assert len(made) == alone + 4
    assert results[0]["scores"] == results[2]["scores"] != results[3]["scores"]


def test_a_selector_that_holds_more_than_values_is_not_shared():
    def captured(value):
        def select(model, batches, step, generator):
            return value

        return select

    assert made_of(captured(1)).text == made_of(captured(1)).text != made_of(captured(2)).text
    assert made_of(captured(partial(max, 1))) is None  # built in: no module of which the code is known
    for held in ([], object(), torch.ones(1), lambda: None):
        assert made_of(captured(held)) is None


def test_costs_are_counted_once_on_a_node(tmp_path, monkeypatch):
    counted = []
    real = cost.of_step
    monkeypatch.setattr(cost, "of_step", lambda *given: counted.append(given) or real(*given))
    results = []
    for lr in (1e-2, 1e-3):
        monkeypatch.setattr(meter, "_COUNTED", {})  # as another process
        asked = toy.trial("full_msa", lr=lr)
        results.append(run(asked, tmp_path / f"{lr}", at(tmp_path))[0][1])
    assert len(counted) == 2  # a full batch and the rest of 40 images
    costs = ("flops", "kept_bytes", "peak_bytes", "selection_flops", "evaluation_flops")
    assert [results[0][name] for name in costs] == [results[1][name] for name in costs] and results[0]["flops"] > 0
