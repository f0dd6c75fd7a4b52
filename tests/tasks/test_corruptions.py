"""Corruptions: known values, determinism, and that each one grows with its severity."""

from dataclasses import replace

import pytest
import torch

from lmsa_bench.errors import UserError
from lmsa_bench.seeding import generator
from lmsa_bench.tasks import arrow, corruptions, shifts
from lmsa_bench.tasks.corruptions import CORRUPTIONS, SEVERITIES, strength
from lmsa_bench.tasks.digits import DIGITS, pools
from lmsa_bench.tasks.task import to_unit

FIXED = {"brightness", "contrast", "defocus_blur", "gaussian_blur", "jpeg_compression", "pixelate", "saturate"}
FIXED |= {"zoom_blur"}
NOISES = {"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"}  # other ones in each channel
# Their severities change the kind of change: fewer colours or more, one large bend or many small ones.
UNEVEN = {"elastic_transform", "saturate"}
CASES = [(table, name) for table in SEVERITIES for name in CORRUPTIONS.names()]


def corrupt(name, images, value, seed=0):
    return corruptions.corrupt(name, images, value, generator(seed, "corrupt"))


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
    grey_saturation = name == "saturate" and channels == 1  # nothing to saturate up to severity 3
    assert min(errors) > 0 or grey_saturation
    assert errors[4] > errors[0] or name in UNEVEN
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS.names())
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 5, 9), (3, 40, 2)])
def test_any_size_is_fine_at_the_strongest(name, shape):
    images = torch.randint(256, (2, *shape), generator=generator(0, "sizes"), dtype=torch.uint8)
    assert corrupt(name, images, strength(name, 5)).shape == images.shape


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_what_is_drawn_follows_the_generator_from_image_to_image(name):
    images = smooth(3)[:2]
    value, draw = strength(name, 3, "cifar"), generator(0, "corrupt")
    first, other = (corrupt(name, images, value, seed) for seed in (0, 1))
    assert torch.equal(first, other) == (name in FIXED)
    apart = [corruptions.corrupt(name, image[None], value, draw) for image in images]
    assert torch.equal(torch.cat(apart), first)


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS.names()) - NOISES))
def test_a_grey_image_is_one_of_three_equal_channels(name):
    images, value = smooth(1)[:2], strength(name, 4, "cifar")
    colour = corrupt(name, images.expand(-1, 3, -1, -1).contiguous(), value).double()
    luma = (colour * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)).sum(1, keepdim=True)
    # Bytes of three channels are rounded before their luma is taken; JPEG and clipping see the channels apart.
    assert (corrupt(name, images, value) - luma).abs().mean() < 1


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
    assert torch.equal(corrupt("defocus_blur", flat, (6.0, 0.5)), flat)
    # the published kernel of radius 10 sums to 1.0108, twice normalised to 1.0054: 77 * 1.0108 = 77.8
    assert torch.equal(corrupt("defocus_blur", flat, (10.0, 0.5)), flat + 1)


def test_jpeg_keeps_a_flat_image():
    flat = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
    assert torch.equal(corrupt("jpeg_compression", flat, 7), flat)


def test_the_small_suites_corruptions_make_the_bytes_of_their_prepared_files(tmp_path):
    images = pools(tmp_path)["target"].images
    draw, x = torch.rand(images.shape, generator=generator(0, "corrupt")), to_unit(images)
    noisy = torch.where(draw < 0.27, torch.where(draw < 0.135, 255, 0), images)
    assert torch.equal(corrupt("impulse_noise", images, 0.27), noisy.to(torch.uint8))
    mean = x.mean(dim=(2, 3), keepdim=True)
    pale = ((x - mean) * 0.15 + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    assert torch.equal(corrupt("contrast", images, 0.15), pale)


def test_images_that_other_code_made_are_made_anew(tmp_path, monkeypatch):
    data = replace(DIGITS, strengths={"contrast": 0.15})
    data.prepare(tmp_path)
    path, before = tmp_path / data.path("contrast"), data.fingerprint(["contrast"], tmp_path)
    written = path.stat().st_mtime_ns
    data.prepare(tmp_path)
    assert path.stat().st_mtime_ns == written
    monkeypatch.setattr(shifts, "code_of", lambda name: "other code")
    data.prepare(tmp_path)
    assert path.stat().st_mtime_ns > written and arrow.header(path).recipe == "digits 1 0.15 other code"
    assert data.fingerprint(["contrast"], tmp_path) == before  # of the content, which is the same


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
