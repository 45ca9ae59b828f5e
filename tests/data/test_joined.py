"""Several data sets as one."""

from dataclasses import replace

import pytest
import torch

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.checks import check_tasks_labelled
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.errors import UserError
from diffusionmtl.labels import ValidMap
from diffusionmtl.tasks import Depth, Saliency, SemanticSegmentation
from diffusionmtl.tasks.depth import DepthMap

SEMSEG = SemanticSegmentation("semseg", classes=("a", "b"))


class Constant(DenseDataset):
    """`length` images of one value; every image is labelled for `labelled`."""

    def __init__(self, name, tasks, length=2, value=0, labelled=None, root=None):
        self.name, self.tasks, self.value = name, tasks, value
        self.names = tuple(str(i) for i in range(length))
        self._labelled = frozenset(t.name for t in tasks) if labelled is None else frozenset(labelled)
        if root is not None:
            self.root = root

    def annotated(self, index):
        return self._labelled

    def image(self, index):
        return torch.full((3, 2, 2), self.value + index, dtype=torch.uint8)

    def label(self, index, task):
        value = torch.full((1, 2, 2), float(self.value + index))
        return value.as_subclass(DepthMap), torch.ones(1, 2, 2, dtype=torch.bool).as_subclass(ValidMap)


def test_tasks_are_united_and_images_keep_their_labels():
    one = Constant("one", (SEMSEG, Depth("depth")), length=2, value=0)
    two = Constant("two", (Saliency("saliency"), Depth("depth")), length=3, value=100)
    joined = JoinedDataset([one, two])
    assert [task.name for task in joined.tasks] == ["semseg", "depth", "saliency"]
    assert joined.names == ("one/0", "one/1", "two/0", "two/1", "two/2")
    assert joined.annotated(1) == {"semseg", "depth"}
    assert joined.annotated(2) == {"saliency", "depth"}
    assert [int(joined.image(i).max()) for i in range(5)] == [0, 1, 100, 101, 102]
    assert float(joined.label(3, "depth")[0].max()) == 101
    assert joined.located(4) == (two, 2)
    for outside in (5, -1):
        with pytest.raises(IndexError):
            joined.image(outside)


def test_joined_data_sets_can_be_joined():
    parts = [Constant(name, (SEMSEG,), length=1) for name in "abc"]
    joined = JoinedDataset([JoinedDataset(parts[:2]), parts[2]])
    assert joined.names == ("a+b/a/0", "a+b/b/0", "c/0")


@pytest.mark.parametrize("other", [Depth("semseg"), SemanticSegmentation("semseg", classes=("a", "c"))])
def test_a_name_that_means_two_things_becomes_two_tasks(other):
    joined = JoinedDataset([Constant("one", (SEMSEG,)), Constant("two (b)", (other, Depth("depth")), value=100)])
    assert [task.name for task in joined.tasks] == ["semseg_one", "semseg_two_b_", "depth"]
    assert joined.tasks[1].meaning() == other.meaning()
    assert joined.annotated(0) == {"semseg_one"}
    assert joined.annotated(2) == {"semseg_two_b_", "depth"}
    assert float(joined.label(3, "semseg_two_b_")[0].max()) == 101


@pytest.mark.parametrize("other", [SemanticSegmentation("semseg", classes=("a", "b"), ignore=9, weight=2.0)])
def test_files_may_be_written_differently(other):
    joined = JoinedDataset([Constant("one", (SEMSEG,)), Constant("two", (other,))])
    assert joined.tasks == (SEMSEG,)


@pytest.mark.parametrize(
    ("first", "other", "united"),
    [
        (Saliency("t"), Saliency("t", ignore=9), Saliency("t", ignore=9)),
        (Saliency("t", ignore=9), Saliency("t", ignore=8), Saliency("t", ignore=9)),
        (Depth("t", limit=10.0), Depth("t", limit=90.0, scale=1.0), Depth("t", limit=90.0)),
        (Depth("t", limit=90.0), Depth("t", limit=10.0), Depth("t", limit=90.0)),
        (replace(SEMSEG, ignore=1), replace(SEMSEG, ignore=0), SEMSEG),
        (replace(SEMSEG, ignore=1), replace(SEMSEG, ignore=1, weight=2.0), replace(SEMSEG, ignore=1)),
        (replace(SEMSEG, ignore=9), SEMSEG, replace(SEMSEG, ignore=9)),
    ],
)
def test_files_of_the_union_can_say_what_those_of_each_say(first, other, united):
    first, other, united = (replace(task, name="t") for task in (first, other, united))
    assert JoinedDataset([Constant("one", (first,)), Constant("two", (other,))]).tasks == (united,)


def test_namesakes_are_told_apart_by_the_folder_above(tmp_path):
    data = [
        Constant("photos", (SEMSEG,), length=1, root=tmp_path / "home" / "photos"),
        Constant("photos", (SEMSEG,), length=1, root=tmp_path / "work" / "photos"),
        Constant("rooms", (SEMSEG,), length=1),
    ]
    assert JoinedDataset(data).names == ("home-photos/0", "work-photos/0", "rooms/0")
    # The same whatever the order, so that a partition file stays true.
    assert JoinedDataset(data[::-1]).names == ("rooms/0", "work-photos/0", "home-photos/0")


def test_namesakes_without_a_folder_get_numbers():
    data = [Constant(name, (SEMSEG,), length=1) for name in ("x", "x", "x-2", "x")]
    names = JoinedDataset(data).names
    assert names[:3] == ("x/0", "x-3/0", "x-2/0")
    assert len(set(names)) == 4


def test_a_task_needs_a_label_somewhere():
    bare = Constant("bare", (SEMSEG, Depth("depth")), labelled={"depth"})
    with pytest.raises(UserError, match=r"bare\+more: task 'semseg' has no label for any of 4 images"):
        check_tasks_labelled(JoinedDataset([bare, Constant("more", (Depth("depth"),))]))
    check_tasks_labelled(JoinedDataset([bare, Constant("full", (SEMSEG,))]))


def test_nothing_cannot_be_joined():
    with pytest.raises(ValueError, match="nothing to join"):
        JoinedDataset([])
