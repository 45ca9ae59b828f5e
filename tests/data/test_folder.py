"""Partly labelled folders: what is found, what is read, and what becomes of labels of another size."""

import os
import pickle

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffusionmtl import files
from diffusionmtl.data.base import read_sample
from diffusionmtl.data.checks import check_samples, check_tasks_labelled
from diffusionmtl.data.folder import FolderDataset, dataset_splits, dataset_tasks, write_dataset_yaml
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals

TASKS = (
    SemanticSegmentation("semseg", classes=("road", "car", "sky")),
    Depth("depth"),
    SurfaceNormals("normals", frame="opencv"),
    Saliency("saliency", ignore=100),
    Boundary("edge"),
)
H, W = 6, 8


def picture(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def array(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def colours(height=H, width=W, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "kitchen"
    write_dataset_yaml(root, TASKS)
    for i, name in enumerate(("a", "b", "c")):
        picture(root / "train/images" / f"{name}.png", colours(seed=i))
    return root


def test_a_missing_file_is_a_missing_label(root):
    picture(root / "train/semseg/a.png", np.ones((H, W), np.uint8))
    array(root / "train/depth/c.npy", np.full((H, W), 2.5, np.float32))
    data = FolderDataset.open(root, "train")
    assert (data.name, data.names, len(data)) == ("kitchen", ("a", "b", "c"), 3)
    assert data.tasks == TASKS
    assert [data.annotated(i) for i in range(3)] == [{"semseg"}, frozenset(), {"depth"}]
    sample = read_sample(data, 2, data.annotated(2))
    assert torch.equal(sample.image, torch.from_numpy(colours(seed=2)).permute(2, 0, 1))
    assert list(sample.labels) == ["depth"]
    assert torch.equal(sample.labels["depth"].as_subclass(torch.Tensor), torch.full((1, H, W), 2.5))


def test_a_hidden_label_is_not_opened(root):
    (root / "train/semseg").mkdir()
    (root / "train/semseg/a.png").write_bytes(b"not a picture")
    data = FolderDataset.open(root, "train")
    assert data.annotated(0) == {"semseg"}
    assert read_sample(data, 0, frozenset()).labels == {}


def test_a_data_set_travels_to_another_process(root):
    picture(root / "train/semseg/a.png", np.ones((H, W), np.uint8))
    data = pickle.loads(pickle.dumps(FolderDataset.open(root, "train")))
    assert torch.equal(data.label(0, "semseg")[0].as_subclass(torch.Tensor), torch.ones(1, H, W, dtype=torch.uint8))


def test_images_of_every_suffix_and_nothing_else(root):
    folder = root / "train/images"
    for suffix in ("jpg", "JPEG", "webp", "tif"):
        picture(folder / f"of-{suffix}.{suffix}", colours())
    for name in (".hidden.png", "Thumbs.db", "notes.txt", "._a.png", "no-suffix"):
        (folder / name).write_bytes(b"x")
    assert FolderDataset.open(root, "train").names == ("a", "b", "c", "of-JPEG", "of-jpg", "of-tif", "of-webp")


def test_folders_in_folders_are_part_of_the_name(root):
    picture(root / "train/images/day/1/x.y.png", colours())
    picture(root / "train/semseg/day/1/x.y.PNG", np.full((H, W), 2, np.uint8))
    picture(root / "train/images/.cache/x.png", colours())
    data = FolderDataset.open(root, "train")
    assert data.names == ("a", "b", "c", "day/1/x.y")
    assert data.annotated(3) == {"semseg"}
    assert int(data.label(3, "semseg")[0].max()) == 2


def test_of_two_label_files_the_suffix_that_the_task_names_first_counts(root):
    array(root / "train/depth/a.npy", np.full((H, W), 1.0))
    picture(root / "train/depth/a.png", np.full((H, W), 9000, np.uint16))
    array(root / "train/semseg/a.npy", np.full((H, W), 1))
    picture(root / "train/semseg/a.png", np.full((H, W), 2, np.uint8))
    data = FolderDataset.open(root, "train")
    assert float(data.label(0, "depth")[0].max()) == 1.0  # .npy first
    assert int(data.label(0, "semseg")[0].max()) == 2  # .png first


def test_an_upper_case_npy_is_an_array(root):
    values = np.linspace(1, 2, H * W, dtype=np.float32).reshape(H, W)
    array(root / "train/depth/a.npy", values).rename(root / "train/depth/a.NPY")
    assert np.array_equal(FolderDataset.open(root, "train").label(0, "depth")[0][0], values)


def test_a_turned_photograph_is_read_upright_and_so_are_its_labels(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: stored lying, to be turned clockwise
    lying = colours()
    picture(root / "train/images/turned.png", lying, exif=exif)
    picture(root / "train/semseg/turned.png", np.zeros((W, H), np.uint8))
    data = FolderDataset.open(root, "train")
    index = data.names.index("turned")
    assert data.size(index) == (W, H)  # from the header
    assert np.array_equal(data.image(index).permute(1, 2, 0), np.rot90(lying, -1))
    assert data.label(index, "semseg")[0].shape == (1, W, H)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_in_the_header_is_the_size_of_the_picture(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture(tmp_path / f"x.{suffix}", colours(), exif=exif)
    assert files.image_size(path) == files.read_image(path).shape[:2] == ((W, H) if orientation > 4 else (H, W))


def test_palette_pictures_are_indices(root):
    indexed = Image.fromarray(np.tile(np.arange(W, dtype=np.uint8) % 3, (H, 1)))
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    (root / "train/semseg").mkdir()
    indexed.save(root / "train/semseg/a.png")
    label, valid = FolderDataset.open(root, "train").label(0, "semseg")
    assert label[0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert bool(valid.all())


@pytest.mark.parametrize("factor", [0.5, 3])
def test_labels_of_another_size_are_resized_by_their_own_rule(root, factor):
    height, width = int(H * factor), int(W * factor)
    rng = np.random.default_rng(0)
    metres = rng.uniform(1, 5, (height, width)).astype(np.float32)
    metres[0, 0] = 0
    classes = rng.integers(0, 3, (height, width), dtype=np.uint8)
    line = np.zeros((height, width), np.uint8)
    line[:, width // 2] = 255
    array(root / "train/depth/a.npy", metres)
    picture(root / "train/semseg/a.png", classes)
    picture(root / "train/edge/a.png", line)
    data = FolderDataset.open(root, "train")
    for task in ("depth", "semseg", "edge"):
        label, valid = data.label(0, task)
        assert label.shape == valid.shape == (1, H, W)
        assert type(label) is next(t for t in TASKS if t.name == task).label_type
    rows = ((np.arange(H) + 0.5) * factor).astype(int)
    columns = ((np.arange(W) + 0.5) * factor).astype(int)
    label, valid = data.label(0, "depth")
    assert np.array_equal(label[0], metres[np.ix_(rows, columns)])  # never blended
    assert np.array_equal(valid[0], metres[np.ix_(rows, columns)] > 0)
    assert np.array_equal(data.label(0, "semseg")[0][0], classes[np.ix_(rows, columns)])
    assert bool(data.label(0, "edge")[0].any(dim=2).all())  # no line is lost


def test_a_ratio_within_two_percent_is_rounding(root):
    picture(root / "train/images/wide.png", colours(100, 150))
    picture(root / "train/semseg/wide.png", np.zeros((50, 76), np.uint8))
    picture(root / "train/saliency/wide.png", np.zeros((50, 77), np.uint8))
    data = FolderDataset.open(root, "train")
    index = data.names.index("wide")
    assert data.label(index, "semseg")[0].shape == (1, 100, 150)
    with pytest.raises(UserError, match="another aspect ratio"):
        data.label(index, "saliency")


def test_what_is_named_wrongly_can_be_asked_for(root):
    picture(root / "train/semseg/z.png", np.zeros((H, W), np.uint8))
    (root / "train/semseg/a.exr").write_bytes(b"x")
    (root / "train/masks").mkdir()
    (root / "train/.git").mkdir()
    data = FolderDataset.open(root, "train")
    assert data.orphans() == [root / "train/semseg/z.png"]
    assert data.unusable_labels() == [root / "train/semseg/a.exr"]
    assert data.undeclared_folders() == [root / "train/masks"]
    assert data.annotated(0) == frozenset()


def test_links_inside_the_folder_are_followed_once(root):
    os.symlink(root / "train/images/a.png", root / "train/images/d.png")
    os.symlink(root / "train/images", root / "train/images/again")
    (root / "val").mkdir()
    os.symlink(root / "train/images", root / "val/images")
    assert FolderDataset.open(root, "train").names == ("a", "b", "c", "d")
    assert FolderDataset.open(root, "val").names == ("a", "b", "c", "d")


def test_the_data_set_itself_may_be_a_link(root, tmp_path):
    os.symlink(root, tmp_path / "link")
    data = FolderDataset.open(tmp_path / "link", "train")
    assert (data.name, len(data)) == ("kitchen", 3)


def test_tasks_come_back_from_their_description(root):
    assert dataset_tasks(root) == TASKS
    assert list(yaml.safe_load((root / "dataset.yaml").read_text())["tasks"]) == [task.name for task in TASKS]


def test_splits_are_the_folders_with_images(root):
    (root / "val/images").mkdir(parents=True)
    (root / "docs").mkdir()
    assert dataset_splits(root) == ("train", "val")


def test_checking_reads_what_may_be_seen_and_nothing_else(root):
    array(root / "train/depth/a.npy", np.ones((H, W)))
    (root / "train/depth/b.npy").write_bytes(b"damaged")
    data = FolderDataset.open(root, "train")
    told = []
    check_samples(data, [{"depth"}, frozenset(), frozenset()], lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(UserError, match=r"depth/b\.npy"):
        check_samples(data, [{"depth"}, {"depth"}, frozenset()])


def test_what_looks_wrong_about_all_labels_of_a_task_is_told(root):
    for name, metres in (("a", 2.0), ("b", 0.01)):
        array(root / f"train/depth/{name}.npy", np.full((H, W), metres))
    data = FolderDataset.open(root, "train")
    assert check_samples(data, [{"depth"}, frozenset(), frozenset()]) == []
    (doubt,) = check_samples(data, [frozenset(), {"depth"}, frozenset()])
    assert doubt.startswith("task 'depth': median depth of 0.01 m: wrong unit?")


@pytest.mark.parametrize("size, said", [((64, 96), "--size 96 64 fits"), ((96, 64), None), (None, None)])
def test_images_that_lie_the_other_way_round_are_told_of(root, size, said):
    for path in (root / "train/images").iterdir():
        Image.new("RGB", (40, 60)).save(path)
    array(root / "train/depth/a.npy", np.ones((60, 40)))
    doubts = check_samples(FolderDataset.open(root, "train"), [{"depth"}, frozenset(), frozenset()], fitted=size)
    assert [said in doubt for doubt in doubts] == ([True] if said else [])


def test_one_known_pixel_is_enough_to_learn_from(root):
    nothing = np.zeros((H, W))
    array(root / "train/depth/a.npy", nothing)
    array(root / "train/depth/b.npy", np.where(np.arange(H * W).reshape(H, W) == 5, 3.0, np.nan))
    data = FolderDataset.open(root, "train")
    check_samples(data, [{"depth"}, {"depth"}, frozenset()])
    with pytest.raises(UserError, match="task 'depth': every label is unknown everywhere"):
        check_samples(data, [{"depth"}, frozenset(), frozenset()])


@pytest.mark.parametrize("name", ["people", "streets"])
def test_real_folders_open_and_read(shared_data_dir, name):
    root = shared_data_dir / name
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    for split in dataset_splits(root):
        data = FolderDataset.open(root, split)
        check_tasks_labelled(data)
        assert data.orphans() == data.unusable_labels() == []
        sample = read_sample(data, len(data) // 2, data.annotated(len(data) // 2))
        for label in sample.labels.values():
            assert label.shape[-2:] == sample.image.shape[-2:]
