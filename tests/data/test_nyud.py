"""NYUD-v2 in both layouts, read from miniature copies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.data.checks import check_samples
from diffusionmtl.data.nyud import CLASSES_40, open_nyud
from diffusionmtl.errors import UserError
from diffusionmtl.tasks.published import NYUD_CLASSES
from tests.data import miniatures as m
from tests.data.miniatures import read


class TestArrays:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        return m.nyud_arrays(tmp_path / "nyuv2")

    def test_names_are_the_numbers_of_the_files(self, tmp_path):
        dataset = open_nyud(m.nyud_arrays(tmp_path, counts=(12, 1)), "train")
        assert dataset.names == tuple(str(i) for i in range(12))
        assert [task.name for task in dataset.tasks] == ["semseg", "depth", "normals"]
        assert len(open_nyud(tmp_path, "val")) == 1

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_labels(self, tmp_path, dtype):
        dataset = open_nyud(m.nyud_arrays(tmp_path, dtype=dtype), "train")
        check_samples(dataset, [dataset.annotated(i) for i in range(3)])
        classes, known = read(dataset, "semseg", 2)
        assert [NYUD_CLASSES[i] for i in classes[0, 5, [5, 20]]] == ["ceiling", "window"]
        assert not known[0].any() and known[1:].all()
        metres, known = read(dataset, "depth")
        assert (metres[0][known] == 2.5).all() and not known[4].any() and known[5:].all()
        normals, known = read(dataset, "normals")
        np.testing.assert_allclose(normals[:, 5, 5], [0.6, 0, 0.8], atol=1e-3)
        assert (~known).sum() == 4

    @pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
    def test_classes_of_any_number_type(self, root, dtype):
        m.write_npy(root / "train" / "label" / "0.npy", np.full((*m.SIZE, 1), -1, dtype))
        assert not read(open_nyud(root, "train"), "semseg")[1].any()

    def test_images_become_bytes(self, root):
        stored = np.load(root / "train" / "image" / "1.npy")
        image = open_nyud(root, "train").image(1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(image / 255, stored, atol=0.5 / 255 + 1e-6)
        m.write_npy(root / "train" / "image" / "1.npy", image)
        assert np.array_equal(open_nyud(root, "train").image(1).permute(1, 2, 0).numpy(), image)

    def test_the_folder_above_will_do(self, root):
        assert len(open_nyud(root.parent, "train")) == 3

    @pytest.mark.parametrize("folder", ["label", "depth", "normal", "image"])
    def test_a_file_is_missing_in_the_middle(self, root, folder):
        (root / "train" / folder / "1.npy").unlink()
        with pytest.raises(UserError, match=rf"train/{folder}/1\.npy: no such file, .*\(1 of 3 .*Published by .*MTAN"):
            open_nyud(root, "train")

    def test_labels_of_tasks_that_nobody_asks_for_may_be_missing(self, root):
        (root / "train" / "normal" / "1.npy").unlink()
        assert [task.name for task in open_nyud(root, "train", tasks=["depth"]).tasks] == ["depth"]

    @pytest.mark.parametrize(
        ("file", "content", "task", "says"),
        [
            ("label", np.full(m.SIZE, 13), "semseg", r"value 13 is no class of task 'semseg' \(0 to 12\)"),
            ("label", np.full(m.SIZE, -2), "semseg", "value -2 is no class"),
            ("label", np.full(m.SIZE, 255), "semseg", "value 255 is no class"),
            ("label", np.full(m.SIZE, 0.5), "semseg", "no whole numbers"),
            ("label", np.full(m.SIZE, np.nan), "semseg", "no whole numbers"),
            ("label", np.zeros((*m.SIZE, 3)), "semseg", r"needs shape \[H W\], found 24x32x3"),
            ("depth", np.ones((*m.SIZE, 2)), "depth", "depth needs one number per pixel, found shape 24x32x2"),
            ("depth", np.full(m.SIZE, 4000.0), "depth", "depth of 4000 m"),
            ("normal", np.ones(m.SIZE), "normals", "normals need three numbers"),
            ("depth", np.ones((32, 24)), "depth", "the label is 32x24 and its image 24x32 .* another aspect ratio"),
            ("image", np.zeros(m.SIZE), None, r"an image needs shape \[H W 3\], found 24x32"),
            ("image", np.full((*m.SIZE, 3), 200.0), None, "image values from 200 to 200, expected 0 to 1"),
            ("image", np.full((*m.SIZE, 3), np.nan), None, "image values from nan"),
            ("image", np.array({"a": 1}, dtype=object), None, "holds object, not plain numbers"),
        ],
    )
    def test_what_an_array_must_not_hold(self, root, file, content, task, says):
        m.write_npy(root / "train" / file / "0.npy", content)
        dataset = open_nyud(root, "train")
        with pytest.raises(UserError, match=rf"0\.npy: .*{says}") as error:
            dataset.image(0) if task is None else dataset.label(0, task)
        assert "\n" not in str(error.value)

    def test_numbers_with_large_holes(self, root):
        (root / "train" / "image" / "0.npy").rename(root / "train" / "image" / "9.npy")
        with pytest.raises(UserError, match="3 files but one is numbered 9; numbers start at 0"):
            open_nyud(root, "train")

    def test_a_split_without_images(self, root):
        for path in (root / "val" / "image").iterdir():
            path.unlink()
        with pytest.raises(UserError, match=r"val/image: expected numbered files, 0\.npy"):
            open_nyud(root, "val")


class TestPictures:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        return m.nyud_pictures(tmp_path / "NYUDv2")

    def test_labels(self, root):
        dataset = open_nyud(root, "val")
        assert dataset.names == ("img_0004", "img_0005")
        assert [task.name for task in dataset.tasks] == ["semseg", "depth", "normals", "edge"]
        check_samples(dataset, [dataset.annotated(i) for i in range(2)])
        expected = np.asarray(Image.open(root / "images" / "img_0004.png"))
        assert np.array_equal(dataset.image(0).permute(1, 2, 0).numpy(), expected)
        classes, known = read(dataset, "semseg")
        assert [CLASSES_40[i] for i in classes[0, 5, [5, 20]]] == ["wall", "other prop"]
        assert not known[0].any() and known[1:].all()
        assert (read(dataset, "depth")[0] == 3.25).all()
        np.testing.assert_allclose(read(dataset, "normals")[0][:, 5, 5], [0.6, 0, 0.8], atol=0.01)
        edge, _ = read(dataset, "edge")
        assert edge[0, :, 7].all() and edge.sum() == m.SIZE[0]

    def test_forty_names(self):
        assert len(set(CLASSES_40)) == 40

    @pytest.mark.parametrize("file", ["images/img_0002.png", "depth/img_0002.npy", "edge/img_0002.png"])
    def test_a_file_is_missing_in_the_middle(self, root, file):
        (root / file).unlink()
        with pytest.raises(UserError, match=rf"{file}: no such file.*\(1 of 3 are missing\).*ATRC"):
            open_nyud(root, "train")

    def test_classes_beyond_forty_and_colours(self, root):
        m.write_png(root / "segmentation" / "img_0001.png", np.full(m.SIZE, 41, np.uint8))
        m.write_png(root / "segmentation" / "img_0002.png", np.zeros((*m.SIZE, 3), np.uint8))
        dataset = open_nyud(root, "train")
        with pytest.raises(UserError, match=r"img_0001\.png: value 40 is no class of task 'semseg' \(0 to 39\)"):
            dataset.label(0, "semseg")
        with pytest.raises(UserError, match=r"img_0002\.png: .* found a colour picture"):
            dataset.label(1, "semseg")


def test_a_folder_of_neither(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"expected train/image.*; found train\. Published by .*MTAN.*ATRC"):
        open_nyud(tmp_path, "train")
    with pytest.raises(UserError, match="no split 'test'"):
        open_nyud(tmp_path, "test")
