"""Every task of the paper on small copies of the published files: prepare, splits, source model and one trial."""

import json
import subprocess
import sys

import pytest
import torch
from small_sets import WNIDS, small_imagenet, write_cifar10, write_cifar10_c, write_cifar100, write_images

from lmsa_bench.data import command as data
from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.models import MODELS
from lmsa_bench.sources import SourceModel, needs
from lmsa_bench.tasks import TASKS, arrow, build, cifar, imagenet
from lmsa_bench.trial.run import Run
from lmsa_bench.trial.spec import Trial

CPU = torch.device("cpu")
TINY = {"model": "wrn_10_1"}
TWO = ["gaussian_noise", "fog"]
# Options; tuning, validation and test images a class in the small sets; classes.
CASES = {
    "cifar10_c": (TINY | {"corruptions": TWO, "source_epochs": 1}, (5, 3, 12), 10),
    "cifar_flip": (TINY | {"source_epochs": 1, "test_per_class": 7}, (5, 3, 7), 10),
    "cifar100": (TINY | {"resolution": 32}, (4, 2, 2), 100),
    "cifar100_masked": (TINY | {"resolution": 40, "source_epochs": 1}, (4, 2, 2), 100),
    "cifar100_random": (TINY | {"resolution": 32}, (4, 2, 2), 100),
    "imagenet_c": (TINY | {"corruptions": TWO}, (2, 3, 4), 3),
    "imagenet_3dcc": (TINY | {"corruptions": ["near_focus"], "test_per_class": 2}, (2, 3, 2), 3),
    "living17": (TINY | {"source_epochs": 1}, (3, 2, 4), 17),
}
# Classes of the weights given to tasks whose source model cannot be trained here.
GIVEN = {"cifar100": 1000, "cifar100_random": 1000, "imagenet_c": 3, "imagenet_3dcc": 3}


@pytest.fixture(scope="module", autouse=True)
def small_tables():
    with pytest.MonkeyPatch.context() as patch:
        small_imagenet(patch)
        patch.setattr(cifar, "COUNTS", (5, 3))
        patch.setattr(cifar, "VAL_PER_CLASS", 2)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, small_tables):
    """A data root with small versions of all published sets, prepared by the command."""
    root = tmp_path_factory.mktemp("published")
    write_cifar10(root)
    write_cifar100(root)
    write_cifar10_c(root, TWO)
    for folder, name, added in (("C", "gaussian_noise", 1), ("C", "fog", 3), ("3DCC", "near_focus", 5)):
        write_images(root / f"ImageNet-{folder}" / name / "5", WNIDS, 9, shade=lambda row, added=added: 9 * row + added)
    wnids = [*imagenet.subclasses("source"), *imagenet.subclasses("target")]
    write_images(root / "imagenet" / "train", wnids, 4, (48, 40), lambda row: 9 * row)
    write_images(root / "imagenet" / "val", [*wnids, *WNIDS], 2, (40, 64), lambda row: 9 * row + 4)
    for name in ("cifar10", "cifar100", "cifar10_c", "imagenet", "imagenet_c", "imagenet_3dcc"):
        assert data.main(["prepare", name, "--data", str(root), "--no-verify"]) == 0
    return root


def task_of(name, folder):
    """The small task, with weights for its source model if it needs any."""
    source = "pretrain"
    if name in GIVEN:
        source = str(folder / f"{GIVEN[name]}.pt")
        torch.save(MODELS.get("wrn_10_1")(GIVEN[name], (3, 32, 32)).source.state_dict(), source)
    return build(name, CASES[name][0], source)


@pytest.fixture(params=CASES)
def task(request, root, tmp_path):
    return task_of(request.param, tmp_path)


def contents(split):
    return {split.images[torch.tensor([i])].numpy().tobytes() for i in range(len(split))}


def numbers(split):
    """The base images' numbers, which the corruptions of CIFAR-10 do not change."""
    return split.images[:, 0, 0, 0].int() * 256 + split.images[:, 0, 0, 1]


def test_every_task_of_the_paper_is_registered():
    assert set(CASES) <= set(TASKS.names())


def test_splits_are_balanced_and_share_no_image(task, root):
    _, counts, classes = CASES[task.name]
    assert task.classes == classes
    for variant in task.variants:
        splits = task.splits(root, variant, 0)
        for split, count in zip(splits, counts, strict=True):
            assert split.labels.bincount().tolist() == [count] * classes
            assert split.images.dtype == torch.uint8 and len(split.images) == len(split)
            x = task.transform(split.images[torch.arange(2)])
            assert x.shape == (2, *task.input_shape) and x.dtype == torch.float32
        images = [contents(split) for split in splits]
        assert len(set.union(*images)) == sum(map(len, images)) == sum(map(len, splits))


def test_a_seed_decides_the_splits(task, root):
    variant = task.variants[0]
    first, again, other = (task.splits(root, variant, seed) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert contents(a) == contents(b) and torch.equal(a.labels, b.labels)
    assert contents(first.train) != contents(other.train)


def test_one_trial_from_published_files_to_a_result(task, root, tmp_path):
    needs.prepare(task, root)
    facts = SourceModel(task, root, 0).ensure(CPU)
    model = SourceModel(task, root).load(CPU)
    trial = Trial(task.name, task.variants[0], "full", {"lr": 1e-3, "weight_decay": 0.0}, 0, 1)
    method = METHODS.get("full")(**trial.hparams)
    splits = task.splits(root, trial.variant, 0)
    run = Run(trial, task, model, method, splits, tmp_path, CPU, facts.provenance())
    assert [record.epoch for record in run.epochs()] == [1]
    result = run.result()
    assert result.status == "finished" and result.test_size == CASES[task.name][1][2] * task.classes
    assert "unverified" in result.provenance["data"]  # --no-verify is recorded in the result
    assert needs.missing_data(task, root) == needs.missing_weights(task, root) == []


def test_corruptions_split_by_base_image(root):
    task = build("cifar10_c", CASES["cifar10_c"][0])
    noise, fog = (task.splits(root, variant, 3) for variant in TWO)
    for a, b in zip(noise, fog, strict=True):
        assert torch.equal(numbers(a), numbers(b)) and not torch.equal(a.images, b.images)
    bases = [set(numbers(split).tolist()) for split in noise]
    assert len(set.union(*bases)) == sum(map(len, bases)) == 200
    task = build("imagenet_c", CASES["imagenet_c"][0])
    noise, fog = (task.splits(root, variant, 3) for variant in TWO)
    for a, b in zip(noise, fog, strict=True):
        assert torch.equal(a.images.index, b.images.index)


def test_a_severity_is_one_block_of_the_file(root, tmp_path):
    write_cifar10_c(tmp_path, ["fog"])
    cifar.prepare_cifar10_c(tmp_path, False, ["fog"], 2)
    two = arrow.read(tmp_path / "cifar10_c" / "fog-2.arrow").images
    five = arrow.read(root / "cifar10_c" / "fog-5.arrow").images
    assert torch.equal(two[:, 1:].int() + 3 + 10, five[:, 1:].int())  # 10: fog is the second corruption in that folder


def test_flipped_labels_are_9_minus_the_images_labels(root):
    test = arrow.read(root / "cifar10" / "test.arrow")
    labels = dict(zip(numbers(test).tolist(), test.labels.tolist(), strict=True))
    for split in build("cifar_flip", CASES["cifar_flip"][0]).splits(root, "", 1):
        assert [9 - labels[n] for n in numbers(split).tolist()] == split.labels.tolist()


def test_the_mask_is_one_positive_factor_per_pixel_for_all_images_and_seeds(root):
    options = CASES["cifar100_masked"][0] | {"resolution": 32}
    task, again = build("cifar100_masked", options), build("cifar100_masked", options)
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    mask = task.transform(white)
    assert torch.equal(mask[0], mask[1]) and torch.equal(mask, again.transform(white)) and (mask > 0).all()
    assert abs(mask.log().mean()) < 0.1 and abs(mask.log().std() - 1) < 0.05
    images = task.splits(root, "", 0).val.images
    torch.testing.assert_close(task.transform(images), images / 255 * mask[0])
    assert torch.equal(task.source.transform(white), torch.ones(2, 3, 32, 32))  # trained without the mask


def test_random_labels_depend_on_the_seed_and_not_on_the_image(root):
    task, plain = (build(name, CASES[name][0]) for name in ("cifar100_random", "cifar100"))
    test, again, other = (task.splits(root, "", seed).test for seed in (0, 0, 1))
    true = plain.splits(root, "", 0).test
    assert torch.equal(test.images, true.images) and torch.equal(test.labels, again.labels)
    assert (test.labels == true.labels).float().mean() < 0.1 and (test.labels == other.labels).float().mean() < 0.1


def test_living17_has_the_same_superclasses_with_other_subclasses(root):
    source, target = imagenet.subclasses("source"), imagenet.subclasses("target")
    assert len(source) == len(target) == 34 and not set(source) & set(target)
    assert sorted(source.values()) == sorted(target.values()) == [n // 2 for n in range(34)]
    parts = [arrow.read(root / "living17" / f"{side}-train.arrow") for side in ("source", "target")]
    assert not contents(parts[0]) & contents(parts[1])


def test_the_central_square_of_an_image():
    from PIL import Image
    from torchvision.transforms import v2

    from lmsa_bench.tasks import folders

    image = Image.effect_noise((301, 410), 90).convert("RGB")
    published = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    assert folders.center_crop(image, 224).tobytes() == published(image).tobytes()
    assert folders.center_crop(image.transpose(Image.Transpose.ROTATE_90), 224).size == (224, 224)


def test_only_imagenet_models_have_standardised_inputs():
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert torch.equal(build("cifar10_c").transform(white), torch.ones(1, 3, 32, 32))
    pixel = build("imagenet_c").transform(white)[0, :, 0, 0]
    torch.testing.assert_close(pixel, (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))
    deit = build("cifar100").transform(white)
    assert deit.shape == (1, 3, 224, 224)
    torch.testing.assert_close(deit[0, :, 0, 0], pixel)


def test_the_papers_tasks_name_their_models_and_published_weights(tmp_path):
    tasks = {name: build(name) for name in CASES}
    assert {task.model for task in tasks.values()} == {"wrn_28_10", "resnet50", "deit_tiny"}
    assert {task.source.weights for task in tasks.values()} == {"hub"}
    assert tasks["cifar10_c"].source.accuracy == 0.9478 and tasks["imagenet_c"].source.accuracy == 0.7613
    assert len(tasks["cifar10_c"].variants) == len(tasks["imagenet_c"].variants) == 15
    assert SourceModel(tasks["cifar10_c"], tmp_path).group == SourceModel(tasks["cifar_flip"], tmp_path, 1).group
    assert SourceModel(tasks["cifar100"], tmp_path).group != SourceModel(tasks["cifar100"], tmp_path, 1).group


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("cifar10_c", {"corruptions": ["fogg"]}, "no corruption 'fogg': did you mean 'fog'"),
        ("imagenet_c", {"corruptions": ["near_focus"]}, "imagenet_c has no corruption 'near_focus'"),
        ("cifar_flip", {"test_per_class": 13}, "a class has 12 test images: expected 13"),
    ],
)
def test_a_wrong_option_is_a_users_error(root, name, options, text):
    with pytest.raises(UserError, match=text):
        build(name, TINY | options).splits(root, "", 0)


def test_missing_data_and_weights_are_named_with_their_remedy(tmp_path):
    task, other = build("cifar10_c"), build("living17", weights=str(tmp_path / "none.pt"))
    assert needs.missing_data(task, tmp_path) + needs.missing_weights(task, tmp_path) == [
        "cifar10_c needs cifar10_c: get it with 'python -m lmsa_bench.data fetch cifar10_c'",
        "cifar10_c needs weights of wrn_28_10 (hub): they are downloaded on the first run",
    ]
    lines = needs.missing_data(other, tmp_path) + needs.missing_weights(other, tmp_path)
    assert [line.split(":")[0] for line in lines] == [
        "living17 needs imagenet",
        "the source model of living17 needs imagenet",
        "living17 needs weights of resnet50 (" + str(tmp_path / "none.pt") + ")",
    ]
    with pytest.raises(UserError, match=r"CIFAR-10-C.*is missing: get it with"):
        needs.prepare(build("cifar10_c"), tmp_path)


@pytest.mark.slow
def test_missing_data_fails_only_the_trials_that_need_it(tmp_path):
    write_cifar10(tmp_path / "data", test=120)
    write_cifar10_c(tmp_path / "data", ["fog"], test=120)
    for name in ("cifar10", "cifar10_c"):
        assert data.main(["prepare", name, "--data", str(tmp_path / "data"), "--no-verify"]) == 0
    torch.save(MODELS.get("wrn_16_1")(1000, (3, 32, 32)).source.state_dict(), tmp_path / "imagenet.pt")
    (tmp_path / "small.yaml").write_text(
        "suite: small\n"
        "tasks: [cifar_flip, cifar10_c, living17]\n"
        "rows: {no_adaptation: {}, full: {grid: {lr: 0.001}}}\n"
        "seeds: 1\n"
        "epochs: 1\n"
        "task_options:\n"
        "  cifar_flip: {model: wrn_10_1, source_epochs: 1}\n"
        "  cifar10_c: {model: wrn_16_1, corruptions: [fog]}\n"
        "weights: {wrn_16_1: imagenet.pt}\n"
    )
    command = [sys.executable, "-m", "lmsa_bench.sweep", "small.yaml", "--data", "data", "--cpus", "2", "--plain"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "imagenet.pt: its model has 1000 outputs, the task has 10 classes" in done.stdout
    assert "living17: imagenet: " in done.stdout and "train is missing: put its class folders" in done.stdout
    results = [json.loads(path.read_text()) for path in (tmp_path / "results" / "trials").glob("*/result.json")]
    assert sorted(result["status"] for result in results) == ["failed"] * 4 + ["finished"] * 2
