"""Cityscapes in both layouts, read from miniature copies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.data.checks import check_samples
from diffusionmtl.data.cityscapes import CLASS_OF_ID, CLASSES, open_cityscapes
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Disparity
from tests.data import miniatures as m
from tests.data.miniatures import read


class TestArrays:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        return m.cityscapes_arrays(tmp_path / "cityscapes2")

    @pytest.mark.parametrize("classes", [2, 7, 19])
    def test_labels(self, root, classes):
        dataset = open_cityscapes(root.parent, "train", classes=classes)
        assert dataset.names == ("0", "1", "2")
        assert dataset.tasks[0].channels == classes == len(CLASSES[classes])
        check_samples(dataset, [dataset.annotated(i) for i in range(3)])
        label, known = read(dataset, "semseg")
        assert set(label[0, 5]) == {0, classes - 1} and not known[0].any() and known[1:].all()

    def test_what_is_called_depth_is_disparity(self, root):
        dataset = open_cityscapes(root, "val")
        assert isinstance(dataset.tasks[1], Disparity) and dataset.tasks[1].name == "depth"
        disparity, known = read(dataset, "depth")
        np.testing.assert_allclose(disparity[0][known], 0.4922, rtol=1e-6)
        assert not known[4].any() and known.sum() == known.size - m.SIZE[1]
        nearer = dataset.label(0, "depth")[0].zoomed(2.0).plain()
        np.testing.assert_allclose(nearer.numpy(), 2 * disparity)

    @pytest.mark.parametrize("folder", ["label_7", "depth", "image"])
    def test_a_file_is_missing_in_the_middle(self, root, folder):
        (root / "train" / folder / "1.npy").unlink()
        with pytest.raises(UserError, match=rf"train/{folder}/1\.npy: no such file.*Published by .*MTAN"):
            open_cityscapes(root, "train")

    def test_other_classes_than_announced(self, root):
        m.write_npy(root / "train" / "label_7" / "0.npy", np.full(m.SIZE, 18))
        with pytest.raises(UserError, match=r"label_7/0\.npy: value 18 is no class of task 'semseg' \(0 to 6\)"):
            open_cityscapes(root, "train").label(0, "semseg")


class TestOfficial:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        return m.cityscapes_official(tmp_path / "cityscapes")

    def test_images_of_all_cities(self, root):
        dataset = open_cityscapes(root, "train")
        assert dataset.names == ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313")
        check_samples(dataset, [dataset.annotated(i) for i in range(3)])
        expected = Image.open(root / "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit.png")
        assert np.array_equal(dataset.image(2).permute(1, 2, 0).numpy(), np.asarray(expected))
        assert len(open_cityscapes(root.parent, "val")) == 1

    def test_label_ids_become_classes(self, root):
        label, known = read(open_cityscapes(root, "train", classes=19), "semseg")
        names = {i: CLASSES[19][label.flat[i]] for i in range(34) if known.flat[i]}
        assert names[7] == "road" and names[21] == "vegetation" and names[26] == "car" and names[33] == "bicycle"
        assert names[17] == "pole" and names[24] == "person" and names[31] == "train"
        assert len(names) == len(set(names.values())) == 19
        label, known = read(open_cityscapes(root, "train"), "semseg")
        groups = {i: CLASSES[7][label.flat[i]] for i in range(34) if known.flat[i]}
        assert set(groups) == set(range(7, 34))
        assert [groups[i] for i in (7, 10, 11, 16, 17, 20, 21, 22, 23, 24, 25, 26, 33)] == (
            ["flat"] * 2 + ["construction"] * 2 + ["object"] * 2 + ["nature"] * 2 + ["sky"] + ["human"] * 2
        ) + ["vehicle"] * 2

    def test_the_classes_lie_within_the_categories(self):
        groups = {}
        for number, row in CLASS_OF_ID[19].items():
            groups.setdefault(CLASS_OF_ID[7][number], []).append(CLASSES[19][row])
        assert [len(groups[k]) for k in range(7)] == [2, 3, 3, 2, 1, 2, 6]

    def test_disparity_as_a_share_or_in_pixels(self, root):
        share, known = read(open_cityscapes(root, "train"), "depth")
        np.testing.assert_allclose(share[0, 2:], 32257 / 65535, rtol=1e-6)
        assert not known[0].any() and known[1:].all()
        pixels, known = read(open_cityscapes(root, "train", unit="pixels"), "depth")
        np.testing.assert_allclose(pixels[0, 2:], 126.0)
        assert not known[:2].any() and known[2:].all()

    @pytest.mark.parametrize(
        "file",
        [
            "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
            "disparity/train/aachen/aachen_000001_000019_disparity.png",
        ],
    )
    def test_a_file_is_missing_in_the_middle(self, root, file):
        (root / file).unlink()
        with pytest.raises(UserError, match=rf"{file}: no such file.*\(1 of 3 .*www\.cityscapes-dataset\.com"):
            open_cityscapes(root, "train")

    @pytest.mark.parametrize(
        ("file", "content", "task", "says"),
        [
            ("gtFine/{}_gtFine_labelIds.png", np.full(m.SIZE, 34, np.uint8), "semseg", "value 34 is no label id"),
            ("gtFine/{}_gtFine_labelIds.png", np.zeros((*m.SIZE, 3), np.uint8), "semseg", "found a colour picture"),
            ("disparity/{}_disparity.png", np.full(m.SIZE, 99, np.uint8), "depth", "a picture of 8 bits"),
            ("disparity/{}_disparity.png", np.full((24, 80), 999, np.uint16), "depth", "another aspect ratio"),
        ],
    )
    def test_what_a_picture_must_not_hold(self, root, file, content, task, says):
        folder, end = file.split("/")
        m.write_png(root / folder / "train" / "aachen" / end.format("aachen_000000_000019"), content)
        with pytest.raises(UserError, match=rf"aachen_000000_000019_.*\.png: .*{says}"):
            open_cityscapes(root, "train").label(0, task)

    def test_two_classes_exist_as_arrays_only(self, root):
        with pytest.raises(UserError, match="the official files have no 2 classes; take 7 or 19"):
            open_cityscapes(root, "train", classes=2)

    def test_a_split_without_images(self, root):
        for path in (root / "leftImg8bit" / "val").rglob("*.png"):
            path.unlink()
        with pytest.raises(UserError, match="leftImg8bit/val: no image; expected <city>/"):
            open_cityscapes(root, "val")


def test_a_folder_of_neither(tmp_path):
    with pytest.raises(UserError, match=r"found an empty folder\. Published by .*MTAN.*authors of Cityscapes"):
        open_cityscapes(tmp_path, "train")
    with pytest.raises(UserError, match="no split 'test'"):
        open_cityscapes(tmp_path, "test")
