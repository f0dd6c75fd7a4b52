"""Corruptions: known values, determinism, and that each one grows with its severity."""

import pytest
import torch

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks.corruptions import CORRUPTIONS, SEVERITIES, strength
from lmsa_bench.tasks.digits import pools

CASES = [(table, name) for table in SEVERITIES for name in CORRUPTIONS.names()]


def corrupt(name, images, value, seed=0):
    return CORRUPTIONS.get(name)(images, value, generator(seed, "corrupt"))


def tiny(*values):
    """One grey image of one row."""
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, 1, -1)


def smooth(channels, size=32):
    """Images with structure at every scale, mid-grey on average, as photographs have."""
    draw = generator(0, "smooth", channels)
    coarse = torch.rand(4, channels, 5, 5, generator=draw)
    fine = torch.rand(4, channels, size, size, generator=draw)
    image = torch.nn.functional.interpolate(coarse, size, mode="bilinear") * 0.8 + fine * 0.2
    return (image * 255).round().to(torch.uint8)


def test_every_corruption_has_five_severities_in_both_tables():
    assert all(set(table) == set(CORRUPTIONS.names()) for table in SEVERITIES.values())
    assert all(len(row) == 5 for table in SEVERITIES.values() for row in table.values())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("table", "name"), CASES)
def test_each_severity_changes_the_images_and_five_more_than_one(table, name, channels):
    images = smooth(channels)
    before = images.clone()
    errors = []
    for severity in range(1, 6):
        changed = corrupt(name, images, strength(name, severity, table))
        assert changed.dtype == torch.uint8 and changed.shape == images.shape
        assert torch.equal(changed, corrupt(name, images, strength(name, severity, table)))
        errors.append((changed.float() - images.float()).square().mean().item())
    assert min(errors) > 0 and errors[4] > errors[0]
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS.names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)])
def test_any_size_is_fine_at_the_strongest(name, shape):
    images = torch.randint(256, (2, *shape), generator=generator(0, "sizes"), dtype=torch.uint8)
    assert corrupt(name, images, strength(name, 5)).shape == images.shape


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise"])
def test_noise_follows_its_generator(name):
    images = smooth(1)
    first, same, other = (corrupt(name, images, strength(name, 3), seed) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_contrast_by_hand():
    # mean 100; 100 + 0.15 * (0 - 100) = 85, 100 + 0.15 * (200 - 100) = 115
    assert corrupt("contrast", tiny(0, 100, 200), 0.15).flatten().tolist() == [85, 100, 115]


def test_contrast_has_one_mean_for_each_image_and_channel():
    images = torch.stack([torch.full((3, 2, 2), 10 * i, dtype=torch.uint8) for i in range(3)])
    images[:, 1] += 50
    assert torch.equal(corrupt("contrast", images, 0.05), images)


def test_brightness_by_hand():
    # grey: 0 + 0.2 * 255 = 51, 100 + 51 = 151, 250 + 51 is cut to 255
    assert corrupt("brightness", tiny(0, 100, 250), 0.2).flatten().tolist() == [51, 151, 255]
    # colour: value 100 becomes 151, and the others keep their ratio to it: 50 * 1.51 = 75.5, of which bytes make 76
    colour = torch.tensor([100, 50, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert corrupt("brightness", colour, 0.2).flatten().tolist() == [151, 76, 0]


def test_impulse_noise_changes_its_fraction_to_black_or_white():
    images = torch.full((4, 1, 100, 100), 128, dtype=torch.uint8)
    changed = corrupt("impulse_noise", images, 0.27)
    fractions = [(changed == value).float().mean().item() for value in (0, 255, 128)]
    # 40,000 pixels: a standard deviation of 0.0017 for 0.135, of 0.0022 for 0.73
    assert fractions == pytest.approx([0.135, 0.135, 0.73], abs=0.01)


def test_gaussian_and_shot_noise_have_their_deviation():
    images = torch.full((4, 1, 100, 100), 128, dtype=torch.uint8)
    assert corrupt("gaussian_noise", images, 0.08).float().std().item() == pytest.approx(0.08 * 255, rel=0.03)
    # a Poisson number of mean 0.502 * 60, divided by 60: deviation sqrt(0.502 / 60) = 0.0915
    assert corrupt("shot_noise", images, 60).float().std().item() == pytest.approx(0.0915 * 255, rel=0.03)


def test_pixelate_makes_constant_blocks_of_the_mean():
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4) * 10
    # top left block: 0, 10, 40, 50 with mean 25; the others are 20 further right and 80 further down
    rows = [[25, 25, 45, 45]] * 2 + [[105, 105, 125, 125]] * 2
    assert corrupt("pixelate", images, 0.5)[0, 0].tolist() == rows


def test_defocus_blur_spreads_a_point_over_a_disk():
    point = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    point[0, 0, 10, 10] = 255
    # radius 3 holds 29 grid points (7 + 2 * 5 + 2 * 5 + 2 * 1), deviation 0.1 leaves them sharp: 255 / 29 = 8.8
    blurred = corrupt("defocus_blur", point, (3.0, 0.1))
    assert (blurred == 9).sum() == 29 and (blurred > 0).sum() == 29
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(corrupt("defocus_blur", flat, (10.0, 0.5)), flat)


def test_jpeg_keeps_a_flat_image():
    flat = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
    assert torch.equal(corrupt("jpeg_compression", flat, 7), flat)


def test_strength_zero_noise_is_the_image_itself(tmp_path):
    images = pools(tmp_path)["source"].images
    assert torch.equal(corrupt("gaussian_noise", images, 0.0), images)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("contrast", 6), "1 to 5"),
        (("contrats", 5), "did you mean 'contrast'"),
        (("contrast", 5, "cifr"), "did you mean 'cifar'"),
    ],
)
def test_an_unknown_strength_is_a_users_error(arguments, text):
    with pytest.raises(UserError, match=text):
        strength(*arguments)
