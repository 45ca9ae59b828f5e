"""Predictions in files: the right ones are perfect under every protocol, and bad files are named."""

import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from diffusionmtl.data.description import write_dataset_yaml
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.errors import UserError
from diffusionmtl.inference.rescore import rescore
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals
from tests.toy import TASK_NAMES, TASKS, ToyDataset

ERRORS = ("absErr", "relErr", "rmse", "mErr", "medErr")
H, W = 24, 32


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three images with every label, and a folder of predictions that are the labels."""
    root = tmp_path_factory.mktemp("data") / "toys"
    export_folder(root, {"val": ToyDataset(3)})
    return root


@pytest.fixture
def labels(written):
    return FolderDataset.open(written, "val")


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written / "val", tmp_path / "predicted", ignore=shutil.ignore_patterns("images"))


def test_the_right_answer_is_perfect_under_every_protocol(folder, labels):
    scores = rescore(folder, labels)
    assert scores.images == dict.fromkeys(TASK_NAMES, 3) and scores.initial == {}
    for task in TASKS:
        assert task.headline in scores.final[task.name]
        for name, figure in scores.final[task.name].items():
            if name.startswith("AP@") or (name.startswith("ois") or name.startswith("ods")):
                assert figure > 90, name  # thinning moves the crossing of two lines
            elif name != "maxF@published":
                best = 0 if name.split("@")[0] in ERRORS else 100
                assert figure == pytest.approx(best, abs=0.5), (task.name, name)


def test_boundaries_are_scored_under_all_tolerances(folder, labels):
    names = set(rescore(folder, labels).final["edge"])
    assert names == {f"{f}@{p}" for f in ("odsF", "oisF", "AP") for p in ("seism-0.0075", "seism-0.011", "fast-0.0075")}


def test_known_figures(folder, labels):
    for name in labels.names:
        np.save(folder / "depth" / f"{name}.npy", np.load(folder / "depth" / f"{name}.npy") + 0.5)
        Image.fromarray(np.zeros((H, W), np.uint8)).save(folder / "semseg" / f"{name}.png")
        tilted = np.zeros((H, W, 3), np.float32)
        tilted[..., :] = np.array([0, 0, 1])
        np.save(folder / "normals" / f"{name}.npy", tilted)
    scores = rescore(folder, labels).final
    assert scores["depth"]["absErr@pooled"] == pytest.approx(0.5)
    assert scores["depth"]["rmse@pooled"] == pytest.approx(0.5)
    # Everything is the wall, which covers a quarter: an IoU of a quarter, and of 0 for the three other classes.
    assert scores["semseg"]["mIoU@pooled"] == pytest.approx(25 / 4)
    assert scores["semseg"]["pixelAcc@pooled"] == pytest.approx(25)
    normal = torch.stack([labels.label(i, "normals")[0].plain()[2] for i in range(3)]).clamp(-1, 1)
    angles = normal.double().acos().rad2deg()
    assert scores["normals"]["mErr@pooled"] == pytest.approx(float(angles.mean()), abs=0.01)
    assert scores["normals"]["rmse@pooled"] == pytest.approx(float(angles.square().mean().sqrt()), abs=0.01)


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_bits(tmp_path):
    toys = ToyDataset(40)
    export_folder(tmp_path / "toys", {"val": toys})
    labels = FolderDataset.open(tmp_path / "toys", "val")
    seen = []
    one = rescore(tmp_path / "toys/val", labels)
    other = rescore(tmp_path / "toys/val", labels, jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert one == other
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_groups_are_put_together_in_order(folder, labels, monkeypatch):
    whole = rescore(folder, labels)
    monkeypatch.setattr("diffusionmtl.inference.rescore._GROUP", 1)
    single = rescore(folder, labels)
    assert whole.images == single.images
    for task, figures in whole.final.items():
        assert figures == pytest.approx(single.final[task], nan_ok=True)


class TestMissing:
    def test_they_are_counted_and_named(self, folder, labels):
        shutil.rmtree(folder / "semseg")
        (folder / "semseg").mkdir()
        (folder / "saliency/image 1.png").unlink()
        with pytest.raises(UserError, match=r"no prediction semseg/image 0, .* and 1 more"):
            rescore(folder, labels)

    def test_they_may_be_left_out(self, folder, labels):
        (folder / "saliency/image 1.png").unlink()
        scores = rescore(folder, labels, allow_missing=True)
        assert scores.images == {**dict.fromkeys(TASK_NAMES, 3), "saliency": 2}

    def test_but_not_all_of_them(self, folder, labels):
        for task in TASK_NAMES:
            shutil.rmtree(folder / task)
            (folder / task).mkdir()
        with pytest.raises(UserError, match="no prediction"):
            rescore(folder, labels, allow_missing=True)

    def test_a_task_without_a_folder_is_left_out(self, folder, labels):
        shutil.rmtree(folder / "depth")
        assert "depth" not in rescore(folder, labels).final

    def test_no_task_in_common(self, folder, labels, tmp_path):
        with pytest.raises(UserError, match="no folder of predictions of semseg, depth"):
            rescore(folder / "depth", labels)
        with pytest.raises(UserError, match="no such folder"):
            rescore(tmp_path / "nowhere", labels)

    def test_only_the_chosen_images_are_needed(self, folder, labels):
        (folder / "saliency/image 1.png").unlink()
        assert rescore(folder, labels, indices=[0, 2]).images["saliency"] == 2


class TestBadFiles:
    def test_another_size_is_never_resized(self, folder, labels):
        Image.fromarray(np.zeros((H * 2, W * 2), np.uint8)).save(folder / "semseg/image 2.png")
        with pytest.raises(UserError, match=r"semseg/image 2\.png: is 48x64 and its label 24x32"):
            rescore(folder, labels)

    @pytest.mark.parametrize("task", TASK_NAMES)
    def test_not_a_picture(self, folder, labels, task):
        for path in (folder / task).glob("image 1.*"):
            path.unlink()
        (folder / task / "image 1.png").write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match=rf"{task}/image 1\.png: not a readable image"):
            rescore(folder, labels)

    def test_python_objects_are_not_unpickled(self, folder, labels):
        np.save(folder / "edge/image 1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(UserError, match=r"edge/image 1\.npy"):
            rescore(folder, labels)

    @pytest.mark.slow
    def test_a_bad_file_in_another_process(self, folder, labels, monkeypatch):
        (folder / "edge/image 1.png").write_bytes(b"x")
        monkeypatch.setattr("diffusionmtl.inference.rescore._GROUP", 1)
        with pytest.raises(UserError, match=r"edge/image 1\.png"):
            rescore(folder, labels, jobs=2)


class TestDescribed:
    """A folder of `predict` says how its files are to be read."""

    def test_files_are_read_as_their_own_description_says(self, folder, labels, written):
        turned = SurfaceNormals("normals", frame="opencv")
        for index, name in enumerate(labels.names):
            turned.write(folder / "normals" / name, labels.label(index, "normals")[0])
            (folder / "depth" / f"{name}.npy").unlink()
            Depth("depth", scale=0.01).write(folder / "depth" / name, labels.label(index, "depth")[0])
            (folder / "depth" / f"{name}.npy").unlink()
        tasks = [task for task in TASKS if task.name not in ("normals", "depth")]
        write_dataset_yaml(folder, [*tasks, turned, Depth("depth", scale=0.01)])
        scores = rescore(folder, labels).final
        assert scores["normals"]["mErr@pooled"] < 1
        assert scores["depth"]["absErr@pooled"] < 0.01

    def test_other_classes_cannot_be_compared(self, folder, labels):
        write_dataset_yaml(folder, [SemanticSegmentation("semseg", classes=("floor", "wall", "chair", "table"))])
        with pytest.raises(UserError, match=r"dataset\.yaml: task 'semseg' is segmentation with 4 channels"):
            rescore(folder, labels)


class TestAnnotators:
    @pytest.fixture
    def people(self, labels, tmp_path):
        """Two people: one draws the label, the other a line that nobody predicts."""
        root = tmp_path / "people"
        other = np.zeros((H, W), np.uint8)
        other[4, 3:12] = 255
        for index, name in enumerate(labels.names):
            (root / "edge" / name).mkdir(parents=True)
            label = labels.label(index, "edge")[0].plain()[0].numpy().astype(np.uint8) * 255
            Image.fromarray(label).save(root / "edge" / name / "1.png")
            Image.fromarray(other).save(root / "edge" / name / "2.png")
        return root

    def test_precision_asks_for_anybody_and_recall_for_everybody(self, folder, labels, people):
        alone = {"1": rescore(folder, labels).final["edge"]}
        both = rescore(folder, labels, annotators=people).final["edge"]
        assert {k: v for k, v in both.items() if "bsds" not in k} == alone["1"]
        for name in labels.names:
            (people / "edge" / name / "2.png").unlink()
        one = rescore(folder, labels, annotators=people).final["edge"]["odsF@bsds-0.0075"]
        assert 0 < both["odsF@bsds-0.0075"] < one

    def test_an_image_that_nobody_drew(self, folder, labels, people):
        shutil.rmtree(people / "edge/image 1")
        with pytest.raises(UserError, match="image 1: no boundaries of anybody"):
            rescore(folder, labels, annotators=people)

    def test_another_size(self, folder, labels, people):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(people / "edge/image 1/2.png")
        with pytest.raises(UserError, match=r"2\.png: is 9x9 and its label 24x32"):
            rescore(folder, labels, annotators=people)

    def test_a_folder_of_something_else(self, folder, labels, tmp_path):
        with pytest.raises(UserError, match="--annotators .*: no folder named after a boundary task"):
            rescore(folder, labels, annotators=tmp_path)


def test_labels_that_do_not_count_are_not_asked_for(folder, labels, monkeypatch):
    """As with the list of images that the boundaries of PASCAL-Context are scored on."""
    monkeypatch.setattr(type(labels), "counted", lambda self, i: self.annotated(i) - ({"edge"} if i else set()))
    (folder / "edge/image 1.png").unlink()
    scores = rescore(folder, labels)
    assert scores.images == {**dict.fromkeys(TASK_NAMES, 3), "edge": 1}
    assert not math.isnan(scores.final["edge"]["odsF@seism-0.0075"])
