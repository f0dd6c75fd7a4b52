"""What every registered method must do, and what single methods must do."""

import inspect
import itertools

import pytest
import torch
import toy

from lmsa_bench.control import selectors
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS, Every
from lmsa_bench.models import MODELS
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.task import Split

SMALL = ["small_vit", "wrn_10_1"]
CASES = list(zip(METHODS.names(), itertools.cycle(SMALL), strict=False))  # one model each, in turn: the rest is alike


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("method", "model"), CASES)
def test_tuned_layers_move_and_nothing_else(method, model, tmp_path):
    run = toy.run(toy.trial(method, epochs=1), tmp_path, model)
    before = state(run.model)
    records = list(run.epochs())
    after = state(run.model)
    layers = [p for n in range(len(run.model)) for p in run.model.parameters_of(n)]
    names = {id(p): name for name, p in run.model.named_parameters()}
    tuned = set(records[-1].layers) if run.update is not None else set()
    for n in range(len(run.model)):
        theta_n = [names[id(p)] for p in run.model.parameters_of(n)]
        moved = [name for name in theta_n if not torch.equal(before[name], after[name])]
        assert bool(moved) == (n in tuned), f"layer {n}"
    theta = {names[id(p)] for p in layers}
    others = [name for name in before if name not in theta]
    moved = {name for name in others if not torch.equal(before[name], after[name])}
    # Full fine-tuning is of all parameters, such as those of a wide ResNet's last norm; buffers are none.
    rest = {names[id(p)] for p in run.model.rest()} if run.method.rest else set()
    whole = tuned >= {n for n in range(len(run.model)) if run.model.parameters_of(n)}
    assert moved == (rest if whole else set())


@pytest.mark.parametrize("method", METHODS.names())
def test_the_same_seed_gives_the_same_records(method, tmp_path):
    runs = [toy.run(toy.trial(method), tmp_path / str(i)) for i in range(2)]
    for run in runs:
        run.folder.mkdir()
    first, second = (toy.untimed(list(run.epochs())) for run in runs)
    assert first == second
    assert runs[0].result().test_accuracy == runs[1].result().test_accuracy


def test_the_ablations_share_l_msas_defaults():
    lmsa = inspect.signature(METHODS.get("lmsa")).parameters
    for method in ("full_msa", "lmsa_adam", "lmsa_adam_k"):
        parameters = inspect.signature(METHODS.get(method)).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
        shared = defaults.keys() & lmsa.keys()
        assert shared and all(defaults[name] == lmsa[name].default for name in shared)


def test_another_seed_gives_other_records(tmp_path):
    first, second = (toy.untimed(list(toy.run(toy.trial("full", seed=s), tmp_path).epochs())) for s in (0, 1))
    assert [r.train_loss for r in first] != [r.train_loss for r in second]


def test_lisas_later_drawn_layers_move(tmp_path):
    # 40 samples in batches of 16 are 3 steps per epoch: with interval 3, layers are redrawn in each epoch.
    run = toy.run(toy.trial("lisa", epochs=8, interval=3), tmp_path)
    seen = []
    before = state(run.model)
    for record in run.epochs():
        after = state(run.model)
        changed = {
            n for n in range(4) if any(not torch.equal(before[k], after[k]) for k in before if k in keys(run.model, n))
        }
        assert changed == set(record.layers) and {0, 3} < changed and len(changed) == 3
        seen.append(record.layers)
        before = after
    assert (0, 1, 3) in seen and (0, 2, 3) in seen


def test_full_fine_tuning_is_of_every_parameter_in_the_paper():
    with torch.device("meta"):
        wide = MODELS.get("wrn_28_10")(10, (3, 32, 32))
    assert sum(p.numel() for p in wide.rest()) == 1280  # bn1's weight and bias, 640 channels each
    assert METHODS.get("full")(lr=0.1).rest
    others = ("full_msa", "lift", "lisa", "auto_rgn", "lmsa", "lmsa_adam", "lmsa_adam_k", "single_layer")
    assert not any(METHODS.get(name)(**toy.hparams(name)).rest for name in others)


def keys(model, n):
    theta = {id(p) for p in model.parameters_of(n)}
    return {name for name, p in model.named_parameters() if id(p) in theta}


def test_lift_takes_turns():
    model = toy.source_model()
    orders = {
        order: [selectors.one_by_one(order)(model, (), step, generator(0, step)).layers for step in range(5)]
        for order in ("front_to_end", "end_to_front", "random")
    }
    assert orders["front_to_end"] == [(0,), (1,), (2,), (3,), (0,)]
    assert orders["end_to_front"] == [(3,), (2,), (1,), (0,), (3,)]
    assert all(len(layers) == 1 for layers in orders["random"])


@pytest.mark.parametrize(("gamma", "layers", "chosen"), [(None, 4, 3), (None, 5, 3), (None, 12, 4), (2, 4, 4)])
def test_lisas_default_gamma(gamma, layers, chosen):
    selection = selectors.ends_and_some(gamma)([None] * layers, (), 0, generator(0))
    assert len(selection.layers) == chosen and selection.layers[0] == 0 and selection.layers[-1] == layers - 1


def test_a_gamma_above_the_number_of_middle_layers():
    with pytest.raises(UserError, match="gamma 3: the model has 2 middle layers"):
        selectors.ends_and_some(3)([None] * 4, (), 0, generator(0))


@pytest.mark.parametrize("n", [4, -5])
def test_a_layer_that_does_not_exist(n):
    with pytest.raises(UserError, match="layers 0 to 3"):
        selectors.only(n)(toy.source_model(), (), 0, generator(0))


def test_when_a_method_selects():
    due = {
        name: [step for step in range(12) if every.due(step, steps_per_epoch=3)]
        for name, every in {"once": Every(), "steps": Every(5, "steps"), "epochs": Every(2)}.items()
    }
    assert due == {"once": [0], "steps": [0, 5, 10], "epochs": [0, 6]}


@pytest.mark.parametrize(
    ("every", "epochs", "said"),
    [
        (Every(), 1, None),
        (Every(20, "steps"), 5, "its schedule never came due: 10 steps, every 20 steps"),
        (Every(10, "steps"), 5, "its schedule never came due: 10 steps, every 10 steps"),
        (Every(9, "steps"), 5, None),
        (Every(3), 3, "its schedule never came due: 3 epochs, every 3 epochs"),
        (Every(2), 3, None),
    ],
)
def test_a_schedule_that_never_came_due(every, epochs, said):
    assert every.missed(epochs, 2) == said


@pytest.mark.parametrize("method", ["lmsa", "auto_rgn"])
def test_reselection_scores_again(method, tmp_path):
    run = toy.run(toy.trial(method, epochs=4, every=2, lr=0.05), tmp_path)
    scores = []
    for _ in run.epochs():
        scores.append(run.state.scores)
    assert scores[0] == scores[1] and scores[2] == scores[3] and scores[1] != scores[2]
    assert run.train.start == 0  # no states may be cached below a layer that can change


def test_selection_and_training_see_no_test_image(tmp_path):
    class Untouchable:
        def __getitem__(self, key):
            raise AssertionError("the test split was read")

    parts = toy.splits(tmp_path, "", 0)
    closed = parts._replace(test=Split(Untouchable(), parts.test.labels))
    for method in METHODS.names():
        run = toy.run(toy.trial(method, epochs=1), tmp_path, parts=closed)
        list(run.epochs())
        with pytest.raises(AssertionError, match="was read"):
            run.result()
