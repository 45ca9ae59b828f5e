"""Maps are computed with as they would be the obvious way, and lie as processors read them well."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from diffusionmtl.maps import in_channels_last, length, resize, unit
from diffusionmtl.transfer import picked

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def leaf(shape, layout=torch.contiguous_format, dtype=torch.float64) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.contiguous(memory_format=layout).requires_grad_()


def gradient(of, x: torch.Tensor) -> torch.Tensor:
    y = of(x)
    weight = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()
    (found,) = torch.autograd.grad((weight * y).sum(), x)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_unit_vector_is_what_pytorch_says_and_so_is_its_gradient(layout):
    x = leaf((2, 3, 4, 5), layout)
    with torch.no_grad():
        x[0, :, 0, 0], x[0, :, 1, 1] = 0, 1e-13
    torch.testing.assert_close(unit(x), F.normalize(x, dim=1), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient(unit, x), gradient(lambda x: F.normalize(x, dim=1), x), rtol=1e-12, atol=1e-14)


@given(st.floats(-12, 15), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_unit_vector_has_length_one_however_long_it_was(power, dtype):
    x = torch.tensor([3.0, 0.0, -4.0], dtype=dtype)[:, None, None] * 10**power
    assert unit(x).dtype == dtype
    torch.testing.assert_close(unit(x).flatten().float(), torch.tensor([0.6, 0, -0.8]), rtol=0, atol=5e-3)


def test_the_length_of_three_and_four_is_five():
    assert length(torch.tensor([3.0, 4.0])[:, None, None]).item() == 5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(8, 10), (3, 2), (4, 5)])
def test_a_resized_map_is_what_pytorch_says_and_so_is_its_gradient(layout, size):
    def plain(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    x = leaf((2, 6, 4, 5), layout)
    assert torch.equal(resize(x, size), plain(x))
    torch.testing.assert_close(gradient(lambda x: resize(x, size), x), gradient(plain, x), rtol=1e-12, atol=1e-14)


def test_the_gradient_of_a_resize_lies_as_the_map_does_though_what_follows_lays_it_otherwise():
    x = leaf((2, 6, 4, 5), torch.channels_last)
    seen = []
    y = resize(x, (8, 10))
    assert in_channels_last(y)
    (before,) = [edge for edge, _ in y.grad_fn.next_functions]  # pyright: ignore[reportOptionalMemberAccess]
    before.register_prehook(lambda gradients: seen.extend(map(in_channels_last, gradients)))
    y.backward(torch.ones_like(y, memory_format=torch.contiguous_format))
    assert seen == [True]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_picked_images_lie_as_the_batch_does(layout):
    x = leaf((4, 6, 3, 5), layout)
    rows = torch.tensor([2, 0])
    there = picked(x, rows)
    assert torch.equal(there, x[rows])
    assert in_channels_last(there) == (layout == torch.channels_last)
    assert torch.equal(gradient(lambda x: picked(x, rows), x), gradient(lambda x: x[rows], x))
