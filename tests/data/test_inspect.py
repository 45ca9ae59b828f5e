"""What `data inspect` finds, and what it notices."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.data.folder import FolderDataset, write_dataset_yaml
from diffusionmtl.data.inspect import contact_sheet, inspect
from diffusionmtl.data.sheet import spread_evenly
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals

H, W = 4, 6
TASKS = (
    SemanticSegmentation("semseg", classes=("road", "car", "sky", "min")),
    Depth("depth"),
    SurfaceNormals("normals"),
    Saliency("saliency"),
    Boundary("edge", ignore=100),
)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four images without a label."""
    root = tmp_path / "set"
    write_dataset_yaml(root, TASKS)
    for name in "abcd":
        save(root / f"train/images/{name}.png", np.zeros((H, W, 3), np.uint8))
    return root / "train"


def look(folder, most=None):
    return inspect({"train": FolderDataset.open(folder.parent, "train")}, most)


def found(folder, task, most=None):
    return next(t for t in look(folder, most).splits[0].tasks if t.name == task)


def warnings(folder):
    return "\n".join(look(folder).splits[0].warnings)


def test_coverage_and_figures(folder):
    save(folder / "depth/a.npy", np.full((H, W), 2.0))
    save(folder / "depth/b.npy", np.where(np.arange(H * W).reshape(H, W) < 6, 6.0, 0.0))
    split = look(folder).splits[0]
    assert (split.split, split.images, split.read, split.sizes) == ("train", 4, 4, {"4x6": 4})
    depth = found(folder, "depth")
    assert (depth.labelled, depth.read, depth.known) == (2, 2, (24 + 6) / 48)
    # Means weighted by known pixels, the range over everything.
    assert depth.figures == pytest.approx({"min": 2, "max": 6, "mean": (24 * 2 + 6 * 6) / 30, "median": 2.8})
    assert split.problems == ()


def test_class_shares_are_of_known_pixels_even_for_a_class_called_min(folder):
    save(folder / "semseg/a.png", np.repeat(np.array([[0, 1, 3, 255, 255, 255]], np.uint8), H, axis=0))
    save(folder / "semseg/b.png", np.full((H, W), 3, np.uint8))
    semseg = found(folder, "semseg")
    assert semseg.figures == pytest.approx({"road": 4 / 36, "car": 4 / 36, "min": 28 / 36})
    assert semseg.known == 36 / 48
    assert "task 'semseg': class never used: sky" in warnings(folder)


def test_names_that_do_not_match(folder):
    save(folder / "semseg/z.png", np.zeros((H, W), np.uint8))
    (folder / "depth").mkdir()
    (folder / "depth/a.exr").write_bytes(b"x")
    (folder / "masks").mkdir()
    said = warnings(folder)
    assert "label files without an image of their name: train/semseg/z.png" in said
    assert "files that are not read: their task has other suffixes: train/depth/a.exr" in said
    assert "folders that dataset.yaml does not name: train/masks" in said
    assert "images without any label: a, b, c and 1 more" in said
    assert "task 'normals' has no label at all in this split" in said


@pytest.mark.parametrize(
    ("file", "values", "warning"),
    [
        ("depth/a.npy", np.full((H, W), 250.0), "depth up to 250 m: wrong unit?"),
        ("depth/a.npy", np.full((H, W), 0.003), "median depth of 0.003 m: wrong unit?"),
        ("normals/a.npy", np.tile([0.0, 0.0, -1.0], (H, W, 1)), "face away from the camera .* set frame: opencv"),
        ("saliency/a.png", np.eye(H, W, dtype=np.uint8), "no pixel is set: .* 0 and 1 must be saved as 0 and 255"),
        ("edge/a.png", np.full((H, W), 255, np.uint8), "every pixel is set"),
        ("semseg/a.png", np.zeros((2, 3), np.uint8), "labels of another size than their image, to be resized: a"),
    ],
)
def test_labels_that_look_wrong(folder, file, values, warning):
    save(folder / file, values)
    task = file.split("/")[0]
    assert any(re.match(rf"task '{task}': .*{warning}", line) for line in look(folder).splits[0].warnings)
    assert look(folder).sound


def test_a_label_unknown_everywhere_is_a_warning_and_all_of_them_a_problem(folder):
    save(folder / "normals/a.npy", np.zeros((H, W, 3)))
    save(folder / "normals/b.npy", np.tile([0.0, 0.0, 1.0], (H, W, 1)))
    assert "task 'normals': labels that are unknown everywhere: a" in warnings(folder)
    assert look(folder).sound
    (folder / "normals/b.npy").unlink()
    assert look(folder).splits[0].problems == ("task 'normals': all 1 labels read are unknown everywhere: a",)


def test_every_unreadable_file_is_collected(folder):
    (folder / "images/a.png").write_bytes(b"x")
    save(folder / "semseg/a.png", np.zeros((H, W), np.uint8))  # sound, but its image is not
    save(folder / "semseg/b.png", np.full((H, W), 9, np.uint8))
    save(folder / "semseg/c.png", np.zeros((9, 9), np.uint8))
    save(folder / "semseg/d.png", np.zeros((H, W), np.uint8))
    (folder / "depth").mkdir()
    (folder / "depth/d.npy").write_bytes(b"x")
    report = look(folder)
    problems = report.splits[0].problems
    assert [next(n for n in ("images/a", "semseg/b", "semseg/c", "depth/d") if n in p) for p in problems] == [
        "images/a",
        "semseg/b",
        "semseg/c",
        "depth/d",
    ]
    assert not report.sound
    assert "problem: " in report.text() and "training would refuse this" in report.text()
    assert found(folder, "semseg").read == 1  # the rest is still looked at


def lines(folder):
    return [line.removeprefix("  problem: ") for line in look(folder).text().splitlines() if "problem: " in line]


def test_files_with_one_problem_share_a_line(folder):
    for number in range(30):
        save(folder / f"images/{number}.png", np.zeros((H, W, 3), np.uint8))
        save(folder / f"semseg/{number}.png", np.full((H, W), 8 if number == 3 else 9, np.uint8))
    for name in "abcd":
        save(folder / f"semseg/{name}.png", np.zeros((9, 9), np.uint8))
    many, one, cut = lines(folder)
    classes = "but task 'semseg' has 4 classes (0 to 3, 255 = ignore); add the class or set ignore in dataset.yaml"
    assert many == f"{folder}/semseg/0.png and 28 more (1, 10, ...): class index 9 {classes}"
    assert one == f"{folder}/semseg/3.png: class index 8 {classes}"
    assert cut.startswith(
        f"{folder}/semseg/a.png and 3 more (b, c, ...): task 'semseg': the label is 9x9 and its image a.png"
    )
    assert len(look(folder).splits[0].problems) == 34  # JSON names them all


def test_problems_that_differ_in_a_number_share_a_line_once_they_are_many(folder):
    def deep(count):
        for number in range(count):
            save(folder / f"images/{number}.png", np.zeros((H, W, 3), np.uint8))
            save(folder / f"depth/{number}.npy", np.full((H, W), 2000.5 + number))
        return lines(folder)

    assert [line.split(" in task")[0] for line in deep(5)] == [
        f"{folder}/depth/{number}.npy: depth of {2000.5 + number} m" for number in range(5)
    ]
    (line,) = deep(6)
    assert line.startswith(f"{folder}/depth/0.npy and 5 more (1, 2, ...): depth of 2000.5 m in task 'depth'")


def test_only_so_many_files_are_opened(folder):
    for name in "abcd":
        save(folder / f"depth/{name}.npy", np.ones((H, W)))
    told = []
    data = FolderDataset.open(folder.parent, "train")
    report = inspect({"train": data}, most=2, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    depth = next(task for task in report.splits[0].tasks if task.name == "depth")
    assert (depth.labelled, depth.read, report.splits[0].read) == (4, 2, 2)


def test_the_report_is_json_and_text(folder):
    save(folder / "semseg/a.png", np.zeros((H, W), np.uint8))
    report = look(folder)
    again = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert again["sound"] is True
    assert again["splits"][0]["tasks"][0]["figures"] == {"road": 1.0}
    text = report.text()
    assert "1 (25%)" in text and "road 100%" in text and "nothing that training would refuse" in text


def test_evenly_spread():
    assert spread_evenly(range(10), 3) == [1, 5, 8]
    assert spread_evenly(range(2), 3) == [0, 1]
    assert spread_evenly(range(3), None) == [0, 1, 2]


def test_the_contact_sheet_shows_labels_and_greys_what_is_missing(folder, tmp_path):
    save(folder / "saliency/b.png", np.full((H, W), 255, np.uint8))
    (folder / "depth").mkdir()
    (folder / "depth/b.npy").write_bytes(b"x")
    contact_sheet(FolderDataset.open(folder.parent, "train"), 1, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 6 + 6 * (180 + 6)
    middle = sheet[22 + 60, [6 + column * 186 + 90 for column in range(6)]]
    black, grey, white = [0] * 3, [128] * 3, [255] * 3
    # image b: it shows more than a, c and d do. semseg none, depth unreadable, normals none, saliency, edge none.
    assert middle.tolist() == [black, grey, grey, grey, white, grey]
    with pytest.raises(UserError, match="cannot be written"):
        contact_sheet(FolderDataset.open(folder.parent, "train"), 1, tmp_path / "sheet.png" / "below.png")


def test_rare_labels_are_on_the_sheet(folder, monkeypatch, tmp_path):
    for name in "abcd":
        save(folder / f"saliency/{name}.png", np.full((H, W), 255, np.uint8))
    save(folder / "edge/b.png", np.full((H, W), 255, np.uint8))
    save(folder / "semseg/d.png", np.zeros((H, W), np.uint8))
    contact_sheet(FolderDataset.open(folder.parent, "train"), 2, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    rows = [22 + 60, 22 + 60 + 120 + 22]
    edge = sheet[rows, 6 + 5 * 186 + 90]
    semseg = sheet[rows, 6 + 1 * 186 + 90]
    assert (edge == 255).all(axis=1).tolist() == [True, False]
    assert (semseg == 128).all(axis=1).tolist() == [True, False]
