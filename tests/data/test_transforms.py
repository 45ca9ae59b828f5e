"""One draw, replayed alike on picture, labels and validity; and nothing but what may be seen decides it."""

import colorsys
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.data.base import read_sample
from diffusionmtl.data.colour_jitter import ColourChange, ColourRanges, change_colour, draw_colour
from diffusionmtl.data.loading import VisibleDataset
from diffusionmtl.data.partition import Partition, annotations, one_label
from diffusionmtl.data.transforms import Augmentation, Geometry, augment, draw_geometry, fit, fitted_size, replay
from diffusionmtl.types import Sample
from tests.toy import TASK_NAMES, ToyDataset, labels_at

SIZES = ((24, 32), (40, 30), (16, 16), (7, 50))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy_sample(size: tuple[int, int] = (48, 64), visible: tuple[str, ...] = TASK_NAMES, invalid: int = 0) -> Sample:
    return read_sample(ToyDataset(1, sizes=(size,), invalid=invalid), 0, frozenset(visible))


def same(a: Sample, b: Sample) -> bool:
    """Equal to the last bit."""
    return (
        (a.name, a.index) == (b.name, b.index)
        and torch.equal(a.image, b.image)
        and a.labels.keys() == b.labels.keys() == a.valid.keys() == b.valid.keys()
        and all(torch.equal(plain(a.labels[t]), plain(b.labels[t])) for t in a.labels)
        and all(torch.equal(plain(a.valid[t]), plain(b.valid[t])) for t in a.labels)
    )


def plain(x: Tensor) -> Tensor:
    return x.as_subclass(Tensor)


settings = st.builds(
    Augmentation,
    size=st.sampled_from(SIZES),
    fit=st.booleans(),
    scale=st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.3, 0.4), (2.0, 3.0)]),
    crop_by=st.sampled_from([None, "semseg"]),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    colour=st.just(None),
    pad=st.sampled_from(["centre", "top-left"]),
)


class TestEverything:
    @given(a=settings, size=st.sampled_from(SIZES), seed=st.integers(0, 50))
    def test_comes_out_at_the_size_with_its_types(self, a: Augmentation, size: tuple[int, int], seed: int):
        before = toy_sample(size)
        after = augment(before, a, generator(seed))
        assert after.image.shape == (3, *a.size)
        assert after.image.dtype == torch.uint8
        for task, label in after.labels.items():
            assert type(label) is type(before.labels[task])
            assert label.dtype == before.labels[task].dtype
            assert label.shape == (before.labels[task].shape[0], *a.size)
            assert after.valid[task].shape == (1, *a.size)

    @given(a=settings, size=st.sampled_from(SIZES), seed=st.integers(0, 50))
    def test_normals_keep_length_one_and_classes_stay_classes(self, a: Augmentation, size: tuple[int, int], seed: int):
        before = toy_sample(size)
        after = augment(before, a, generator(seed))
        valid = plain(after.valid["normals"])[0]
        lengths = plain(after.labels["normals"]).norm(dim=0)[valid]
        assert torch.allclose(lengths, torch.ones_like(lengths))
        classes = plain(after.labels["semseg"])[plain(after.valid["semseg"])].unique()
        assert set(classes.tolist()) <= set(plain(before.labels["semseg"]).unique().tolist())

    @given(a=settings, size=st.sampled_from(SIZES), seed=st.integers(0, 50))
    def test_exactly_the_padding_is_not_valid(self, a: Augmentation, size: tuple[int, int], seed: int):
        sample = toy_sample(size)
        geometry = draw_geometry(sample, a, generator(seed))
        after = replay(sample, geometry, ColourChange(), fill=(1, 2, 3))
        left, top, right, bottom = geometry.padding
        expected = F.pad(torch.ones(1, *geometry.resized, dtype=torch.bool), geometry_padding(geometry))
        assert all(torch.equal(plain(valid), expected) for valid in after.valid.values())
        padding = after.image[:, ~expected[0]]
        assert torch.equal(padding, torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None].expand_as(padding))
        if a.pad == "centre":
            assert 0 <= right - left <= 1
            assert 0 <= bottom - top <= 1
        else:
            assert left == top == 0

    @pytest.mark.parametrize("invalid", [0, 20])
    @pytest.mark.parametrize("seed", range(12))
    def test_picture_and_labels_still_agree(self, seed: int, invalid: int):
        """Red and green say where a pixel came from, so they say what its labels must be."""
        a = Augmentation((48, 64), fit=seed % 2 == 0, colour=None)
        sample = toy_sample((96, 120), invalid=invalid)
        geometry = draw_geometry(sample, a, generator(seed))
        after = replay(sample, geometry, ColourChange())
        red, green, _ = after.image.double() / 255
        expected = labels_at(red.float(), green.float())
        valid = plain(after.valid["depth"])[0]
        assert valid.any()
        # A pixel of blur and rounding: red and green change by so much from one pixel to the next.
        step = max(geometry.window[2] / geometry.resized[0] / 96, geometry.window[3] / geometry.resized[1] / 120) + 0.01
        depth = plain(after.labels["depth"])[0] * geometry.zoom
        assert ((depth - plain(expected["depth"])[0]).abs()[valid] < 6 * step).all()
        normals = plain(expected["normals"]).clone()
        if geometry.flip:
            normals[0] *= -1
        assert ((plain(after.labels["normals"]) - normals).abs()[:, valid] < 3 * step).all()
        near_border = ((red - 0.5).abs() < step) | ((green - 0.5).abs() < step)
        wrong = (plain(after.labels["semseg"]) != plain(expected["semseg"]))[0] & valid
        assert not (wrong & ~near_border).any()
        assert not (plain(after.labels["edge"])[0] & valid & ~((red - 0.5).abs() < 0.02 + 2 * step))[
            ((green - 0.5).abs() > 0.02 + 2 * step)
        ].any()
        rim = ((red - 0.3) ** 2 + (green - 0.6) ** 2 - 0.07).abs() < 2 * step
        wrong = (plain(after.labels["saliency"]) != plain(expected["saliency"]))[0] & valid
        assert not (wrong & ~rim).any()
        if invalid:
            assert (red[valid] > invalid / 120 - step).all()


def geometry_padding(geometry: Geometry) -> list[int]:
    left, top, right, bottom = geometry.padding
    return [left, right, top, bottom]


class TestGeometry:
    def test_zoom_by_two_halves_depth(self):
        sample = toy_sample((48, 64))
        geometry = draw_geometry(sample, Augmentation((48, 64), scale=(2.0, 2.0), flip=0.0, colour=None), generator())
        assert geometry.window[2:] == (24, 32)
        assert geometry.resized == (48, 64)
        assert geometry.zoom == pytest.approx(2)
        top, left = geometry.window[:2]
        after = plain(replay(sample, geometry, ColourChange()).labels["depth"])
        cut = plain(sample.labels["depth"])[:, top : top + 24, left : left + 32]
        assert torch.allclose(after, cut.repeat_interleave(2, 1).repeat_interleave(2, 2) / 2)

    def test_zoom_out_puts_the_whole_picture_farther_away(self):
        sample = toy_sample((48, 64))
        geometry = draw_geometry(sample, Augmentation((48, 64), scale=(0.5, 0.5), flip=0.0, colour=None), generator())
        assert geometry == Geometry((0, 0, 48, 64), (24, 32), 0.5, False, (16, 12, 16, 12))
        after = replay(sample, geometry, ColourChange())
        inside = plain(after.labels["depth"])[:, 12:36, 16:48]
        assert torch.allclose(inside, plain(sample.labels["depth"])[:, 1::2, 1::2] * 2)

    def test_fitting_is_a_change_of_resolution_not_of_view(self):
        sample = toy_sample((48, 64))
        a = Augmentation((24, 40), fit=True, scale=(1.0, 1.0), flip=0.0, colour=None)
        geometry = draw_geometry(sample, a, generator())
        assert geometry == Geometry((0, 0, 48, 64), (24, 32), 1.0, False, (4, 0, 4, 0))
        after = replay(sample, geometry, ColourChange())
        assert torch.equal(after.image[..., 4:36], fit(sample.image, (24, 40)))

    def test_published_scale_crop_flip_statistics(self):
        sample = toy_sample((50, 50), visible=())
        draws = [draw_geometry(sample, Augmentation((50, 50)), generator(seed)) for seed in range(600)]
        zooms = np.array([g.zoom for g in draws])
        assert zooms.min() == pytest.approx(0.5, abs=0.02)
        assert zooms.max() == pytest.approx(2.0, abs=0.05)
        assert zooms.mean() == pytest.approx(1.25, abs=0.08)
        assert np.mean([g.flip for g in draws]) == pytest.approx(0.5, abs=0.08)
        corners = {(g.window[0] == 0, g.window[0] + g.window[2] == 50) for g in draws if g.zoom > 1.2}
        assert corners >= {(True, False), (False, True), (False, False)}

    def test_what_is_done_to_depth_is_what_happened_to_the_picture(self):
        for seed in range(20):
            g = draw_geometry(toy_sample((33, 47)), Augmentation((17, 29)), generator(seed))
            grown = (g.resized[0] / g.window[2]) * (g.resized[1] / g.window[3])
            assert g.zoom**2 == pytest.approx(grown)

    @given(
        old=st.tuples(st.integers(1, 400), st.integers(1, 400)), new=st.tuples(st.integers(1, 300), st.integers(1, 300))
    )
    def test_fitted_size_fits_and_touches(self, old: tuple[int, int], new: tuple[int, int]):
        high, wide = fitted_size(old, new)
        assert 1 <= high <= new[0]
        assert 1 <= wide <= new[1]
        assert high == new[0] or wide == new[1]

    def test_size_of_zero_is_refused(self):
        for wrong in ({"size": (0, 5)}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"crop_tries": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                Augmentation(**{"size": (5, 5), **wrong})


class TestCropBySegmentation:
    def lopsided(self, visible: tuple[str, ...] = ("semseg",), invalid_left: bool = False) -> Sample:
        """Class 0 everywhere but in the rightmost fifth, which is class 1."""
        sample = toy_sample((40, 100), visible)
        if "semseg" in visible:
            label = plain(sample.labels["semseg"])
            label[:] = 0
            label[..., 80:] = 1
            plain(sample.valid["semseg"])[..., :80] = not invalid_left
        return sample

    def share(self, sample: Sample, a: Augmentation, seed: int) -> float:
        _, left, _, columns = draw_geometry(sample, a, generator(seed)).window
        ones = max(0, left + columns - 80) / columns
        return max(ones, 1 - ones)

    def test_redrawn_until_no_class_covers_too_much(self):
        a = Augmentation((20, 40), scale=(1.0, 1.0), crop_by="semseg", crop_tries=200)
        assert max(self.share(self.lopsided(), a, seed) for seed in range(40)) <= 0.75

    def test_the_last_try_is_taken_as_it_is(self):
        a = Augmentation((20, 20), scale=(1.0, 1.0), crop_by="semseg", max_class_share=0.01, crop_tries=3)
        assert self.share(self.lopsided(), a, 0) > 0.01

    def test_a_crop_without_any_label_is_redrawn(self):
        a = Augmentation((20, 10), scale=(1.0, 1.0), crop_by="semseg", max_class_share=1.0, crop_tries=200)
        for seed in range(30):
            window = draw_geometry(self.lopsided(invalid_left=True), a, generator(seed)).window
            assert window[1] + 10 > 80

    def test_no_redraw_where_it_is_not_visible(self):
        a = Augmentation((20, 40), scale=(1.0, 1.0), crop_by="semseg")
        hidden = self.lopsided(visible=("depth",))
        without = dataclasses.replace(a, crop_by=None)
        for seed in range(20):
            assert draw_geometry(hidden, a, generator(seed)) == draw_geometry(hidden, without, generator(seed))

    def test_a_crop_of_everything_is_drawn_once(self):
        one_class = self.lopsided()
        plain(one_class.labels["semseg"])[:] = 0
        a = Augmentation((40, 100), scale=(1.0, 1.0), crop_by="semseg")
        used, unused = generator(), generator()
        draw_geometry(one_class, a, used)
        draw_geometry(one_class, dataclasses.replace(a, crop_by=None), unused)
        assert torch.equal(used.get_state(), unused.get_state())


class TestNothingLeaks:
    def test_hidden_labels_change_no_bit(self):
        whole = ToyDataset(10, sizes=SIZES)
        partition = one_label(annotations(whole), TASK_NAMES, seed=0)
        hidden = [(i, t) for i, n in enumerate(whole.names) for t in TASK_NAMES if t not in partition.visible[n]]
        damaged = ToyDataset(10, sizes=SIZES, broken=hidden)
        missing = ToyDataset(
            10, sizes=SIZES, annotated={i: sorted(partition.visible[n]) for i, n in enumerate(whole.names)}
        )
        a = Augmentation((24, 24), crop_by="semseg")
        views = [VisibleDataset(d, partition, a, seed=0) for d in (whole, damaged, missing)]
        for epoch, index in itertools.product(range(3), range(10)):
            first, *others = (view[epoch, index] for view in views)
            assert all(same(first, other) for other in others)
        for dataset in (whole, damaged, missing):
            assert not set(dataset.opened) & set(hidden)

    def test_the_damage_would_be_noticed_where_it_is_visible(self):
        toy = ToyDataset(1, broken=[(0, "depth")])
        view = VisibleDataset(toy, Partition({"image 0": frozenset({"depth"})}, ""), None, seed=0)
        with pytest.raises(Exception, match="truncated"):
            view[0, 0]


def test_a_seed_is_a_picture():
    sample, a = toy_sample(), Augmentation((40, 40), crop_by="semseg")
    assert same(augment(sample, a, generator(5)), augment(sample, a, generator(5)))
    assert not same(augment(sample, a, generator(5)), augment(sample, a, generator(6)))


def test_the_original_is_left_alone():
    sample, before = toy_sample(), toy_sample()
    for seed in range(5):
        augment(sample, Augmentation((48, 64), scale=(1.0, 1.0)), generator(seed))
    assert same(sample, before)


class TestColour:
    def picture(self) -> Tensor:
        rng = np.random.default_rng(0)
        return torch.from_numpy(rng.integers(0, 256, (3, 9, 11), dtype=np.uint8))

    def by_hand(self, image: Tensor, saturation: float, hue: float) -> Tensor:
        """Python's own HSV, pixel by pixel."""
        pixels = []
        for rgb in (image.flatten(1).T / 255).tolist():
            h, s, v = colorsys.rgb_to_hsv(*rgb)
            pixels.append(colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1, s * saturation), v))
        return torch.tensor(pixels).T.reshape(image.shape) * 255

    @pytest.mark.parametrize(
        ("saturation", "hue"), [(1.4, 0.0), (0.6, 0.0), (1.0, 25.0), (1.0, -36.0), (1.3, 17.0), (3.0, 120.0)]
    )
    def test_saturation_and_hue_are_those_of_hsv(self, saturation: float, hue: float):
        image = self.picture()
        after = change_colour(image, ColourChange(saturation=saturation, hue=hue)).double()
        assert (after - self.by_hand(image, saturation, hue)).abs().max() <= 0.51

    def test_grey_black_and_white_have_no_hue(self):
        grey = torch.tensor([0, 1, 127, 255], dtype=torch.uint8).expand(3, 1, 4)
        assert torch.equal(change_colour(grey, ColourChange(saturation=1.5, hue=30.0)), grey)

    def test_brightness_adds_and_contrast_multiplies_in_their_order(self):
        image = torch.tensor([[[0, 100, 200]]], dtype=torch.uint8).expand(3, 1, 3)
        bright = change_colour(image, ColourChange(brightness=30.0, contrast=1.5))
        assert bright[0].tolist() == [[45, 195, 255]]
        assert change_colour(image, ColourChange(brightness=-30.0, contrast=0.5))[0].tolist() == [[0, 35, 85]]

    def test_contrast_before_and_after_the_colour_steps_differ(self):
        image = torch.tensor([200, 120, 40], dtype=torch.uint8)[:, None, None]
        first, last = (
            change_colour(image, ColourChange(contrast=1.5, contrast_first=first, saturation=0.5))
            for first in (True, False)
        )
        # First: 300 is cut to 255, then red 255, green 255 - (255 - 180) / 2, blue 255 - (255 - 60) / 2.
        assert first.flatten().tolist() == [255, 218, 158]
        # Last: 200, 160, 120 times 1.5.
        assert last.flatten().tolist() == [255, 240, 180]

    def test_no_change_is_the_same_picture(self):
        image = self.picture()
        assert torch.equal(change_colour(image, ColourChange(contrast_first=False)), image)

    def test_each_change_is_made_half_of_the_time_within_its_range(self):
        draws = [draw_colour(ColourRanges(), generator(seed)) for seed in range(800)]
        for name, still, low, high in (
            ("brightness", 0, -32, 32),
            ("contrast", 1, 0.5, 1.5),
            ("saturation", 1, 0.5, 1.5),
            ("hue", 0, -36, 36),
        ):
            values = np.array([getattr(d, name) for d in draws])
            moved = values[values != still]
            assert len(moved) / len(values) == pytest.approx(0.5, abs=0.07)
            assert low <= moved.min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < moved.max() <= high
        assert np.mean([d.contrast_first for d in draws]) == pytest.approx(0.5, abs=0.07)

    def test_colour_touches_neither_padding_nor_labels(self):
        sample = toy_sample((20, 20))
        geometry = Geometry((0, 0, 20, 20), (20, 20), 1.0, False, (5, 0, 5, 0))
        plainly = replay(sample, geometry, ColourChange())
        coloured = replay(sample, geometry, ColourChange(brightness=30.0, hue=20.0))
        assert torch.equal(coloured.image[..., :5], plainly.image[..., :5])
        assert not torch.equal(coloured.image[..., 5:25], plainly.image[..., 5:25])
        assert same(dataclasses.replace(coloured, image=plainly.image), plainly)
