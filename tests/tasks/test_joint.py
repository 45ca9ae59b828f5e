"""Predictions and labels in one space: known answers, and what every kind owes there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals
from diffusionmtl.tasks.joint import one_hot, over_largest, straight_through


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawing(maps: int, seed: int = 0) -> list[torch.Generator]:
    """One for all of them, one after the other."""
    return [generator(seed)] * maps


def logits(scale: float = 2.0, classes: int = 4) -> torch.Tensor:
    return scale * torch.randn(2, classes, 5, 6, generator=generator(7))


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.0, 1.0, 50.0]))
def test_what_is_drawn_is_exactly_one_class(seed, scale):
    drawn = straight_through(logits(scale).requires_grad_(), drawing(2, seed))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn.sum(dim=1), torch.ones(2, 5, 6))


def test_its_gradient_is_that_of_the_softmax_of_the_noisy_logits():
    raw, other = logits().requires_grad_(), logits().requires_grad_()
    weights = torch.randn(raw.shape, generator=generator(3))
    (straight_through(raw, drawing(2, 1), temperature=0.5) * weights).sum().backward()
    u = torch.rand(raw.shape, generator=generator(1))
    ((other - torch.log(-torch.log(u))).div(0.5).softmax(dim=1) * weights).sum().backward()
    torch.testing.assert_close(raw.grad, other.grad)
    assert bool(raw.grad.any())


def test_classes_are_drawn_as_often_as_the_softmax_says():
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05])
    raw = probability.log()[None, :, None, None].expand(1, 4, 100, 100)
    drawn = straight_through(raw, drawing(1)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(drawn, probability, atol=0.02, rtol=0)


def test_the_same_generator_draws_the_same_and_nothing_global_is_touched():
    state = torch.get_rng_state()
    one, again, other = (straight_through(logits(0.0), drawing(2, seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_map_is_drawn_alike_whoever_else_is_there():
    raw = logits(0.0)
    together = straight_through(raw, [generator(1), generator(2)])
    assert torch.equal(together[1:], straight_through(raw[1:], [generator(2)]))
    assert straight_through(raw[:0], []).shape == (0, *raw.shape[1:])


def test_extreme_logits_are_no_trouble():
    raw = torch.tensor([1e30, -1e30, 0.0])[None, :, None, None].expand(1, 3, 50, 50).clone().requires_grad_()
    drawn = straight_through(raw, drawing(1))
    drawn.square().sum().backward()
    assert torch.equal(drawn[:, 0], torch.ones(1, 50, 50)) and bool(torch.isfinite(raw.grad).all())


def test_over_largest():
    x = torch.tensor([[1.0, 2.0], [4.0, 100.0]])[None, None]
    valid = torch.tensor([[[True, True], [True, False]]])
    assert over_largest(x, valid)[0, 0, 0].tolist() == [0.25, 0.5]
    assert bool(torch.isfinite(over_largest(x, torch.zeros_like(valid))).all())
    torch.testing.assert_close(over_largest(1000 * x, valid), over_largest(x, valid))


def test_known_answers_of_the_kinds():
    here = torch.ones(1, 1, 2, dtype=torch.bool)
    semseg = SemanticSegmentation("s", classes=("a", "b", "c"))
    label = torch.tensor([[[[2, 0]]]], dtype=torch.uint8)
    assert semseg.joint_label(label, here)[0, :, 0].T.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert torch.equal(semseg.joint(1e6 * one_hot(label[:, 0], 3), here, drawing(1)), semseg.joint_label(label, here))
    yes = torch.tensor([[[[True, False]]]])
    assert Saliency("s").joint_label(yes, here)[0, :, 0].T.tolist() == [[0, 1], [1, 0]]
    assert Boundary("b").joint_label(yes, here)[0, 0, 0].tolist() == [1, 0]
    assert Boundary("b").joint(torch.zeros(1, 1, 1, 2), here, drawing(1))[0, 0, 0].tolist() == [0.5, 0.5]
    metres = torch.tensor([[[[2.0, 8.0]]]])
    assert Depth("d").joint_label(metres, here)[0, 0, 0].tolist() == pytest.approx([0.25, 1])
    assert Depth("d").joint(metres, here, drawing(1))[0, 0, 0].tolist() == pytest.approx([0.25, 1])
    vectors = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]).T[None, :, None]
    assert SurfaceNormals("n").joint_label(vectors, here)[0, :, 0].T.tolist() == [[0.5, 0.5, 1], [0.5, 0, 0.5]]
    assert SurfaceNormals("n").joint(7 * vectors, here, drawing(1))[0, :, 0].T.tolist() == [
        [0.5, 0.5, 1],
        [0.5, 0, 0.5],
    ]
