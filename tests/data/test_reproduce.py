"""`--reproduce`: each thing that published code does by mistake, switched on and off."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusionmtl.build import build_dataset, build_training_data
from diffusionmtl.commands.train import config_text, train
from diffusionmtl.config import REPRODUCED, Settings, changed
from diffusionmtl.data.base import DenseDataset, read_sample
from diffusionmtl.data.collate import collate
from diffusionmtl.data.colour_jitter import ColourChange
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.loading import VisibleDataset
from diffusionmtl.data.partition import Partition
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.data.transforms import Augmentation, as_published, augment, draw_geometry, replay, settle_silent
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Disparity, SemanticSegmentation, Task, task_from_settings
from diffusionmtl.types import Sample
from tests.data import miniatures as m
from tests.runs import tiny
from tests.toy import ToyDataset

SIZE = (48, 64)
CROPS = Augmentation((16, 20), scale=(1.0, 1.0), flip=0.0, colour=None, crop_by="semseg", max_class_share=0.6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(x: Tensor) -> Tensor:
    return x.as_subclass(Tensor)


def same(a: Sample, b: Sample) -> bool:
    return torch.equal(a.image, b.image) and all(torch.equal(plain(a.labels[t]), plain(b.labels[t])) for t in a.labels)


def only(task: str, length: int = 1) -> Partition:
    return Partition({f"image {i}": frozenset({task}) for i in range(length)}, "by hand")


class TestTheCropThatLooksAtHiddenLabels:
    def views(self, published: bool) -> list[VisibleDataset]:
        """One data set, and another whose hidden segmentation shows a single class in all but the last columns."""
        a = dataclasses.replace(CROPS, published=published)
        return [VisibleDataset(d, only("depth", 3), a, seed=0) for d in (Toys(3), Toys(3, lopsided=True))]

    def test_off_hidden_labels_change_no_bit_and_are_not_opened(self):
        first, second = self.views(published=False)
        assert all(same(first[key], second[key]) for key in itertools.product(range(8), range(3)))
        assert {task for _, task in first.dataset.opened + second.dataset.opened} == {"depth"}

    def test_on_they_choose_the_crop_and_nothing_else(self):
        first, second = self.views(published=True)
        keys = list(itertools.product(range(8), range(3)))
        assert not all(same(first[key], second[key]) for key in keys)
        assert all(first[key].labels.keys() == {"depth"} == second[key].labels.keys() for key in keys)
        visible = VisibleDataset(Toys(3), only("semseg", 3), dataclasses.replace(CROPS, published=True), seed=0)
        assert all(torch.equal(first[key].image, visible[key].image) for key in keys)

    def test_on_without_an_annotation_there_is_nothing_to_look_at(self):
        toys = ToyDataset(1, sizes=(SIZE,), annotated={0: ["depth"]})
        on, off = (
            VisibleDataset(toys, only("depth"), dataclasses.replace(CROPS, published=p), seed=0) for p in (True, False)
        )
        assert all(same(on[epoch, 0], off[epoch, 0]) for epoch in range(5))


class Toys(ToyDataset):
    """Toys whose segmentation may be lopsided."""

    def __init__(self, length: int, lopsided: bool = False) -> None:
        super().__init__(length, sizes=(SIZE,))
        self.lopsided = lopsided

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        label, valid = super().label(index, task)
        if self.lopsided and task == "semseg":
            plain(label)[..., :-8] = 0
        return label, valid


class TestZoom:
    def drawn(self, published: bool):
        a = Augmentation((17, 29), scale=(0.5, 2.0), colour=None, flip=0.0, published=published)
        sample = read_sample(ToyDataset(1, sizes=((33, 47),)), 0, {"depth"})
        return [draw_geometry(sample, a, generator(seed)) for seed in range(20)]

    def test_by_the_drawn_factor_or_by_what_whole_pixels_made_of_it(self):
        off, on = self.drawn(published=False), self.drawn(published=True)
        factors = [0.5 + 1.5 * torch.rand(2, generator=generator(s), dtype=torch.float64)[0].item() for s in range(20)]
        assert [g.zoom for g in on] == pytest.approx(factors)
        assert [g.zoom for g in off] != pytest.approx(factors)
        assert [g.window for g in on] == [g.window for g in off]

    def test_disparity_is_divided_or_multiplied(self):
        task = Disparity("depth")
        value = torch.full((1, *SIZE), 0.2).as_subclass(task.label_type)
        valid = torch.ones(1, *SIZE, dtype=torch.bool).as_subclass(ValidMap)
        image = torch.zeros(3, *SIZE, dtype=torch.uint8)
        sample = Sample("a", 0, image, {"depth": value}, {"depth": valid})
        a = Augmentation(SIZE, scale=(2.0, 2.0), flip=0.0, colour=None)
        for published, expected in ((False, 0.4), (True, 0.1)):
            seen = augment(sample, dataclasses.replace(a, published=published), generator())
            torch.testing.assert_close(plain(seen.labels["depth"]), torch.full((1, *SIZE), expected))

    def test_a_thin_line_is_torn_or_stays(self):
        sample = read_sample(ToyDataset(1, sizes=(SIZE,)), 0, {"edge"})
        line = torch.zeros(1, *SIZE, dtype=torch.bool)
        line[:, 10] = True
        sample.labels["edge"].copy_(line)  # row 10 is not among those that nearest neighbour takes
        a = Augmentation(SIZE, scale=(0.5, 0.5), flip=0.0, colour=None)
        geometry = draw_geometry(sample, a, generator())
        assert plain(replay(sample, geometry, ColourChange()).labels["edge"]).any()
        assert not plain(replay(as_published(sample), geometry, ColourChange()).labels["edge"]).any()

    def test_other_labels_have_one_rule(self):
        sample = read_sample(ToyDataset(1, sizes=(SIZE,)), 0, {"semseg", "depth", "normals", "saliency"})
        assert as_published(sample).labels == sample.labels


class TestLabelsThatSayNothing:
    """A crop beside the person: body parts are unknown there, as the benchmark has it."""

    @pytest.fixture
    def dataset(self, tmp_path) -> PascalContext:
        return PascalContext.open(m.pascal_context(tmp_path / "PASCALContext"), "train")

    def sample(self, dataset: DenseDataset, published: bool, window: tuple[int, int]) -> Sample:
        """A fixed crop of the first image, 8 x 8 at `window`; its person stands at the left."""
        whole = read_sample(dataset, 0, {"human_parts", "sal"})
        top, left = window
        cut = {
            t: label[..., top : top + 8, left : left + 8].as_subclass(type(label)) for t, label in whole.labels.items()
        }
        seen = {t: label[..., top : top + 8, left : left + 8].as_subclass(ValidMap) for t, label in whole.valid.items()}
        small = Sample(whole.name, 0, whole.image[..., :8, :8], cut, seen)
        return settle_silent(small, dataset.foreground_only, published)

    def test_off_they_are_absent_and_count_for_nothing(self, dataset):
        sample = self.sample(dataset, published=False, window=(0, 24))
        assert sample.labels.keys() == sample.valid.keys() == {"sal"}
        assert collate([sample], dataset.tasks).pairs_per_image.tolist() == [1]

    def test_on_they_are_unknown_and_count(self, dataset):
        sample = self.sample(dataset, published=True, window=(0, 24))
        assert sample.labels.keys() == {"human_parts", "sal"}
        assert not plain(sample.valid["human_parts"]).any() and plain(sample.valid["sal"]).all()
        assert collate([sample], dataset.tasks).pairs_per_image.tolist() == [2]

    @pytest.mark.parametrize("published", [True, False])
    def test_where_a_person_is_background_counts(self, dataset, published):
        sample = self.sample(dataset, published, window=(0, 0))
        assert plain(sample.labels["human_parts"]).any() and plain(sample.valid["human_parts"]).all()

    @pytest.mark.parametrize("published", [True, False])
    def test_in_the_loader(self, dataset, published):
        """Image 1 shows nobody at all."""
        seen = Partition({name: frozenset({"human_parts", "sal"}) for name in dataset.names}, "by hand")
        a = Augmentation(m.SIZE, scale=(1.0, 1.0), colour=None, published=published)
        view = VisibleDataset(dataset, seen, a, seed=0)
        assert ("human_parts" in view[0, 1].labels) == published
        assert "human_parts" in view[0, 0].labels

    def test_any_label_that_is_valid_nowhere(self):
        toys = ToyDataset(1, sizes=(SIZE,), invalid=SIZE[1])
        for published, left in ((False, set()), (True, {"depth"})):
            view = VisibleDataset(toys, only("depth"), dataclasses.replace(CROPS, published=published), seed=0)
            assert view[0, 0].labels.keys() == left
            batch = collate([view[0, 0]], toys.tasks)
            assert batch.pairs_per_image.tolist() == [len(left)]

    def test_the_rule_is_the_benchmarks_own(self, dataset, tmp_path):
        """In rooms and in folders a label without a person says that there is none."""
        assert ToyDataset(1).foreground_only == frozenset()
        assert SelectedTasks(dataset, ["human_parts"]).foreground_only == {"human_parts"}
        assert SelectedTasks(dataset, ["sal"]).foreground_only == frozenset()
        assert JoinedDataset([dataset, ToyDataset(1)]).foreground_only == {"human_parts"}

        class People(ToyDataset):
            tasks: tuple[Task, ...]

            def __init__(self, classes: tuple[str, ...]) -> None:
                super().__init__(1)
                self.tasks = (SemanticSegmentation("human_parts", classes),)

        parts = next(task for task in dataset.tasks if task.name == "human_parts")
        assert isinstance(parts, SemanticSegmentation)
        assert JoinedDataset([dataset, People(parts.classes)]).foreground_only == frozenset()
        assert JoinedDataset([dataset, People(("a", "b"))]).foreground_only == {"human_parts_pascal-context"}


class TestTheHeadlineOfSaliency:
    @pytest.mark.parametrize("reproduce", [True, False])
    def test_comes_first_and_is_remembered(self, reproduce):
        tasks = build_dataset(changed(tiny(), reproduce=reproduce).data, "train").tasks
        saliency = next(task for task in tasks if task.kind == "saliency")
        expected = "maxF@published" if reproduce else "maxF@pooled19"
        assert saliency.headline == expected
        meter = saliency.meter()
        probability = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
        truth = probability > 0.9  # above the last threshold that the published squash leaves
        meter.update(torch.cat([1 - probability, probability], 1), truth, torch.ones(1, 8, 8, dtype=torch.bool))
        figures = meter.compute()
        assert next(iter(figures)) == expected and figures["maxF@published"] != figures["maxF@pooled19"]
        assert meter.headline(meter.statistics()[None]).item() == pytest.approx(figures[expected])
        assert task_from_settings("saliency", saliency.settings(), "here") == saliency

    def test_another_word_is_refused(self):
        with pytest.raises(UserError, match="protocol must be"):
            task_from_settings("sal", {"kind": "saliency", "protocol": "best"}, "here")


class TestTheSwitch:
    def test_reaches_both_loaders(self):
        settings = changed(tiny(), reproduce=True, holdout=0.3)
        dataset = build_dataset(settings.data, "train")
        full = Partition({name: dataset.annotated(i) for i, name in enumerate(dataset.names)}, "full")
        data = build_training_data(settings, dataset, full)
        assert data.dev is not None
        for loader in (data.train, data.dev):
            view = loader.dataset.dataset  # pyright: ignore[reportAttributeAccessIssue]
            assert view.augmentation.published and view.augmentation.pad == "centre"

    def test_is_off_by_default_and_said_in_the_file_where_it_is_on(self):
        assert not Settings().data.reproduce
        assert REPRODUCED not in config_text(Settings(), ToyDataset(1).tasks)
        text = config_text(changed(Settings(), reproduce=True), ToyDataset(1).tasks)
        assert f"# reproduce: {REPRODUCED}\n" in text and "\nreproduce: true\n" in text

    @pytest.mark.slow
    def test_a_run_says_so(self, tmp_path: Path, capsys):
        train(changed(tiny(), reproduce=True), tmp_path / "run", progress=False)
        assert f"reproduce: {REPRODUCED}\n" in capsys.readouterr().out
