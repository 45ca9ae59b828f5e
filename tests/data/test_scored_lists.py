"""The list of images that the boundaries of PASCAL-Context are scored on."""

import pytest

from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.errors import UserError
from tests.data import miniatures

FIRST, SECOND = miniatures.IDS["val"]
OTHERS = {"semseg", "human_parts", "sal", "normals"}


@pytest.fixture
def root(tmp_path):
    return miniatures.pascal_context(tmp_path / "PASCALContext")


def scored_on(root, *names):
    (root / "ImageSets/Context/test_new.txt").write_text("\n".join(names))
    return PascalContext.open(root, "val")


def test_without_the_list_everything_counts(root):
    dataset = PascalContext.open(root, "val")
    assert all(dataset.counted(i) == dataset.annotated(i) for i in range(len(dataset)))


def test_edges_count_on_the_list_alone(root):
    dataset = scored_on(root, SECOND)
    assert dataset.counted(0) == OTHERS and dataset.counted(1) == OTHERS | {"edge"}
    assert "edge" in dataset.annotated(0)
    train = PascalContext.open(root, "train")
    assert all("edge" in train.counted(i) for i in range(len(train)))


def test_views_of_the_data_know_it_too(root):
    dataset = scored_on(root, SECOND)
    assert SelectedTasks(dataset, ["edge"]).counted(0) == frozenset()
    joined = JoinedDataset([dataset, PascalContext.open(root, "train")])
    assert "edge" not in joined.counted(0) and "edge" in joined.counted(1) and "edge" in joined.counted(2)


def test_a_list_of_other_images(root):
    with pytest.raises(UserError, match=r"test_new\.txt: 1 of its 2 images are not in val\.txt, 2008_000002"):
        scored_on(root, FIRST, "2008_000002")


def test_a_list_that_is_none(root):
    with pytest.raises(UserError, match=r"test_new\.txt: lists no image"):
        scored_on(root)
