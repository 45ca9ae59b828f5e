"""What people get wrong in a data set: each is one line that names the file, what is wrong and what to do."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffusionmtl import files
from diffusionmtl.data.base import read_sample
from diffusionmtl.data.checks import check_samples, check_tasks_labelled
from diffusionmtl.data.folder import FolderDataset, dataset_tasks, write_dataset_yaml
from diffusionmtl.data.inspect import inspect
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals

TASKS = (SemanticSegmentation("semseg", classes=("road", "car")), Depth("depth"), SurfaceNormals("normals"))
H, W = 4, 6


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path):
    """Two images with every label, as it should be."""
    root = tmp_path / "set"
    write_dataset_yaml(root, TASKS)
    for name in ("a", "b"):
        save(root / f"train/images/{name}.png", np.zeros((H, W, 3), np.uint8))
        save(root / f"train/semseg/{name}.png", np.zeros((H, W), np.uint8))
        save(root / f"train/depth/{name}.npy", np.ones((H, W), np.float32))
        save(root / f"train/normals/{name}.npy", np.tile([0.0, 0.0, 1.0], (H, W, 1)))
    return root


def refused(message, call, *arguments):
    """Expect a UserError of one line that matches."""
    with pytest.raises(UserError, match=message) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


def opened(root, split="train"):
    return FolderDataset.open(root, split)


def read_everything(root):
    """What training does before it starts."""
    data = opened(root)
    check_tasks_labelled(data)
    return check_samples(data, [data.annotated(i) for i in range(len(data))])


def test_a_good_folder_is_neither_refused_nor_doubted(root):
    save(root / "train/semseg/a.png", np.ones((H, W), np.uint8))
    assert read_everything(root) == []


class TestFolders:
    def test_missing(self, tmp_path):
        refused(r"nowhere: no such folder; a data set is a folder with dataset\.yaml", opened, tmp_path / "nowhere")

    def test_a_file(self, tmp_path):
        (tmp_path / "file").write_text("x")
        refused(r"file: is a file, a folder was expected", opened, tmp_path / "file")

    def test_empty(self, tmp_path):
        refused(
            r"is empty; a data set is a folder with dataset\.yaml, <split>/images and <split>/<task>", opened, tmp_path
        )

    def test_one_split_instead_of_the_folder_above(self, root):
        refused(r"train looks like one split of a data set; name the folder above it", opened, root / "train")

    def test_without_images(self, root):
        (root / "val/images").mkdir(parents=True)
        (root / "val/images/readme.txt").write_text("x")
        refused(r"val/images: no images in it; put jpg, jpeg, png, webp, tif, tiff files there", opened, root, "val")

    @pytest.mark.parametrize("split", ["vla", "../set/train", "", "train/images"])
    def test_a_split_that_is_not_there(self, root, split):
        (root / "val/images").mkdir(parents=True)
        refused(r"set: no split '.*' \(a folder .*/images\); it has: train, val\.", opened, root, split)

    def test_a_near_miss_of_a_split(self, root):
        refused(r"no split 'trian'.* Did you mean 'train'\?", opened, root, "trian")

    def test_two_images_of_one_name(self, root):
        save(root / "train/images/a.tif", np.zeros((H, W, 3), np.uint8))
        refused(r"images: two images are named 'a': a\.png and a\.tif; .*rename or remove one", opened, root)

    def test_a_task_without_any_label(self, root):
        for name in ("a", "b"):
            (root / f"train/depth/{name}.npy").unlink()
        data = opened(root)  # looking is allowed, training is not
        refused(
            r"set: task 'depth' has no label for any of 2 images; add files such as depth/a\.npy or take the task out",
            lambda: check_tasks_labelled(data),
        )

    def test_a_file_where_the_labels_should_be(self, root):
        (root / "train/edge").write_text("x")
        (root / "dataset.yaml").write_text("tasks: {edge: {kind: boundary}}")
        refused(r"train/edge: is a file, a folder of labels was expected", opened, root)

    @pytest.mark.parametrize(
        "what", ["train/images/x.png", "train/depth/a.png", "train/images/more", "train/edge", "val"]
    )
    def test_a_link_out_of_the_folder(self, root, tmp_path, what):
        outside = tmp_path / "outside"
        save(outside / "images/x.png", np.zeros((H, W, 3), np.uint8))
        (root / "dataset.yaml").write_text("tasks: {depth: {kind: depth}, edge: {kind: boundary}}")
        os.symlink(outside / "images/x.png" if what.endswith("png") else outside, root / what)
        refused(
            rf"{what}.*: a link that leads out of the data set to .*outside.*; copy what it points to into .*set",
            opened,
            root,
            "val" if what == "val" else "train",
        )

    def test_a_link_to_nothing(self, root):
        os.symlink(root / "train/images/gone.png", root / "train/images/c.png")
        refused(r"images/c\.png: a link to nothing; mend or remove it", opened, root)


class TestDescription:
    def test_missing_says_what_a_minimal_one_would_be(self, root):
        (root / "dataset.yaml").unlink()
        save(root / "train/odd/a.png", np.eye(H, W, dtype=np.uint8) * 255)
        save(root / "train/person_mask/a.png", np.repeat(np.uint8([[0], [255]]), H // 2, 0).repeat(W, 1))
        save(root / "train/things/a.png", np.full((H, W), 3, np.uint8))
        save(root / "train/far/a.npy", np.ones((H, W), np.float32))
        message = (
            r"dataset\.yaml: no such file; write it and name the classes\. Guessed from the labels: "
            r"tasks: \{depth: \{kind: depth\}, far: \{kind: depth\}, normals: \{kind: normals\}, "
            r"odd: \{kind: saliency\}, person_mask: \{kind: saliency\}, "
            r"semseg: \{kind: segmentation, classes: \[class0, class1\]\}, "
            r"things: \{kind: segmentation, classes: \[class0, class1, class2, class3\]\}\}$"
        )
        refused(message, opened, root)

    def test_the_suggestion_can_be_pasted(self, root):
        (root / "dataset.yaml").unlink()
        with pytest.raises(UserError) as caught:
            opened(root)
        (root / "dataset.yaml").write_text(str(caught.value).partition("labels: ")[2])
        assert [task.kind for task in opened(root).tasks] == ["depth", "normals", "segmentation"]

    def test_missing_without_labels_to_guess_from(self, root):
        (root / "dataset.yaml").unlink()
        for task in TASKS:
            os.rename(root / "train" / task.name, root / task.name)
        refused(r"dataset\.yaml: no such file, and no train/images with .*: .*data arrange", opened, root)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("taks: {}", r"unknown key 'taks'\. Did you mean 'tasks'\? Known: tasks"),
            ("tasks: {depth: {kind: dept}}", r"task 'depth': unknown kind 'dept'\. Did you mean 'depth'\?"),
            ("tasks: {depth: {kind: depth, scal: 1}}", r"unknown key 'scal' for kind 'depth'\. Did you mean 'scale'\?"),
            ("tasks: {depth: }", r"task 'depth' needs a kind, e\.g\. depth: \{kind: "),
            ("tasks: [depth]", r"'tasks' must name at least one task, e\.g\. tasks: \{depth"),
            ("tasks:", r"'tasks' must name at least one task"),
            ("", r"must say 'tasks:'"),
            ("just words", r"must say 'tasks:'"),
            (
                "tasks: {../up: {kind: depth}}",
                r"task name '\.\./up' cannot be the name of a folder of labels; use letters",
            ),
            ("tasks: {images: {kind: depth}}", r"task name 'images' cannot be"),
            ("tasks: {on: {kind: depth}}", r"task name 'True' cannot be .* put it in quotes"),
            ("tasks: {'': {kind: depth}}", r"task name '' cannot be"),
            ("tasks: {depth: {kind: depth", r"line [12]: .*; mend the file"),
            ("tasks:\n\tdepth: 1", r"line 2: .*; mend the file"),
            ("a: &x [1]\ntasks: *x", r"line 2: aliases \(\*name\) are not accepted"),
            ("tasks: {a: {kind: depth}, a: {kind: normals}}", r"line 1: .*'a' stands twice"),
            ("tasks: !!python/object/apply:os.system ['true']", r"line 1: .*could not determine a constructor"),
            ("? [a]\n: b", r"not valid YAML: .*unhashable"),
            ("[" * 100_000, r"line 1: nested too deeply"),
            ("\x00", r"not valid YAML"),
            ("tasks: 2001-99-99", r"not valid YAML: .*mend the file"),
            ("tasks: !!int ''", r"not valid YAML: .*mend the file"),
            ("tasks: " + "9" * 5000, r"not valid YAML: .*mend the file"),
            ("tasks: " + "1:" * 1000 + "1.5", r"not valid YAML: .*mend the file"),
        ],
    )
    def test_it_says_something_else(self, root, text, message):
        (root / "dataset.yaml").write_text(text)
        refused(rf"set/dataset\.yaml: .*({message})", opened, root)

    def test_not_text(self, root):
        (root / "dataset.yaml").write_bytes(b"tasks: \xff\xfe")
        refused(r"dataset\.yaml: not readable", opened, root)

    def test_too_large(self, root):
        (root / "dataset.yaml").write_text("#" * 100_001)
        refused(r"dataset\.yaml: larger than 100,000 bytes", dataset_tasks, root)


class TestImages:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (np.full((H, W), 7, np.uint8), (7, 7, 7)),
            (np.full((H, W, 4), 9, np.uint8), (9, 9, 9)),
            (np.full((H, W), 257 * 5, np.uint16), (5, 5, 5)),
            (np.full((H, W), True), (255, 255, 255)),
            (np.full((1, 1, 3), 3, np.uint8), (3, 3, 3)),
        ],
        ids=["grey", "RGBA", "16 bit", "black and white", "1x1"],
    )
    def test_unusual_ones_are_read(self, root, values, expected):
        save(root / "train/images/x.png", values)
        data = opened(root)
        image = data.image(data.names.index("x"))
        assert image.shape == (3, *values.shape[:2])
        assert tuple(image[:, 0, 0].tolist()) == expected

    def test_a_palette_is_looked_up(self, root):
        indexed = Image.fromarray(np.full((H, W), 1, np.uint8))
        indexed.putpalette([0, 0, 0, 10, 20, 30])
        indexed.save(root / "train/images/x.png")
        assert opened(root).image(2)[:, 0, 0].tolist() == [10, 20, 30]

    def test_an_image_of_one_pixel_has_labels(self, root):
        save(root / "train/images/x.png", np.zeros((1, 1, 3), np.uint8))
        save(root / "train/depth/x.npy", np.full((1, 1), 2.0))
        data = opened(root)
        assert read_sample(data, 2, data.annotated(2)).labels["depth"].shape == (1, 1, 1)

    @pytest.mark.parametrize("keep", [0, 4, 40, -30])
    def test_truncated(self, root, keep):
        path = root / "train/images/a.png"
        path.write_bytes(path.read_bytes()[:keep])
        refused(r"images/a\.png: not a readable image \(.*\); replace or remove it", read_everything, root)

    def test_not_an_image(self, root):
        (root / "train/images/b.png").write_text("<html>not found</html>")
        refused(r"images/b\.png: not a readable image", read_everything, root)

    def test_enormous_is_refused_by_its_header(self, root):
        write_huge_png(root / "train/images/c.png")
        data = opened(root)
        message = r"c\.png: 30000x30000 pixels .* more than the limit of 120,000,000; resize it or raise --max-pixels"
        refused(message, data.image, 2)
        refused(message, data.size, 2)

    def test_the_limit_is_a_setting(self, root):
        refused(
            r"a\.png: 4x6 pixels \(height x width\) is more than the limit of 23; ",
            FolderDataset.open(root, "train", max_pixels=H * W - 1).image,
            0,
        )
        assert FolderDataset.open(root, "train", max_pixels=H * W).image(0).shape == (3, H, W)

    def test_a_limit_above_pillows_own_rules_too(self, tmp_path):
        wide = tmp_path / "wide.png"
        Image.fromarray(np.zeros((1, 8), np.uint8)).save(wide)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 3  # as if the picture had 60 times the default limit
        try:
            assert files.image_size(wide) == (1, 8)
            assert files.read_image(wide).shape == (1, 8, 3)
            assert files.read_label_picture(wide).shape == (1, 8)
        finally:
            Image.MAX_IMAGE_PIXELS = before

    def test_pillows_own_limit_is_left_alone(self, root):
        before = Image.MAX_IMAGE_PIXELS
        opened(root).image(0)
        assert before == Image.MAX_IMAGE_PIXELS


class TestLabels:
    @pytest.mark.parametrize(
        ("file", "values", "message"),
        [
            (
                "semseg/a.png",
                np.full((H, W), 2, np.uint8),
                r"class index 2 but task 'semseg' has 2 classes \(0 to 1, 255 = ignore\); add the class or set ignore",
            ),
            (
                "semseg/a.png",
                np.zeros((W, H), np.uint8),
                r"task 'semseg': the label is 6x4 and its image a\.png 4x6 .* another aspect ratio; save the label for",
            ),
            ("semseg/a.png", np.eye(H * W * 3, dtype=np.uint8)[0].reshape(H, W, 3), r"one class index per pixel"),
            ("depth/a.npy", np.ones((H, W, 2)), r"depth needs one number per pixel, found shape 4x6x2; save"),
            ("depth/a.npy", np.full((H, W), 5000.0), r"depth of 5000 m .*\(limit 1000 m\): wrong unit\? Set scale"),
            ("depth/a.npy", np.ones((H, W)).astype(object), r"holds object, not plain numbers; save it with a numeric"),
            ("depth/a.npy", np.full((H, W), "far"), r"holds <U3, not plain numbers"),
            ("depth/a.npy", np.full((H, W), 1j), r"holds complex128, not plain numbers"),
            ("depth/a.npy", np.zeros((0, W)), r"holds no numbers \(shape \(0, 6\)\); replace or remove it"),
            (
                "normals/a.npy",
                np.zeros((H, W)),
                r"normals need three numbers per pixel, found shape 4x6; save an RGB PNG",
            ),
        ],
    )
    def test_what_a_task_cannot_have(self, root, file, values, message):
        save(root / "train" / file, values)
        refused(rf"train/{file}: .*{message}", read_everything, root)

    def test_a_jpeg_is_no_label_whatever_it_is_called(self, root):
        Image.fromarray(np.zeros((H, W), np.uint8)).save(root / "train/semseg/a.png", format="JPEG")
        refused(r"semseg/a\.png: a JPEG cannot hold labels, .*; save it as PNG", read_everything, root)

    @pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x07\x00\x00\x00"])
    def test_not_an_array(self, root, content):
        (root / "train/depth/a.npy").write_bytes(content)
        refused(r"depth/a\.npy: not a readable \.npy array", read_everything, root)

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ({"shape": (H, W * 1000)}, r"truncated, its header promises 192,000 bytes and 96 are there"),
            (
                {"shape": (10**6, 10**6)},
                r"\(1000000, 1000000\) of float64 is larger than 960,000,000 bytes, 8 for each of 120,000,000 pixels",
            ),
            ({"shape": (-1, W)}, r"not a readable \.npy array"),
            ({"descr": "|O"}, r"holds object, not plain numbers"),
            ({"descr": "no such type"}, r"not a readable \.npy array"),
            ({"shape": "__import__('os')"}, r"not a readable \.npy array"),
        ],
    )
    def test_a_lying_header(self, root, header, message):
        path = root / "train/depth/a.npy"
        fields = {"descr": "<f8", "fortran_order": False, "shape": (H, W), **header}
        text = repr(fields).encode().ljust(118) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(96))
        refused(rf"depth/a\.npy: .*{message}", read_everything, root)

    def test_a_truncated_label(self, root):
        path = root / "train/semseg/b.png"
        path.write_bytes(path.read_bytes()[:-20])
        refused(r"semseg/b\.png: not a readable image", read_everything, root)

    @pytest.mark.parametrize(
        ("task", "file", "nothing"),
        [
            ("depth", "{}.npy", np.zeros((H, W))),
            ("depth", "{}.npy", np.full((H, W), np.nan)),
            ("normals", "{}.npy", np.zeros((H, W, 3))),
            ("semseg", "{}.png", np.full((H, W), 255, np.uint8)),
        ],
        ids=["depth zero", "depth NaN", "normals of length 0", "all ignored"],
    )
    def test_unknown_everywhere(self, root, task, file, nothing):
        save(root / "train" / task / file.format("a"), nothing)
        read_everything(root)  # one such label may be
        (split,) = inspect({"train": opened(root)}).splits
        assert f"task '{task}': labels that are unknown everywhere: a" in split.warnings
        save(root / "train" / task / file.format("b"), nothing)
        refused(
            rf"set: task '{task}': every label is unknown everywhere \(the first is .*{file.format('a')}\).*check how",
            read_everything,
            root,
        )


def write_huge_png(path):
    """A PNG of 30,000 x 30,000 pixels, as far as its header knows."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
