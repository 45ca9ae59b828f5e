"""`diffusionmtl complete`: labels of people stay as they are, predicted ones keep a place and a weight of their own."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusionmtl.build import build_training_data, build_training_set
from diffusionmtl.cli import main
from diffusionmtl.commands import completing
from diffusionmtl.commands.complete import _printed, complete, completed_table
from diffusionmtl.commands.completed_files import read_levels
from diffusionmtl.commands.held_out import held_out_labels
from diffusionmtl.config import Settings
from diffusionmtl.data.completed import CompletedDataset, predicted_counts
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.loading import VisibleDataset
from diffusionmtl.data.partition import Partition, by_people, hold_out, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import Calibration, digest_of, save_calibration
from diffusionmtl.inference.complete import Asked
from diffusionmtl.inference.load import settings_of_run
from diffusionmtl.metrics.calibration import Scale, Temperature
from diffusionmtl.metrics.precision import LEVELS, level_of, threshold_of
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import RunFolder
from tests.cli.terminal import done, files_below, refused
from tests.runs import TINY, tiny, trained
from tests.toy import TASK_NAMES, ToyDataset

# Everything is kept of these, whatever it is worth.
KEEP_ALL = ["--threshold", *(f"{task}=0" for task in TASK_NAMES)]
QUICK = ["--samples", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten pictures with all labels but the last, which has none."""
    root = tmp_path_factory.mktemp("complete") / "toys"
    export_folder(root, {"train": ToyDataset(10, annotated={9: []})})
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """Trained on some labels of each picture, a share of them held out."""
    settings = tiny(data=(str(data),), labels="random", holdout=0.4, epochs=1, batch=2, self_training="never")
    return trained(settings, tmp_path_factory.mktemp("run") / "run").root


@pytest.fixture(scope="module")
def completed(data, run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("completed") / "out"
    assert main(["complete", str(run), "--data", str(data), "--out", str(out), *QUICK, *KEEP_ALL]) == 0
    return out


@pytest.fixture
def seen(run, data) -> Partition:
    """What the run saw."""
    return Partition.load(RunFolder(run).partition, FolderDataset.open(data, "train"))


def test_labels_of_people_are_the_same_bytes_and_hidden_ones_are_not_there(data, completed, seen):
    before = files_below(data / "train")
    people = {
        f"{task}/{name}{suffix}": before[f"{task}/{name}{suffix}"]
        for name, tasks in seen.visible.items()
        for task in tasks
        for suffix in (".png", ".npy")
        if f"{task}/{name}{suffix}" in before
    }
    assert people
    after = {path: data for path, data in files_below(completed / "train").items() if path.split("/")[0] != "predicted"}
    labels = {path: data for path, data in after.items() if not path.startswith("images/")}
    assert labels.items() <= people.items()
    # A picture beside the array of a depth label is not read, so it does not come along.
    assert {tuple(path.rsplit(".", 1)[0].split("/", 1)) for path in labels} == {
        (task, name) for name, tasks in seen.visible.items() for task in tasks
    }
    assert {p: d for p, d in after.items() if p.startswith("images/")} == {
        p: d for p, d in before.items() if p.startswith("images/")
    }


def test_what_was_read_is_not_written_to(data, run, tmp_path):
    before = files_below(data)
    assert main(["complete", str(run), "--data", str(data), "--out", str(tmp_path / "out"), *QUICK, *KEEP_ALL]) == 0
    assert files_below(data) == before
    image = next((tmp_path / "out/train/images").iterdir())
    assert os.path.samefile(image, data / "train/images" / image.name)


def test_every_missing_pair_is_predicted_and_no_other(completed, seen):
    folder = FolderDataset.open(completed, "train")
    whole = CompletedDataset(folder)
    for index, name in enumerate(whole.names):
        assert folder.annotated(index) == seen.visible[name]
        assert whole.predicted(index) == frozenset(TASK_NAMES) - seen.visible[name]
        for task in whole.tasks:
            label, valid = whole.label(index, task.name)
            assert label.shape[-2:] == (24, 32) and (task.name in seen.visible[name] or bool(valid.all()))


def test_a_label_of_a_person_comes_before_a_predicted_one(completed, tmp_path):
    copy = Path(shutil.copytree(completed, tmp_path / "copy"))
    whole = CompletedDataset(FolderDataset.open(copy, "train"))
    index = next(i for i in range(len(whole)) if "semseg" in whole.predicted(i))
    path = whole.path(index, "semseg")
    mended = copy / "train/semseg" / path.name
    mended.parent.mkdir(exist_ok=True)
    shutil.copy(path, mended)
    again = CompletedDataset(FolderDataset.open(copy, "train"))
    assert "semseg" not in again.predicted(index) and again.path(index, "semseg") == mended


def test_only_sure_pixels_are_kept(data, run, completed, tmp_path, capsys):
    everywhere = {path.stem: read_levels(path) for path in (completed / "confidence/semseg").iterdir()}
    middle = float(np.median(np.stack(list(everywhere.values())))) / (LEVELS - 1)
    words = [f"{task}={middle if task == 'semseg' else 0}" for task in TASK_NAMES]
    said = done(capsys, "complete", run, "--data", data, "--out", tmp_path / "out", *QUICK, "--threshold", *words)
    assert "rests on" not in said, "these thresholds were given"
    whole = CompletedDataset(FolderDataset.open(tmp_path / "out", "train"))
    shares = []
    for name, level in everywhere.items():
        sure = torch.from_numpy(level >= level_of(middle))
        index = whole.names.index(name)
        if bool(sure.any()):
            assert torch.equal(whole.label(index, "semseg")[1].as_subclass(Tensor)[0], sure)
        else:
            assert "semseg" not in whole.annotated(index)
        shares.append(float(sure.double().mean()))
    said = json.loads((tmp_path / "out/completed.json").read_text())["tasks"]["semseg"]
    assert said["share"] == pytest.approx(np.mean(shares)) and 0.4 < said["share"] < 0.6
    assert said["labels"] == sum(share > 0 for share in shares)
    page = (tmp_path / "out/review.html").read_text()
    left_out = [int(share) for share in re.findall(r"(\d+) % of its predicted pixels are left out", page)]
    assert len(left_out) == 10 and left_out == sorted(left_out, reverse=True), "the most doubtful first"
    assert len(set(left_out)) > 1


def test_a_precision_that_is_out_of_reach_writes_nothing_and_says_so(data, run, tmp_path, capsys):
    others = [word for word in KEEP_ALL if not word.startswith("normals")]
    words = ["complete", run, "--data", data, "--out", tmp_path / "out", *QUICK, *others, "--precision", "1"]
    said = done(capsys, *words)
    assert "note: normals: not even the surest pixels" in said
    assert not (tmp_path / "out/train/predicted/normals").exists()
    assert list((tmp_path / "out/confidence/normals").iterdir())
    manifest = json.loads((tmp_path / "out/completed.json").read_text())
    assert manifest["tasks"]["normals"]["threshold"] is None and manifest["tasks"]["normals"]["labels"] == 0
    assert "not sure enough" in (tmp_path / "out/review.html").read_text()


def test_a_precision_that_is_reached_is_reported(data, tmp_path):
    settings = tiny(data=(str(data),), labels="random", holdout=0.8, epochs=1, batch=2, self_training="never")
    run, out = trained(settings, tmp_path / "run").root, tmp_path / "out"
    assert main(["complete", str(run), "--data", str(data), "--out", str(out), *QUICK, "--precision", "0.001"]) == 0
    reached = [
        of for of in json.loads((out / "completed.json").read_text())["tasks"].values() if of["level"] is not None
    ]
    assert reached and all(of["held_out_precision"] >= of["at_least"] >= 0.001 - 1e-6 for of in reached)
    assert all(of["images"] >= 2 for of in reached)
    said = completed_table(json.loads((out / "completed.json").read_text()))
    assert "which cannot show every kind of image; 0.1 of 100 is no promise for others" in said


def test_a_single_label_promises_nothing_and_says_what_to_do(completed):
    manifest = json.loads((completed / "completed.json").read_text())
    alone = {"threshold": None, "level": None, "images": 1, "yes": None, "estimate": 0.5, "labels": 0, "share": 0.0}
    of = {"held_out_precision": None, "at_least": None, "checked": None, "right": "right"}
    said = completed_table({**manifest, "precision": 0.9, "thresholds": {}, "tasks": {"semseg": alone | of}})
    assert "warning: semseg: 1 held-out label(s) are too few, or too unlike, to promise that 90 of 100" in said
    assert "--holdout" in said and "--threshold semseg=0.5 " in said


@given(st.integers(0, 65_535))
def test_a_threshold_that_is_printed_keeps_what_it_keeps(level):
    assert level_of(float(_printed(threshold_of(level)))) == level


def test_without_held_out_labels_a_threshold_has_to_be_given(data, tmp_path, capsys):
    settings = tiny(data=(str(data),), labels="one", holdout=0.0, epochs=1, batch=4, self_training="never")
    run = trained(settings, tmp_path / "run").root
    said = refused(capsys, "complete", run, "--data", data, "--out", tmp_path / "out", *QUICK)
    assert "--holdout" in said and "--threshold semseg=0.9" in said
    assert not (tmp_path / "out").exists()
    assert main(["complete", str(run), "--data", str(data), "--out", str(tmp_path / "out"), *QUICK, *KEEP_ALL]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--threshold", "depht=0.5"], "Did you mean 'depth'?"),
        (["--threshold", "depth"], "write TASK=CONFIDENCE"),
        (["--threshold", "depth=2"], "write TASK=CONFIDENCE"),
        (["--precision", "0"], "is a share"),
        (["--data", "rooms"], "its tasks are not those of"),
    ],
)
def test_mistakes(data, run, tmp_path, capsys, words, part):
    given = ["complete", run, "--data", data, "--out", tmp_path / "out"]
    assert part in refused(capsys, *(given if "--data" not in words else [*given[:2], *given[4:]]), *words)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(data, run, completed, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("precious")
    words = ["complete", run, "--data", data, *QUICK]
    assert "not empty" in refused(capsys, *words, "--out", tmp_path / "full", "--resume")
    assert "--resume or choose another" in refused(capsys, *words, "--out", completed, *KEEP_ALL)
    assert "other options" in refused(capsys, *words, "--out", completed, "--resume", "--samples", "2", *KEEP_ALL)


def test_interrupted_it_goes_on_where_it_was(data, run, completed, tmp_path, monkeypatch):
    seen: list[int] = []
    usual: Callable = completing.answers

    def watched(*args):
        if len(seen) == 4:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(1)
        return usual(*args)

    monkeypatch.setattr(completing, "answers", watched)
    words = ["complete", str(run), "--data", str(data), "--out", str(tmp_path / "out"), *QUICK, *KEEP_ALL]
    assert main(words) == 130
    assert not (tmp_path / "out/dataset.yaml").exists()
    assert main([*words, "--resume"]) == 0
    assert len(seen) == 1 + 10
    mine, theirs = (files_below(folder) for folder in (tmp_path / "out", completed))
    different = {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}
    assert {name for name in different if not name.startswith(".predicted/")} == set()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_joined_folders_that_write_differently_what_is_unknown(tmp_path):
    """One has no value for an unknown edge, and takes a class of the other for unknown."""
    for name, ignore in (("one", {"semseg": 3}), ("other", {"edge": 100})):
        toys = ToyDataset(5, invalid=6 if name == "other" else 0)
        toys.tasks = tuple(replace(t, ignore=ignore[t.name]) if t.name in ignore else t for t in toys.tasks)
        toys.tasks = tuple(task for task in toys.tasks if task.name in ("semseg", "edge"))
        export_folder(tmp_path / name, {"train": toys})
    words = dict(data=(str(tmp_path / "one"), str(tmp_path / "other")), labels="one", holdout=0.3)
    settings = tiny(**words, tasks=("edge", "semseg"), epochs=1, batch=2, self_training="never")
    run = trained(settings, tmp_path / "run").root
    asked = Asked(samples=1, thresholds=(("edge", 0.0), ("semseg", 0.0)))
    complete(run, settings.data, tmp_path / "out", asked, progress=False)
    whole, made = build_training_set(settings.data), FolderDataset.open(tmp_path / "out", "train")
    seen = Partition.load(RunFolder(run).partition, whole)
    for index, name in enumerate(made.names):
        assert made.annotated(index) == seen.visible[name] and len(made.annotated(index)) == 1
        for task in made.annotated(index):
            mine, theirs = made.label(index, task), whole.label(whole.names.index(name), task)
            for one, other in zip(mine, theirs, strict=True):
                assert torch.equal(one.as_subclass(Tensor), other.as_subclass(Tensor))
    assert len(made) == 10


def test_a_label_that_was_taken_away_does_not_come_back(data, run, completed, tmp_path, capsys):
    copy = Path(shutil.copytree(completed, tmp_path / "copy"))
    gone = next((copy / "train/predicted/semseg").iterdir())
    gone.unlink()
    done(capsys, "complete", run, "--data", data, "--out", copy, *QUICK, *KEEP_ALL, "--resume")
    assert not gone.exists() and (copy / "dataset.yaml").is_file()
    assert len(list((copy / "train/predicted/semseg").iterdir())) > 0


def test_a_calibration_says_how_sure_answers_are(data, run, completed, tmp_path, capsys):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    weights = digest_of(copy / "checkpoints/last.safetensors")
    fitted = {"edge": Temperature(1.0, -3.0), "semseg": Temperature(20.0, 0.0), "depth": Scale(9.0, 9.0)}
    save_calibration(copy, Calibration(weights, 1, 1.0, fitted), {})
    words = ["complete", copy, "--data", data, *QUICK, *KEEP_ALL]
    done(capsys, *words, "--out", tmp_path / "told")
    done(capsys, *words, "--out", tmp_path / "plain", "--uncalibrated")
    found = [files_below(folder / "confidence") for folder in (completed, tmp_path / "plain", tmp_path / "told")]
    assert found[0] == found[1] and found[0].keys() == found[2].keys()
    changed = {path.split("/")[0] for path in found[0] if found[0][path] != found[2][path]}
    assert changed == {"edge", "semseg"}
    nearly_none = max(read_levels(path).max() for path in (tmp_path / "told/confidence/semseg").iterdir())
    assert nearly_none < level_of(0.35)
    # No answer changes.
    assert files_below(completed / "train") == files_below(tmp_path / "told/train")
    assert json.loads((tmp_path / "told/completed.json").read_text())["calibrated"]
    assert "other options" in refused(capsys, *words, "--out", tmp_path / "told", "--resume", "--uncalibrated")


@pytest.mark.parametrize("written", [True, False])
def test_images_that_came_later_change_nothing_about_what_was_held_out(run, tmp_path, written):
    before, after = ToyDataset(10, annotated={9: []}), ToyDataset(16)
    folder = RunFolder(Path(shutil.copytree(run, tmp_path / "run")))
    path, settings = folder.partition, settings_of_run(run)
    if not written:
        folder.held_out.unlink()
    found = held_out_labels(folder, before, settings)
    assert found and held_out_labels(folder, after, settings) == found
    partition = Partition.load(path, before)
    _, names = hold_out(partition, 0.4, settings.train.seed)
    assert found == {before.names.index(name): partition.visible[name] for name in names}
    # Drawn among all that are there now, it would be others.
    assert set(hold_out(Partition.load(path, after), 0.4, settings.train.seed)[1]) != set(names)


def test_a_run_is_not_resumed_on_other_images(data, run, tmp_path):
    more = Path(shutil.copytree(data, tmp_path / "more"))
    image = next((more / "train/images").iterdir())
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace(str(data), str(more)))
    shutil.copy(image, image.with_stem("new"))
    with pytest.raises(UserError, match=r"--resume: 1 image\(s\) came to data set 'more' .* new for one"):
        trained(Settings(), folder, resume=True)


class TestTraining:
    def test_as_found_is_people_alone(self, completed, seen):
        found = make_partition("as-found", FolderDataset.open(completed, "train"), 0)
        assert found.visible == {name: seen.visible[name] for name in found.visible}

    def test_completed_is_both_and_people_hold_out(self, completed, seen):
        whole = CompletedDataset(FolderDataset.open(completed, "train"))
        both = make_partition("completed", whole, 0)
        assert all(tasks == frozenset(TASK_NAMES) for tasks in both.visible.values())
        assert by_people(both, whole).visible == {name: seen.visible[name] for name in whole.names}
        sample = VisibleDataset(whole, both, None, 0, predicted_weight=0.25)[0, 0]
        people = seen.visible[whole.names[0]]
        assert sample.weights == dict.fromkeys(frozenset(TASK_NAMES) - people, 0.25)

    def test_weight_0_is_training_without_them(self, completed, seen):
        settings = tiny(data=(str(completed),), labels="completed", holdout=0.0, batch=2, pseudo_weight=0.0)
        whole = build_training_set(settings.data)
        found = build_training_data(settings, whole, make_partition("completed", whole, 0))
        assert found.partition.visible == {name: seen.visible[name] for name in whole.names}
        batch = next(iter(found.train))
        for task, labels in batch.labels.items():
            assert labels.weight is None
            assert all(task in seen.visible[batch.names[row]] for row in labels.rows.tolist())

    def test_data_without_predicted_labels_are_refused(self, data, completed):
        with pytest.raises(UserError, match="brings no predicted labels"):
            make_partition("completed", FolderDataset.open(data, "train"), 0)
        with pytest.raises(UserError, match="brings no predicted labels"):
            make_partition("completed", FolderDataset.open(completed, "train"), 0)

    @pytest.mark.slow
    def test_a_run_of_both_and_another_round(self, data, completed, tmp_path, capsys):
        words = dict(data=(str(completed),), holdout=0.4, epochs=1, batch=4, self_training="never")
        one = trained(tiny(**words, labels="completed"), tmp_path / "one")
        assert "predicted)" in capsys.readouterr().out
        nothing = trained(tiny(**words, labels="completed", pseudo_weight=0.0), tmp_path / "nothing")
        assert read_log(one) != read_log(nothing)
        out = tmp_path / "again"
        done(capsys, "complete", one.root, "--data", completed, "--out", out, *QUICK, *KEEP_ALL)
        assert predicted_counts(FolderDataset.open(out, "train")) == predicted_counts(
            FolderDataset.open(completed, "train")
        )

    @pytest.mark.slow
    def test_compared_with_what_people_labelled(self, data, completed, tmp_path, capsys):
        both = Path(shutil.copytree(completed, tmp_path / "both"))
        shutil.copytree(data / "train", both / "val")
        words = {k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items() if k not in ("data", "labels")}
        words |= dict(data=[str(both)], tasks=["semseg", "depth"], holdout=0.4, epochs=1, batch=2)
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(words))
        out = tmp_path / "compared"
        methods = ["--methods", "multitask", "singletask"]
        done(capsys, "compare", "--config", tmp_path / "tiny.yaml", *methods, "--labels", "completed", "--out", out)
        dataset = CompletedDataset(FolderDataset.open(both, "train"))
        everything = {name: frozenset({"semseg", "depth"}) for name in dataset.names}
        run = RunFolder(out / "completed/multitask/seed0")
        assert Partition.load(run.partition, dataset).visible == everything
        for task in ("semseg", "depth"):
            own = RunFolder(out / "completed/singletask/seed0" / task)
            seen = Partition.load(own.partition, dataset)
            assert seen.visible == {name: frozenset({task}) for name in dataset.names}
        # A step takes two of the images that are not held out, and none more is counted.
        settings = settings_of_run(run.root)
        steps = len(build_training_data(settings, build_training_set(settings.data), seen_by(run, settings)).train)
        records = [json.loads(path.read_text())["outcome"] for path in (out / "cells/completed").glob("multi*.json")]
        assert [of["steps"] for of in records] == [steps] and steps > 0


def seen_by(run: RunFolder, settings: Settings) -> Partition:
    return Partition.load(run.partition, build_training_set(settings.data))


def test_a_look_at_it_counts_what_is_predicted(completed, capsys):
    said = done(capsys, "data", "inspect", completed)
    assert "undeclared" not in said and "nothing that training would refuse" in said
    assert "predicted" in said
