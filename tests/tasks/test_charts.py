"""What a kind counts for the report: known answers, nothing of what is not valid, and sums over images."""

import numpy as np
import pytest
import torch

from diffusionmtl.tasks import Depth, Saliency, SemanticSegmentation, SurfaceNormals
from diffusionmtl.tasks.charts import AnswerCounts, ClassCounts, ErrorCounts, ValueCounts
from tests.toy import TASKS, ToyDataset

VALID = torch.tensor([[[True, True, True, False]]])


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)[None, None, None]


def test_segmentation_counts_which_class_was_taken_for_which():
    answers = torch.eye(3)[torch.tensor([0, 2, 2, 1])].T[None, :, None]
    (found,) = SemanticSegmentation("s", classes=("a", "b", "c")).charts(answers, row(0, 1, 2, 0), VALID)
    assert found == ClassCounts(np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]]), ("a", "b", "c"))


def test_depth_counts_predictions_beside_labels_by_ratio():
    (found,) = Depth("d").charts(row(1.0, 2.0, 1e9, 5.0), row(1.0, 1.0, 1.0, 1.0), VALID)
    assert isinstance(found, ValueCounts) and found.unit == "m" and found.counts.sum() == 3
    labelled, predicted = np.nonzero(found.counts)
    assert set(labelled) == {200}, "1 m lies in the middle of 1e-4 to 1e4"
    assert list(predicted) == [200, 215, 399], "twice as much is 15 bins of 4.7 % on; beyond all is the last"


def test_normals_count_angles():
    estimate = torch.tensor([[0.0, 0, 1], [0, 1, 0], [0, 0, -1], [1, 0, 0]]).T[None, :, None]
    label = torch.tensor([0.0, 0, 1])[None, :, None, None].expand(1, 3, 1, 4)
    (found,) = SurfaceNormals("n").charts(estimate, label, VALID)
    assert isinstance(found, ErrorCounts) and found.width == 0.25
    assert list(np.nonzero(found.counts[0])[0]) == [0, 360, 719]


def test_saliency_counts_probabilities_of_no_and_yes():
    yes = torch.tensor([0.0, 0.505, 1.0, 0.3])
    estimate = torch.stack([1 - yes, yes])[None, :, None]
    (found,) = Saliency("s").charts(estimate, row(0, 0, 1, 1).bool(), VALID)
    assert isinstance(found, AnswerCounts)
    assert [list(np.nonzero(line)[0]) for line in found.counts] == [[0, 50], [99]]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_counts_of_two_images_are_those_of_both_together(task):
    data, generator = ToyDataset(2, invalid=3), torch.Generator().manual_seed(0)
    raw = torch.randn(2, task.channels, 24, 32, generator=generator)
    estimate = task.activate(raw)
    pairs = [data.label(index, task.name) for index in range(2)]
    label, valid = (torch.stack([pair[at].as_subclass(torch.Tensor) for pair in pairs]) for at in (0, 1))
    together = task.charts(estimate, label, valid[:, 0])
    one, two = (task.charts(estimate[[at]], label[[at]], valid[[at], 0]) for at in range(2))
    assert tuple(a + b for a, b in zip(one, two, strict=True)) == together
    assert all(counts.counts.sum() == valid.sum() for counts in together)


def test_different_things_do_not_add_up():
    counts = np.ones((2, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="do not add up"):
        ClassCounts(counts, ("a", "b")) + ClassCounts(counts, ("a", "c"))
    with pytest.raises(ValueError, match="do not add up"):
        ClassCounts(counts, ("a", "b")) + AnswerCounts(counts)
