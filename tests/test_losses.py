"""Every loss by hand: what it costs, what does not count, and that nothing is ever NaN."""

import math

import pytest
import torch

from diffusionmtl import losses

LN2 = math.log(2)


def row(*values, dtype=torch.float32):
    """[1 1 1 w]"""
    return torch.tensor(values, dtype=dtype)[None, None, None]


def mask(*values):
    """[1 1 w]"""
    return torch.tensor(values)[None, None]


def test_a_masked_mean_is_over_its_own_samples_pixels():
    per_pixel = torch.tensor([[[1.0, 3.0, float("nan")]], [[5.0, 7.0, 9.0]], [[float("inf")] * 3]])
    valid = torch.tensor([[[True, True, False]], [[False, False, True]], [[False] * 3]])
    assert losses.mean_over_valid(per_pixel, valid).tolist() == [2.0, 9.0, 0.0]


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes():
    label = row(0, 1, 2, 200, dtype=torch.uint8)
    found = losses.cross_entropy(torch.zeros(1, 3, 1, 4), label, mask(True, True, True, False))
    assert found.item() == pytest.approx(math.log(3))


def test_balanced_classes_weigh_as_much_as_the_other_has_pixels():
    raw = torch.zeros(1, 2, 1, 4)  # every pixel costs ln 2 before it is weighted
    found = losses.balanced_cross_entropy(raw, row(True, False, False, False), mask(True, True, True, True))
    assert found.item() == pytest.approx((0.75 + 3 * 0.25) / 4 * LN2)
    one_sided = losses.balanced_cross_entropy(raw, row(True, True, True, True), mask(True, True, True, True))
    assert one_sided.item() == pytest.approx(0.001 * LN2)


def test_a_boundary_costs_its_share():
    found = losses.boundary_cross_entropy(torch.zeros(1, 1, 1, 2), row(True, False), mask(True, True), 0.9)
    assert found.item() == pytest.approx((0.9 + 0.1) / 2 * LN2)
    far = losses.boundary_cross_entropy(row(1000.0, -1000.0), row(False, True), mask(True, True), 0.9)
    assert far.item() == pytest.approx((0.1 + 0.9) / 2 * 1000)


def test_an_absolute_error_is_summed_over_channels():
    raw, label = torch.tensor([1.0, -2.0, 4.0])[None, :, None, None], torch.zeros(1, 3, 1, 1)
    assert losses.absolute_error(raw, label, mask(True)).item() == 7.0


def test_normals_are_compared_by_direction():
    raw, label = torch.tensor([0.0, 3.0, 4.0])[None, :, None, None], torch.tensor([0.0, 0.0, 1.0])[None, :, None, None]
    assert losses.normal_absolute_error(raw, label, mask(True)).item() == pytest.approx(0.6 + 0.2)


@pytest.mark.parametrize(
    ("loss", "channels", "label"),
    [
        (losses.cross_entropy, 3, torch.full((2, 1, 2, 2), 255, dtype=torch.uint8)),
        (losses.balanced_cross_entropy, 2, torch.ones(2, 1, 2, 2, dtype=torch.bool)),
        (losses.boundary_cross_entropy, 1, torch.ones(2, 1, 2, 2, dtype=torch.bool)),
        (losses.absolute_error, 1, torch.full((2, 1, 2, 2), float("nan"))),
        (losses.normal_absolute_error, 3, torch.full((2, 3, 2, 2), float("nan"))),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_without_a_valid_pixel_the_loss_is_0_and_so_is_its_gradient(loss, channels, label):
    raw = torch.randn(2, channels, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    valid = torch.zeros(2, 2, 2, dtype=torch.bool)
    valid[1, 0, 0] = True
    label = label.clone()
    label[1] = 0
    found = loss(raw, label, valid)
    found.sum().backward()
    assert found[0].item() == 0
    assert found[1].item() > 0
    assert raw.grad is not None and not raw.grad[0].any()
    assert torch.isfinite(raw.grad).all()
    assert raw.grad[1, :, 0, 0].any() and not raw.grad[1, :, 1].any()
