"""A second view of a batch: another cut of every image, its labels following by their own rules."""

import pytest
import torch
from torch import Tensor

from diffusionmtl.data.base import read_sample
from diffusionmtl.data.collate import collate
from diffusionmtl.training.views import changed, samples_of, scale_cropped
from diffusionmtl.types import Batch
from tests.toy import TASK_NAMES, TASKS, ToyDataset, labels_at

SIZE = (48, 64)


def batch(annotated=None, invalid: int = 0, length: int = 4) -> Batch:
    toy = ToyDataset(length, sizes=(SIZE,), annotated=annotated, invalid=invalid)
    return collate([read_sample(toy, n, toy.annotated(n)) for n in range(length)], TASKS)


def generators(seed: int = 0, images: int = 4) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + n) for n in range(images)]


def assert_same(one: Batch, other: Batch) -> None:
    assert (one.names, one.indices) == (other.names, other.indices)
    assert torch.equal(one.image, other.image) and torch.equal(one.pairs_per_image, other.pairs_per_image)
    for task in TASK_NAMES:
        mine, theirs = one.labels[task], other.labels[task]
        assert mine.value.dtype == theirs.value.dtype and type(mine.value) is type(theirs.value) is Tensor
        assert torch.equal(mine.value, theirs.value) and torch.equal(mine.valid, theirs.valid)
        assert torch.equal(mine.rows, theirs.rows)


PARTLY = {0: ("depth",), 1: ("semseg", "normals"), 2: (), 3: ("edge", "depth")}


def test_a_batch_taken_apart_and_put_together_is_the_batch():
    given = batch(PARTLY, invalid=5)
    assert_same(changed(given, TASKS, generators(), lambda sample, _: sample), given)
    assert [tuple(sample.labels) for sample in samples_of(given, TASKS)] == [
        ("depth",),
        ("semseg", "normals"),
        (),
        ("depth", "edge"),
    ]


def test_without_zoom_a_view_is_the_batch():
    given = batch(PARTLY, invalid=5)
    assert_same(scale_cropped(given, TASKS, generators(), zooms=(1.0,)), given)


@pytest.mark.parametrize("zoom", [1.2, 1.5])
def test_labels_follow_the_picture(zoom):
    """The toy pictures say where they are, so labels can be read off them; a zoom brings depth nearer."""
    view = scale_cropped(batch(), TASKS, generators(), zooms=(zoom,))
    assert view.image.shape == (4, 3, *SIZE)
    height, width = round(SIZE[0] / zoom), round(SIZE[1] / zoom)
    happened = (SIZE[0] / height * SIZE[1] / width) ** 0.5
    corners = set()
    for n in range(4):
        red, green = view.image[n, 0].float() / 255, view.image[n, 1].float() / 255
        corners.add((float(red[0, 0]), float(green[0, 0])))
        assert float(red[0, -1] - red[0, 0]) == pytest.approx((width - 1) / SIZE[1], abs=0.02)
        expected = labels_at(red, green)
        depth, normals = view.labels["depth"].value[n], view.labels["normals"].value[n]
        torch.testing.assert_close(depth * happened, expected["depth"].plain(), atol=0.15, rtol=0)
        torch.testing.assert_close(normals, expected["normals"].plain(), atol=0.03, rtol=0)
        differs = view.labels["semseg"].value[n] != expected["semseg"].plain()
        assert float(differs.float().mean()) < 0.06
    assert len(corners) == 4


def test_every_image_is_cut_in_its_own_way_and_the_same_seed_cuts_the_same():
    given = batch(length=24)
    one, again, other = (scale_cropped(given, TASKS, generators(seed, 24)) for seed in (1, 1, 2))
    assert_same(one, again)
    assert not torch.equal(one.image, other.image)
    spans = {round(float(image[0, 0, -1]) - float(image[0, 0, 0])) for image in one.image}
    assert len(spans) >= 3, "one span for each zoom"


def test_whoever_else_is_in_the_batch_an_image_is_cut_the_same():
    whole, halves = batch(PARTLY), []
    for rows in (slice(0, 1), slice(1, 4)):
        part = collate(samples_of(whole, TASKS)[rows], TASKS)
        halves += samples_of(scale_cropped(part, TASKS, generators()[rows]), TASKS)
    assert_same(collate(halves, TASKS), scale_cropped(whole, TASKS, generators()))


def test_what_is_not_valid_stays_so_and_influences_nothing():
    given = batch(PARTLY, invalid=30)
    view = scale_cropped(given, TASKS, generators(3), zooms=(1.5,))
    for n in range(2):
        row = int(given.labels["depth"].rows[n])
        # Red is the column: pixels of the invalid band are those of the first 30 of 64 columns.
        column = view.image[row, 0].float() / 255 * SIZE[1]
        known = view.labels["depth"].valid[n]
        assert not known[column < 29].any() and bool(known[column > 31].all())
    spoilt = batch(PARTLY, invalid=30)
    for labels in spoilt.labels.values():
        labels.value[~labels.valid[:, None].expand_as(labels.value)] = 1
    other = scale_cropped(spoilt, TASKS, generators(3), zooms=(1.5,))
    for task in TASK_NAMES:
        one, two = view.labels[task], other.labels[task]
        assert torch.equal(one.value.movedim(1, -1)[one.valid], two.value.movedim(1, -1)[two.valid])
