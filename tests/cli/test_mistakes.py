"""What people get wrong at the terminal: each mistake is one clear line, and nothing is written or lost."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffusionmtl.build import build_network, describe_run, restore_run
from diffusionmtl.models.pretrained import read_network, save_network
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Depth
from tests.cli.terminal import H, W, done, files_below, refused


def image(folder: Path, name: str = "image 3") -> Path:
    return folder / f"train/images/{name}.png"


def replaced(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def all_labels(folder: Path, task: str, value: np.ndarray) -> None:
    """Every label of a task holds the same."""
    for path in list((folder / "train" / task).iterdir()):
        path.unlink()
        np.save(path.with_suffix(".npy"), value)


def huge_png() -> bytes:
    """30,000 x 30,000 pixels, as far as its header knows."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def described(folder: Path, **tasks: object) -> None:
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"tasks": tasks}))


BAD_FOLDERS = {
    "missing": (lambda f: shutil.rmtree(f), ["toys", "no such folder"]),
    "empty": (lambda f: (shutil.rmtree(f), f.mkdir()), ["toys", "is empty", "dataset.yaml"]),
    "without images": (lambda f: [p.unlink() for p in (f / "train/images").iterdir()], ["train/images", "no images"]),
    "without the split": (lambda f: shutil.rmtree(f / "train"), ["toys", "no split 'train'", "val"]),
    "task without a label": (
        lambda f: shutil.rmtree(f / "train/edge"),
        ["task 'edge'", "no label", "take the task out"],
    ),
    "yaml missing": (
        lambda f: (f / "dataset.yaml").unlink(),
        ["dataset.yaml", "no such file", "Guessed from the labels", "kind: depth", "kind: segmentation"],
    ),
    "yaml broken": (
        lambda f: (f / "dataset.yaml").write_text("tasks: {a: ["),
        ["dataset.yaml", "line ", "not valid YAML"],
    ),
    "yaml unknown key": (
        lambda f: described(f, depth={"kind": "depth", "scal": 0.001}),
        ["dataset.yaml", "task 'depth'", "unknown key 'scal'", "'scale'"],
    ),
    "yaml unknown kind": (
        lambda f: described(f, depth={"kind": "dept"}),
        ["dataset.yaml", "task 'depth'", "unknown kind 'dept'", "'depth'"],
    ),
    "truncated image": (lambda f: halved(image(f)), ["image 3.png", "replace or remove it"]),
    "not an image": (lambda f: replaced(image(f), b"hello"), ["image 3.png", "not a readable image"]),
    "huge image": (lambda f: replaced(image(f), huge_png()), ["image 3.png", "30000x30000", "--max-pixels"]),
    "truncated label": (lambda f: halved(f / "train/semseg/image 2.png"), ["semseg/image 2.png", "not a readable"]),
    "label of another ratio": (
        lambda f: Image.new("L", (H, H)).save(f / "train/semseg/image 2.png"),
        ["semseg/image 2.png", "task 'semseg'", "24x24", "24x32", "aspect ratio"],
    ),
    "class index": (
        lambda f: Image.new("L", (W, H), 9).save(f / "train/semseg/image 2.png"),
        ["semseg/image 2.png", "class index 9", "4 classes", "dataset.yaml"],
    ),
    "depth all zero": (lambda f: all_labels(f, "depth", np.zeros((H, W))), ["task 'depth'", "every label is unknown"]),
    "depth all NaN": (
        lambda f: all_labels(f, "depth", np.full((H, W), np.nan)),
        ["task 'depth'", "every label is unknown"],
    ),
    "normals of length 0": (
        lambda f: all_labels(f, "normals", np.zeros((H, W, 3))),
        ["task 'normals'", "every label is unknown"],
    ),
    "pickled label": (
        lambda f: np.save(f / "train/depth/image 1.npy", np.array([{}]), allow_pickle=True),
        ["depth/image 1.npy", "not plain numbers"],
    ),
}


@pytest.mark.parametrize("mistake", BAD_FOLDERS)
def test_a_bad_folder_is_refused_before_anything_is_written(capsys, folder, settings, tmp_path, mistake):
    damage, words = BAD_FOLDERS[mistake]
    damage(folder)
    before = files_below(tmp_path)
    arguments = ["--config", settings, "--data", folder, "--labels", "full", "--out", tmp_path / "run"]
    said = refused(capsys, "train", *arguments)
    for word in words:
        assert word in said, said
    assert files_below(tmp_path) == before
    assert not (tmp_path / "run").exists()


def test_what_may_not_be_seen_may_be_bad(capsys, folder, settings, tmp_path):
    halved(folder / "train/semseg/image 2.png")
    (tmp_path / "labels.txt").write_text("".join(f"image {i}\tdepth\n" for i in range(8)))
    arguments = ["--config", settings, "--data", folder, "--tasks", "depth", "semseg", "--epochs", 1]
    done(capsys, "train", *arguments, "--labels", tmp_path / "labels.txt", "--out", tmp_path / "run")
    assert (tmp_path / "run/checkpoints/last.safetensors").is_file()


GOOD_IMAGES = {
    "grey": Image.new("L", (W, H), 100),
    "RGBA": Image.new("RGBA", (W, H), (1, 2, 3, 4)),
    "16 bit": Image.fromarray(np.full((H, W), 40_000, np.uint16)),
    "palette": Image.new("P", (W, H), 3),
    "1x1": Image.new("RGB", (1, 1), (200, 100, 0)),
}


@pytest.mark.parametrize("kind", GOOD_IMAGES)
def test_an_unusual_image_simply_works(capsys, folder, settings, tmp_path, kind):
    GOOD_IMAGES[kind].save(image(folder))
    if kind == "1x1":
        for path in (folder / "train").glob("*/image 3.*"):
            if path.parent.name != "images":
                path.unlink()
        np.save(folder / "train/depth/image 3.npy", np.ones((1, 1)))
    run = tmp_path / "run"
    done(capsys, "train", "--config", settings, "--data", folder, "--labels", "as-found", "--epochs", 1, "--out", run)
    done(capsys, "evaluate", run, "--split", "train", "--json", tmp_path / "scores.json")
    done(capsys, "predict", run, image(folder), "--out", tmp_path / "p")
    with Image.open(tmp_path / "p/semseg/image 3.png") as classes:
        assert classes.size == GOOD_IMAGES[kind].size


BAD_PARTITIONS = {
    "unknown image": ("image 99\tdepth\n", ["line 1", "no image 'image 99'", "Did you mean 'image"]),
    "unknown task": ("image 0\tdept\n", ["line 1", "no task 'dept'", "Did you mean 'depth'"]),
    "not annotated": ("image 0\tdepth\nimage 1\tsemseg\n", ["line 2", "'image 1' has no annotation for 'semseg'"]),
    "twice": ("image 0\tdepth\nimage 0\tsemseg\n", ["line 2", "stands twice"]),
    "nothing visible": ("# nothing\n", ["visible label"]),
    "binary": ("\x00\ufffe\udcff", ["not a text file"]),
}


@pytest.mark.parametrize("mistake", BAD_PARTITIONS)
def test_a_bad_partition(capsys, folder, settings, tmp_path, mistake):
    text, words = BAD_PARTITIONS[mistake]
    (folder / "train/semseg/image 1.png").unlink()
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    arguments = ["--config", settings, "--data", folder, "--labels", path, "--out", tmp_path / "run"]
    said = refused(capsys, "train", *arguments)
    for word in words if mistake == "nothing visible" else [str(path), *words]:
        assert word in said, said
    assert not (tmp_path / "run").exists()


BAD_OPTIONS = {
    "unknown option": (["--epchs", 3], ["--epchs", "'--epochs'"]),
    "wrong type": (["--epochs", "three"], ["--epochs three", "a whole number"]),
    "wrong word": (["--method", "featur"], ["--method featur", "one of feature, prediction, multitask", "'feature'"]),
    "out of range": (["--epochs", 0], ["--epochs 0", "1 or more"]),
    "negative": (["--lr=-1"], ["--lr", "or more"]),
    "too few values": (["--size", 32], ["--size: give 2 values"]),
    "unknown labels": (["--labels", "on"], ["--labels on", "'one'"]),
    "unknown task": (["--tasks", "dept"], ["--tasks dept", "'depth'"]),
    "unknown backbone": (["--backbone", "resnet81"], ["--backbone resnet81", "Did you mean 'resnet18'"]),
    "no feature maps": (["--backbone", "mixer_b16_224"], ["--backbone mixer_b16_224", "choose another", "resnet18"]),
    "backbone weights missing": (["--backbone-weights", "no.pth"], ["no.pth", "no such file"]),
    "unknown weight": (["--task-weights", '{"dept": 2}'], ["--task-weights dept", "'depth'"]),
    "widths": (["--width", 18], ["--width 18", "multiple"]),
    "batch": (["--batch", 500], ["500", "label"]),
    "holdout": (["--holdout", 1.5], ["--holdout 1.5", "between 0 and 0.9"]),
    "device": (["--accelerator", "tpu"], ["--accelerator tpu"]),
    "precision": (["--precision", "12"], ["--precision 12", "32-true"]),
    "no config": (["--config", "no.yaml"], ["no.yaml", "no such file"]),
    "config without a name": (["--config"], ["--config", "YAML"]),
    "limit": (["--max-pixels", 100], ["image 0.png", "24x32", "limit of 100", "--max-pixels"]),
}


@pytest.mark.parametrize("mistake", BAD_OPTIONS)
def test_a_bad_option(capsys, folder, settings, tmp_path, mistake):
    given, words = BAD_OPTIONS[mistake]
    arguments = ["--config", settings, "--data", folder, "--out", tmp_path / "run", *given]
    said = refused(capsys, "train", *arguments)
    for word in words:
        assert word in said, said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epchs: 3", ["unknown option 'epchs'", "Did you mean 'epochs'"]),
        ("epochs: three", ["--epochs three", "a whole number"]),
        ("- epochs", ["one option a line"]),
        ("epochs: [", ["not valid YAML"]),
        ("a: &x 1\nepochs: *x", ["line 2", "aliases"]),
    ],
)
def test_a_bad_config_file(capsys, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    said = refused(capsys, "train", "--config", path, "--out", tmp_path / "run")
    for word in [str(path), *words]:
        assert word in said, said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["no command 'trian'", "Did you mean 'train'"]),
        (["data"], ["inspect, partition, pack, rooms"]),
        (["data", "insect"], ["inspect, partition, pack, rooms"]),
        (["--hlep"], ["no command '--hlep'"]),
        (["train"], ["--out"]),
        (["export", "run"], ["--out is missing; for example: diffusionmtl export"]),
        (["predict", "run"], ["IMAGES and --out are missing; for example: diffusionmtl predict"]),
        (["evaluate", "run", "--checkpoint", "bst"], ["--checkpoint bst", "'best'"]),
        (["evaluate", "run", "--samples", "0"], ["--samples 0: must be more than 0"]),
        (["evaluate", "run", "--jobs", "two"], ["--jobs two: expected a number"]),
        (["serve", "run", "--port", "99999"], ["--port 99999: must be from 1 to 65535"]),
        (["predict", "run", "a.png", "--out", "x", "--seed", "-1"], ["--seed -1: must be 0 or more"]),
        (["data", "rooms", "--out", "x", "--train", "0"], ["0"]),
        (["data", "rooms", "--out", "x", "--train", "1", "--labels", "tow"], ["--labels tow", "one, random"]),
        (["data", "inspect", "nowhere"], ["nowhere", "no such folder"]),
        (["import", "nowhere.pth", "--out", "x"], ["nowhere.pth", "no such file"]),
    ],
    ids=" ".join,
)
def test_a_bad_command(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments)
    for word in words:
        assert word in said, said
    assert list(tmp_path.iterdir()) == []


def test_out_that_cannot_be_used(capsys, folder, settings, tmp_path, tiny_run, monkeypatch):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.txt").write_text("precious")
    run = shutil.copytree(tiny_run, tmp_path / "run")
    train = ["train", "--config", settings, "--data", folder]
    before = files_below(tmp_path)
    for out, words in {
        "file": "is a file",
        "file/below": "is a file",
        "taken": "exists and is not empty",
        "run": "holds a run already; continue it with --resume",
    }.items():
        said = refused(capsys, *train, "--out", tmp_path / out)
        assert f"--out {tmp_path / out}: " in said
        assert words in said
    for command in (["predict", run, image(folder)], ["data", "rooms", "--train", 1, "--val", 0], ["demo"]):
        for out in ("file", "file/below"):
            assert "a file" in refused(capsys, *command, "--out", tmp_path / out)
    assert "file" in refused(capsys, "evaluate", run, "--json", tmp_path / "file/scores.json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written to" in refused(capsys, *train, "--out", tmp_path / "new")
    assert files_below(tmp_path) == before


def test_out_that_turns_out_not_to_be_writable(capsys, tiny_run, tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    said = refused(capsys, "predict", tiny_run, tmp_path / "a.png", "--out", tmp_path / "p")
    assert "cannot be written to (Permission denied)" in said


def test_resume_without_a_run(capsys, tmp_path):
    said = refused(capsys, "train", "--resume", "--out", tmp_path / "nothing")
    assert "--resume" in said
    assert "holds no run" in said
    assert list(tmp_path.iterdir()) == []


def another_task_set(run: RunFolder) -> None:
    weights = run.checkpoints / "last.safetensors"
    settings, _ = restore_run(read_network(weights)[1], "")
    tasks = (Depth("heat"),)
    save_network(build_network(tasks, settings.network), weights, describe_run(settings, tasks))


BAD_WEIGHTS = {
    "truncated": (lambda run: halved(run.checkpoints / "last.safetensors"), ["not a readable safetensors file"]),
    "empty": (lambda run: replaced(run.checkpoints / "last.safetensors", b""), ["not a readable safetensors file"]),
    "not a checkpoint": (lambda run: replaced(run.checkpoints / "last.safetensors", b"x" * 999), ["not a readable"]),
    "missing": (
        lambda run: (run.checkpoints / "last.safetensors").unlink(),
        ["no checkpoints/last.safetensors", "--resume"],
    ),
    "no run": (lambda run: [shutil.rmtree(run.checkpoints), run.config.unlink()], ["not a run folder"]),
    "another task set": (another_task_set, ["'rooms' has tasks", "the network heat", "none in common"]),
}


@pytest.mark.parametrize("mistake", BAD_WEIGHTS)
def test_bad_weights(capsys, tiny_run, tmp_path, mistake):
    damage, words = BAD_WEIGHTS[mistake]
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    damage(run)
    said = refused(capsys, "evaluate", run.root)
    for word in words if mistake == "another task set" else [str(run.root), *words]:
        assert word in said, said
    assert not run.metrics.exists()


def test_weights_of_others_are_named_as_such(capsys, tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    said = refused(capsys, "evaluate", tmp_path / "other.safetensors")
    assert "not a network of this package" in said
    said = refused(capsys, "train", "--resume-weights", tmp_path / "other.safetensors", "--out", tmp_path / "run")
    assert "not a network of this package" in said


def test_best_weights_of_a_run_without_held_out_images(capsys, tiny_run, tmp_path):
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    (run.checkpoints / "best.safetensors").unlink()
    said = refused(capsys, "evaluate", run.root, "--checkpoint", "best")
    assert "held no images out" in said
    assert "use 'last'" in said


def test_evaluation_data_of_another_meaning(capsys, tiny_run, folder):
    said = refused(capsys, "evaluate", tiny_run, "--data", folder)
    assert "'semseg' is segmentation with 4 channels" in said
    assert "same task set" in said
    assert "no split 'test'" in refused(capsys, "evaluate", tiny_run, "--split", "test")
    assert "no such folder" in refused(capsys, "evaluate", tiny_run, "--data", folder / "nowhere")
    assert "device nix: " in refused(capsys, "evaluate", tiny_run, "--device", "nix")


def test_a_missing_extra_is_named(capsys, monkeypatch, tmp_path):
    def no_lightning(name):
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch")

    monkeypatch.setattr("diffusionmtl.cli.settings_from_parsed", no_lightning)
    said = refused(capsys, "train", "--out", tmp_path / "run")
    assert "pip install 'diffusionmtl[train]'" in said
