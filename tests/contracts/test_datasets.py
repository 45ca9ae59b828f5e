"""Every data set is asked the same: names, sizes, types and ranges, and the same answer every time."""

import pickle

import pytest
import torch
from torch import Tensor

from diffusionmtl.data.base import DenseDataset, read_sample
from diffusionmtl.data.cityscapes import open_cityscapes
from diffusionmtl.data.collate import collate
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.nyud import open_nyud
from diffusionmtl.data.pack import Split, pack
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.data.rooms.dataset import RoomsDataset
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.data.shards import ShardsDataset
from diffusionmtl.files import read_image
from diffusionmtl.labels import ValidMap
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals
from tests.data import miniatures
from tests.toy import ToyDataset

SIZE = (24, 32)
PARTLY = {0: ["semseg"], 1: ["depth", "normals"], 2: [], 3: ["edge", "saliency"]}
PUBLISHED = ("pascal-context", "nyud-arrays", "nyud-pictures", "cityscapes-arrays", "cityscapes-official")
KINDS = ("toy", "folder", "shards", "joined", "rooms", "selected", *PUBLISHED)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> dict[str, DenseDataset]:
    root = tmp_path_factory.mktemp("data")
    toy = ToyDataset(length=5, annotated=PARTLY)
    export_folder(root / "folder", {"train": toy})
    folder = FolderDataset.open(root / "folder", "train")
    pack(root / "shards", {"train": Split(toy)}, "shards", 2)
    rooms = RoomsDataset.open("train", 2, SIZE, cache=root / "cache")
    return {
        "toy": toy,
        "folder": folder,
        "shards": ShardsDataset.open(root / "shards", "train"),
        "joined": JoinedDataset([folder, SelectedTasks(rooms, ["human_parts"]), ToyDataset(length=2)]),
        "rooms": rooms,
        "selected": SelectedTasks(toy, ["depth", "edge"]),
        "pascal-context": PascalContext.open(miniatures.pascal_context(root / "PASCALContext"), "train"),
        "nyud-arrays": open_nyud(miniatures.nyud_arrays(root / "nyud-arrays"), "train"),
        "nyud-pictures": open_nyud(miniatures.nyud_pictures(root / "nyud-pictures"), "train"),
        "cityscapes-arrays": open_cityscapes(miniatures.cityscapes_arrays(root / "cityscapes-arrays"), "train"),
        "cityscapes-official": open_cityscapes(miniatures.cityscapes_official(root / "cityscapes-official"), "val"),
    }


@pytest.fixture(params=KINDS)
def dataset(request, datasets) -> DenseDataset:
    return datasets[request.param]


def pairs(dataset: DenseDataset):
    """Every (index, task) whose annotation says something."""
    return [(i, task) for i in range(len(dataset)) for task in dataset.tasks if task.name in dataset.informative(i)]


def test_names_are_unique_and_words(dataset):
    assert dataset.name and len(dataset) == len(dataset.names) > 0
    assert len(set(dataset.names)) == len(dataset)
    assert all(name == name.strip() and "\n" not in name and name for name in dataset.names)
    names = [task.name for task in dataset.tasks]
    assert names and len(set(names)) == len(names)


def test_an_image_is_annotated_for_tasks_of_the_set(dataset):
    names = {task.name for task in dataset.tasks}
    assert all(dataset.informative(i) <= dataset.annotated(i) <= names for i in range(len(dataset)))
    assert all(dataset.counted(i) <= dataset.annotated(i) for i in range(len(dataset)))
    assert pairs(dataset)


def test_images_are_bytes(dataset):
    for i in range(len(dataset)):
        image = dataset.image(i)
        assert type(image) is Tensor and image.dtype == torch.uint8
        assert image.shape == (3, *SIZE) and len(image.unique()) > 1


def test_a_label_is_as_its_task_says_and_as_large_as_its_image(dataset):
    for i, task in pairs(dataset):
        label, valid = dataset.label(i, task.name)
        assert type(label) is task.label_type and type(valid) is ValidMap
        assert label.dtype == task.label_dtype and valid.dtype == torch.bool
        assert label.shape == (task.label_channels, *dataset.image(i).shape[1:])
        assert valid.shape == (1, *dataset.image(i).shape[1:]) and bool(valid.any())


def test_valid_values_are_in_range(dataset):
    for i, task in pairs(dataset):
        label, valid = dataset.label(i, task.name)
        seen = label.plain()[:, valid.plain()[0]]
        if isinstance(task, SemanticSegmentation):
            assert int(seen.max()) < task.channels
        elif isinstance(task, Depth):
            assert bool(torch.isfinite(seen).all()) and float(seen.min()) > 0 and float(seen.max()) < task.limit
        elif isinstance(task, SurfaceNormals):
            torch.testing.assert_close(seen.norm(dim=0), torch.ones(seen.shape[1]))
        else:
            assert seen.dtype == torch.bool


def test_a_file_as_it_lies_there_is_what_its_task_reads(dataset, tmp_path):
    found = 0
    for i, task in [*pairs(dataset), *((i, None) for i in range(len(dataset)))]:
        file = dataset.stored(i, None if task is None else task.name)
        if file is None:
            continue
        path = tmp_path / f"{found}{file.suffix}"
        path.write_bytes(file.data)
        found += 1
        if task is None:
            assert torch.equal(torch.from_numpy(read_image(path).copy()).permute(2, 0, 1), dataset.image(i))
        else:
            for one, other in zip(task.read(path), dataset.label(i, task.name), strict=True):
                assert torch.equal(one.plain(), other.plain())
    assert found or dataset.stored(0, None) is None


def test_reading_twice_gives_the_same(dataset):
    for i in range(len(dataset)):
        assert torch.equal(dataset.image(i), dataset.image(i))
    for i, task in pairs(dataset):
        for one, other in zip(dataset.label(i, task.name), dataset.label(i, task.name), strict=True):
            assert torch.equal(one.plain(), other.plain())


def test_who_changes_what_he_was_given_changes_nobody_elses(dataset):
    i, task = pairs(dataset)[0]
    before = dataset.image(i).clone(), *(x.plain().clone() for x in dataset.label(i, task.name))
    dataset.image(i).zero_()
    for x in dataset.label(i, task.name):
        x.plain().zero_()
    after = dataset.image(i), *(x.plain() for x in dataset.label(i, task.name))
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_another_process_reads_the_same(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.names == dataset.names and copy.tasks == dataset.tasks
    i, task = pairs(dataset)[-1]
    assert torch.equal(copy.image(i), dataset.image(i))
    assert torch.equal(copy.label(i, task.name)[0].plain(), dataset.label(i, task.name)[0].plain())


def test_a_sample_holds_what_is_visible_and_nothing_else(dataset):
    i, task = pairs(dataset)[0]
    sample = read_sample(dataset, i, {task.name})
    assert sample.name == dataset.names[i] and sample.index == i
    assert set(sample.labels) == set(sample.valid) == {task.name}
    assert read_sample(dataset, i, frozenset()).labels == {}


def test_samples_become_a_batch(dataset):
    samples = [read_sample(dataset, i, dataset.annotated(i)) for i in range(len(dataset))]
    batch = collate(samples, dataset.tasks)
    assert list(batch.labels) == [task.name for task in dataset.tasks]
    assert batch.pairs_per_image.tolist() == [len(dataset.annotated(i)) for i in range(len(dataset))]
    for task in dataset.tasks:
        annotated = [i for i in range(len(dataset)) if task.name in dataset.annotated(i)]
        assert batch.labels[task.name].rows.tolist() == annotated
