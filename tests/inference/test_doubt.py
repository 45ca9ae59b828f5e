"""What makes a network's answer doubtful, on answers made up to have one right doubt."""

import pytest
import torch

from diffusionmtl.inference.bands import Band, Estimates
from diffusionmtl.inference.doubt import _Edges, edges, uncertainty_unit
from diffusionmtl.tasks import Boundary, Depth
from tests.toy import TASKS

TWO = (Depth("depth"), Boundary("edge"))


def steps(at: int | None, low=0.1, high=0.9) -> torch.Tensor:
    """An answer [1 1 8 10] that changes at a column; nowhere if None."""
    answer = torch.full((1, 1, 8, 10), low)
    if at is not None:
        answer[..., at:] = high
    return answer


def apart(*answers: torch.Tensor) -> list[float]:
    found = _Edges(len(TWO))
    found.add(TWO, Band(0, {t.name: Estimates(a, None, None) for t, a in zip(TWO, answers, strict=True)}))
    return found.apart().tolist()


def test_edges_lie_where_an_answer_changes():
    by_name = {task.name: task for task in TASKS}
    flat = torch.full((1, 1, 4, 5), 2.0)
    assert float(edges(by_name["depth"], flat).abs().max()) == 0
    flat[..., 3:] = 6.0
    found = edges(by_name["depth"], flat)
    assert found.shape == (3, 4) and (found > 0).sum(dim=0).tolist() == [0, 0, 3, 0]
    assert {name: uncertainty_unit(task) for name, task in by_name.items()} == {
        "semseg": "entropy",
        "depth": "m",
        "normals": "degrees",
        "saliency": "entropy",
        "edge": "entropy",
    }


def test_edges_that_lie_together_are_not_apart():
    assert apart(steps(4, 1.0, 5.0), steps(4)) == pytest.approx([0, 0], abs=1e-6)
    assert min(apart(steps(4, 1.0, 5.0), steps(7))) > 1


def test_an_answer_without_edges_agrees_with_none():
    assert apart(steps(4, 1.0, 5.0), steps(None)) == pytest.approx([1, 1])


def test_how_strong_edges_are_says_nothing_of_where_they_lie():
    assert apart(steps(4, 1.0, 9.0), steps(7)) == pytest.approx(apart(steps(4, 1.0, 5.0), steps(7)))
