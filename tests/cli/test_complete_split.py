"""`diffusionmtl complete --split`: labels that another split than the trained one misses."""

import json
import shutil
from pathlib import Path

import pytest

from diffusionmtl.cli import main
from diffusionmtl.commands.reviewed_completed import CompletedFolder
from diffusionmtl.data.completed import predicted_counts
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from tests.cli.terminal import done, files_below, refused
from tests.runs import tiny, trained
from tests.toy import TASK_NAMES, ToyDataset

WORDS = ["--samples", "1", "--threshold", *(f"{task}=0" for task in TASK_NAMES)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """All is labelled but two images of `val`: one has depth alone, one nothing."""
    root = tmp_path_factory.mktemp("split") / "toys"
    export_folder(root, {"train": ToyDataset(8), "val": ToyDataset(3, annotated={0: ["depth"], 1: []})})
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    settings = tiny(data=(str(data),), labels="full", holdout=0.3, epochs=1, batch=2, self_training="never")
    return trained(settings, tmp_path_factory.mktemp("run") / "run").root


@pytest.fixture(scope="module")
def completed(data, run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("completed") / "out"
    words = ["complete", run, "--data", data, "--split", "val", "--out", out, *WORDS]
    assert main([str(word) for word in words]) == 0
    return out


def test_the_missing_labels_of_val_are_written_into_val(data, completed):
    assert not (completed / "train").exists()
    written, before = files_below(completed / "val"), files_below(data / "val")
    given = {f: content for f, content in written.items() if not f.startswith("predicted/")}
    assert given.items() <= before.items()
    assert {Path(f).with_suffix("") for f in given} == {Path(f).with_suffix("") for f in before}
    names = FolderDataset.open(data, "val").names
    pairs = {(task, name) for task in TASK_NAMES for name in names[:2]} - {("depth", names[0])}
    assert {(f.split("/")[1], Path(f).stem) for f in written if f.startswith("predicted/")} == pairs
    assert predicted_counts(FolderDataset.open(completed, "val")) == {t: 1 if t == "depth" else 2 for t in TASK_NAMES}
    assert json.loads((completed / "completed.json").read_text())["split"] == "val"


def test_it_can_be_reviewed(completed, tmp_path):
    folder = CompletedFolder(Path(shutil.copytree(completed, tmp_path / "out")))
    assert len(folder.pairs) == 2 * len(TASK_NAMES) - 1
    folder.apply(folder.pairs[0], "reject")
    assert len(files_below(tmp_path / "out/rejected")) >= 1
    assert len(files_below(tmp_path / "out/val/predicted")) < len(files_below(completed / "val/predicted"))


def test_thresholds_come_from_what_was_held_out_of_train(data, run, tmp_path, capsys):
    """Those of `val` are not asked: without any label there the thresholds are the same."""
    bare = Path(shutil.copytree(data, tmp_path / "toys"))
    for task in TASK_NAMES:
        shutil.rmtree(bare / "val" / task, ignore_errors=True)
    said = []
    for root, out in ((data, tmp_path / "one"), (bare, tmp_path / "two")):
        words = ["complete", run, "--data", root, "--split", "val", "--precision", 0.1, "--samples", 1, "--out", out]
        assert f"Next: diffusionmtl serve {run} --review {out}" in done(capsys, *words)
        tasks = json.loads((out / "completed.json").read_text())["tasks"]
        said.append({task: (of["threshold"], of["held_out_precision"], of["images"]) for task, of in tasks.items()})
    assert said[0] == said[1] and all(images > 0 for *_, images in said[0].values())


def test_mistakes(data, run, completed, tmp_path, capsys):
    words = ["complete", run, "--data", data, *WORDS, "--out"]
    assert f"{run} saw a label of every task" in refused(capsys, *words, tmp_path / "out")
    assert "no split 'vall'" in refused(capsys, *words, tmp_path / "out", "--split", "vall")
    full = Path(shutil.copytree(data, tmp_path / "toys"))
    shutil.rmtree(full / "val")
    shutil.copytree(full / "train", full / "val")
    said = refused(capsys, "complete", run, "--data", full, "--split", "val", "--out", tmp_path / "out")
    assert "split 'val' has a label of every task for every image; none is missing" in said
    assert not (tmp_path / "out").exists()
    again = Path(shutil.copytree(completed, tmp_path / "again"))
    (data / "test").symlink_to("val")
    try:
        assert "begun with another run" in refused(capsys, *words, again, "--split", "test", "--resume")
    finally:
        (data / "test").unlink()
    done(capsys, *words, again, "--split", "val", "--resume")
    assert files_below(again / "val") == files_below(completed / "val")
