"""A task of one's own from two folders of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from lmsa_bench.errors import UserError
from lmsa_bench.sources import SourceModel
from lmsa_bench.tasks import arrow
from lmsa_bench.tasks.from_folder import folder_task

AUTHORS = '''
from lmsa_bench.tasks import TASKS, folder_task


@TASKS.register
def clouds():
    """Two classes of noise, dark and bright, then both brighter."""
    return folder_task("clouds", "{}", model="wrn_10_1", size=16, counts=(4, 2), epochs=2)
'''


@pytest.fixture
def folder(tmp_path):
    """12 images of each of 2 classes on each side: JPEG and PNG, of several sizes, their level telling them apart."""
    rng = np.random.default_rng(0)
    for side, shift in (("before", 0), ("after", 40)):
        for label, level in (("bright", 150), ("dark", 50)):
            (tmp_path / "images" / side / label).mkdir(parents=True)
            for i in range(12):
                pixels = rng.normal(level + shift, 10, (20 + i, 30, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / side / label / f"{i}.{'png' if i % 2 else 'jpg'}")
    return tmp_path / "images"


def test_sides_become_source_and_splits(folder, tmp_path):
    task, data = folder_task("clouds", folder, "wrn_10_1", 16, (4, 2), epochs=2), tmp_path / "data"
    task.prepare(data)
    task.source.prepare(data)
    assert len(task.source.load(data)) == 2 * 11 and len(task.source.holdout(data)) == 2  # a tenth of 12, at least 1
    splits = task.splits(data, "", 0)
    assert [len(split) for split in splits] == [8, 4, 12] and task.tuning == 8
    everything = torch.arange(12)
    images = splits.test.images[everything]
    assert images.shape == (12, 3, 16, 16) and images.dtype == torch.uint8
    # Label 0 is "bright", 150 + 40; 1 is "dark", 50 + 40.
    for label, level in ((0, 190), (1, 90)):
        assert images[splits.test.labels == label].float().mean() == pytest.approx(level, abs=5)
    again = task.splits(data, "", 0)
    assert torch.equal(again.train.images[torch.arange(8)], splits.train.images[torch.arange(8)])
    model = SourceModel(task, data)
    model.ensure(torch.device("cpu"))
    assert model.load(torch.device("cpu"))(torch.zeros(1, 3, 16, 16)).shape == (1, 2)


def test_a_changed_image_is_read_anew(folder, tmp_path):
    task = folder_task("clouds", folder, "wrn_10_1", 16, (4, 2))
    task.prepare(tmp_path)
    before = arrow.header(tmp_path / "clouds/after.arrow").fingerprint
    task.prepare(tmp_path)
    assert arrow.header(tmp_path / "clouds/after.arrow").fingerprint == before
    Image.new("RGB", (20, 20)).save(folder / "after/dark/0.jpg")
    task.prepare(tmp_path)
    assert arrow.header(tmp_path / "clouds/after.arrow").fingerprint != before


def test_an_author_needs_eight_lines(folder, tmp_path):
    import lmsa_bench as lb

    assert len(AUTHORS.strip().splitlines()) <= 8
    (tmp_path / "plug_clouds.py").write_text(AUTHORS.replace("{}", str(folder)))
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "suite: s\nplugins: [plug_clouds.py]\ntasks: [clouds]\nseeds: 1\nepochs: 1\nrows: {full: {grid: {lr: 1e-2}}}\n"
    )
    results = lb.run(lb.load_suite(str(suite)), tmp_path / "results", tmp_path / "data")
    (entry,) = results.journal.entries()
    assert entry.result.status == "finished" and entry.result.test_size == 12


def test_folders_that_do_not_fit_are_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="none/before: there is no such folder; put a folder of images for each class"):
        folder_task("clouds", tmp_path / "none")
    (folder / "after/dark").rename(folder / "after/drak")
    with pytest.raises(
        UserError, match=r"images/.*has no folder '\w+', which the other side has: did you mean '\w+'\?"
    ):
        folder_task("clouds", folder)
