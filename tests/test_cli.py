"""The program as a person at a terminal meets it: every command, its help, and every mistake in one clear line."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffusionmtl.build import build_network, describe_run, restore_run
from diffusionmtl.cli import COMMANDS, main
from diffusionmtl.commands import demo
from diffusionmtl.config import changed, read_yaml
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.inference.load import load
from diffusionmtl.models.pretrained import read_network, save_network
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Depth
from tests.runs import TINY, Interrupt, with_callback
from tests.toy import TASK_NAMES, ToyDataset

H, W = 24, 32


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory):
    """Eight toy pictures with every label for training, two for validation."""
    root = tmp_path_factory.mktemp("good") / "toys"
    export_folder(root, {"train": ToyDataset(8), "val": ToyDataset(2)})
    return root


@pytest.fixture
def folder(good_folder, tmp_path):
    return Path(shutil.copytree(good_folder, tmp_path / "toys"))


@pytest.fixture
def settings(tmp_path):
    """A YAML file of tiny settings, in the words of the command line."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items() if k != "data"}))
    return path


def files_below(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def refused(capsys, *arguments: object) -> str:
    """What one mistake says: one line on stderr, exit status 2."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert "Traceback" not in err + out
    assert lines[0].startswith("diffusionmtl: ")
    return lines[0].removeprefix("diffusionmtl: ")


def done(capsys, *arguments: object) -> str:
    """What a command prints that does what it is asked to."""
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


# Help


def test_the_overview_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        said = done(capsys, *arguments)
        for command in COMMANDS:
            assert f"  {command} " in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_its_options_and_an_example(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"usage: diffusionmtl {command}" in said
    assert f"Example: diffusionmtl {command}" in said
    assert "--config" in said


def test_every_example_is_one_that_the_command_understands():
    from diffusionmtl.arguments import Parser, parsed

    for command, (add_arguments, _, _, example) in COMMANDS.items():
        parser = Parser(prog=command)
        add_arguments(parser)
        parsed(parser, example.split()[1 + len(command.split()) :])


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from diffusionmtl.cli import COMMANDS, main\n"
        "main(['--help'])\n"
        "for command in COMMANDS:\n"
        "    try: main([*command.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'lightning', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_version(capsys):
    import diffusionmtl

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == diffusionmtl.__version__


def test_the_program_itself(tmp_path):
    """Installed or not, in a process of its own: nothing but the line reaches stderr."""
    program = [sys.executable, "-m", "diffusionmtl.cli"]
    ended = subprocess.run([*program, "evaluate", str(tmp_path / "nothing")], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "no such run" in ended.stderr
    assert ended.stdout == ""


# From end to end


def test_train_evaluate_report_predict(capsys, folder, settings, tmp_path):
    run = tmp_path / "runs/first"
    said = done(capsys, "train", "--config", settings, "--data", folder, "--size", H, W, "--epochs", 1, "--out", run)
    assert f"diffusionmtl evaluate {run} --data {folder}" in said
    kept = read_yaml(run / "config.yaml")
    assert (kept["epochs"], kept["width"], kept["data"]) == (1, TINY["width"], [str(folder)])

    table = done(capsys, "evaluate", run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["final"]) == set(metrics["initial"]) == set(TASK_NAMES)
    assert metrics["images"] == dict.fromkeys(TASK_NAMES, 2)
    for task, figures in metrics["final"].items():
        for name in figures:
            assert "@" in name or "/" in name, f"{task}: {name} does not carry its protocol"
            assert "/" in name or f"{name} " in table

    elsewhere = tmp_path / "scores.json"
    done(capsys, "evaluate", run, "--json", elsewhere, "--split", "train", "--samples", 2, "--tasks", "depth")
    assert json.loads(elsewhere.read_text())["images"] == {"depth": 8}
    assert json.loads((run / "metrics.json").read_text()) == metrics

    page = Path(done(capsys, "report", run).strip())
    assert page == run / "report.html"
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")

    said = done(capsys, "predict", run, folder / "val/images", "--out", tmp_path / "p", "--samples", 2)
    assert said.startswith("2 image(s) predicted; look at ")
    assert Path(said.split("look at ")[1].strip()).is_file()


@pytest.mark.parametrize("how", ["before", "after", "equals", "scalar"])
def test_the_command_line_overrides_a_config_file(capsys, folder, tmp_path, how):
    path = tmp_path / "some.yaml"
    path.write_text(f"data: {'nowhere' if how != 'scalar' else folder}\nwidth: 18\nlabels: one\n")
    config = [f"--config={path}"] if how == "equals" else ["--config", path]
    given = ["--width", 16] if how == "scalar" else ["--width", 16, "--data", folder]
    arguments = [*given, *config] if how == "after" else [*config, *given]
    said = done(capsys, "train", *arguments, "--describe", "--backbone", "test_efficientnet")
    assert "total" in said


def test_config_files_work_in_every_command(capsys, tiny_run, tmp_path):
    path = tmp_path / "predict.yaml"
    path.write_text(f"out: {tmp_path / 'p'}\nsamples: 2\nseed: 3\n")
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    done(capsys, "predict", "--config", path, tiny_run, tmp_path / "a.png")
    assert (tmp_path / "p/uncertainty/depth/a.npy").is_file()


def test_several_data_sets_are_joined(capsys, folder, settings, tmp_path):
    other = tmp_path / "others"
    export_folder(other, {"train": ToyDataset(4, annotated={i: ("depth",) for i in range(4)})})
    (other / "dataset.yaml").write_text("tasks: {depth: {kind: depth}}")
    run = tmp_path / "run"
    data = ["--data", folder, "--data", other]
    done(capsys, "train", "--config", settings, *data, "--labels", "as-found", "--epochs", 1, "--out", run)
    lines = [line.split("\t") for line in (run / "partition.txt").read_text().splitlines() if line[0] != "#"]
    assert {line[0].split("/")[0] for line in lines} == {"toys", "others"}
    assert all(line[1:] == ["depth"] for line in lines if line[0].startswith("others"))


def test_predict_takes_files_folders_and_globs_of_any_name(capsys, tiny_run, tmp_path):
    names = ["a/same.png", "b/same.jpg", "c/Größe 測.png", "c/[1].png", "c/.hidden.png", "c/notes.txt"]
    for i, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.new("RGB", (10 + i, 20), (40 * i, 0, 0)).save(path)
    given = [tmp_path / "a/same.png", tmp_path / "?/same.*", tmp_path / "c", tmp_path / "c/[1].png"]
    out = tmp_path / "out"
    assert done(capsys, "predict", tiny_run, *given, "--out", out).startswith("4 image(s)")
    pictures = {p.name for p in (out / "pictures").iterdir()}
    assert pictures == {"same.png", "same-2.png", "Größe 測.png", "[1].png"}
    for stem, width in (("same", 10), ("same-2", 11)):
        assert np.load(out / f"depth/{stem}.npy").shape == (20, width)
    # The same once more, into the same folder, gives the same bits.
    before = files_below(out)
    done(capsys, "predict", tiny_run, *given, "--out", out)
    assert files_below(out) == before


def test_predict_does_what_it_can_and_names_what_it_cannot(capsys, tiny_run, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"nothing")
    said = refused(capsys, "predict", tiny_run, tmp_path, "--out", tmp_path / "out")
    assert "1 of 2 images" in said
    assert "a.png: not a readable image" in said
    assert (tmp_path / "out/pictures/b.png").is_file()


def test_predict_writes_over_nothing_but_its_own(capsys, tiny_run, folder):
    before = files_below(folder)
    for out in (folder, folder / "train"):
        said = refused(capsys, "predict", tiny_run, folder / "val/images", "--out", out)
        assert "holds something other than predictions" in said
    assert files_below(folder) == before


def test_data_commands(capsys, tmp_path):
    rooms = tmp_path / "rooms"
    said = done(capsys, "data", "rooms", "--out", rooms, "--train", 7, "--val", 2, "--size", 32, 48, "--labels", "one")
    assert "of 7 images" in said
    dataset = FolderDataset.open(rooms, "train")
    assert [len(dataset.annotated(i)) for i in range(7)] == [1] * 7
    assert dataset.image(0).shape == (3, 32, 48)

    lines = tmp_path / "some.txt"
    said = done(capsys, "data", "partition", "--data", rooms, "--labels", "full", "--out", lines)
    assert str(lines) in said
    assert "[" in said
    assert "choose another name" in refused(capsys, "data", "partition", "--data", rooms, "--out", lines)

    found, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    said = done(capsys, "data", "inspect", rooms, "--all", "--json", found, "--sheet", sheet)
    assert "semseg" in said
    assert json.loads(found.read_text())
    assert Image.open(sheet).size[0] > 48


def test_inspect_says_with_its_exit_status_what_training_would_refuse(capsys, folder):
    (folder / "train/depth/image 0.npy").write_bytes(b"broken")
    assert main(["data", "inspect", str(folder)]) == 2
    assert "image 0.npy" in capsys.readouterr().out


def test_demo(capsys, monkeypatch, tmp_path):
    small = {k: v for k, v in TINY.items() if k != "data"}
    monkeypatch.setattr(demo, "demo_settings", lambda fast, usual=demo.demo_settings: changed(usual(fast), **small))
    out = tmp_path / "demo"
    said = done(capsys, "demo", "--fast", "--out", out)
    page = Path(said.strip().splitlines()[-1])
    assert page == out / "report.html"
    assert page.is_file()
    assert "Δm against the baseline" in said
    for task in ("semseg", "depth", "normals", "edge", "saliency", "human_parts"):
        assert f"\n{task} " in said
    weights = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    again = done(capsys, "demo", "--fast", "--out", out)
    assert again.count("trained already") == 2
    assert {p: p.stat().st_mtime_ns for p in weights} == weights
    assert again.split("\ntask ")[1] == said.split("\ntask ")[1]
    small["width"] = 8
    assert "holds a run with other settings" in refused(capsys, "demo", "--fast", "--out", out)


def test_ctrl_c_says_how_to_go_on(capsys, folder, settings, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(0))
        assert main(["train", "--config", str(settings), "--data", str(folder), "--out", str(run)]) == 130
    said = capsys.readouterr().err
    words = said.split("continue with: diffusionmtl ")[1].split()
    assert words == ["train", "--resume", "--out", str(run)]
    done(capsys, *words)
    load(run)


# Mistakes


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
        ["dataset.yaml", "no such file", "a minimal one", "kind: depth", "kind: segmentation"],
    ),
    "yaml broken": (lambda f: (f / "dataset.yaml").write_text("tasks: {a: ["), ["dataset.yaml", "line 1"]),
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
        ["semseg/image 2.png", "task 'semseg'", "24x24", "32x24", "aspect ratio"],
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
    "wrong type": (["--epochs", "three"], ["--epochs three", "int"]),
    "wrong word": (["--method", "featur"], ["--method featur", "one of feature, prediction, multitask", "'feature'"]),
    "out of range": (["--epochs", 0], ["--epochs 0", "1 or more"]),
    "negative": (["--lr=-1"], ["--lr", "or more"]),
    "too few values": (["--size", 32], ["--size", "2"]),
    "unknown labels": (["--labels", "on"], ["labels", "'on'", "'one'"]),
    "unknown task": (["--tasks", "dept"], ["--tasks dept", "'depth'"]),
    "unknown backbone": (["--backbone", "resnet81"], ["--backbone resnet81", "Did you mean 'resnet18'"]),
    "no feature maps": (["--backbone", "mixer_b16_224"], ["--backbone mixer_b16_224", "choose another", "resnet18"]),
    "backbone weights missing": (["--backbone-weights", "no.pth"], ["no.pth", "no such file"]),
    "unknown weight": (["--task-weights", '{"dept": 2}'], ["task_weights", "dept"]),
    "widths": (["--width", 18], ["--width 18", "multiple"]),
    "batch": (["--batch", 500], ["500", "label"]),
    "holdout": (["--holdout", 1.5], ["--holdout 1.5", "between 0 and 0.9"]),
    "device": (["--accelerator", "tpu"], ["--accelerator tpu"]),
    "precision": (["--precision", "12"], ["--precision 12", "32-true"]),
    "no config": (["--config", "no.yaml"], ["no.yaml", "no such file"]),
    "config without a name": (["--config"], ["--config", "YAML"]),
    "limit": (["--max-pixels", 100], ["image 0.png", "32x24", "limit of 100", "--max-pixels"]),
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
        ("epochs: three", ["--epochs three", "int"]),
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
        (["data"], ["inspect, partition, rooms"]),
        (["data", "insect"], ["inspect, partition, rooms"]),
        (["--hlep"], ["no command '--hlep'"]),
        (["train"], ["--out"]),
        (["evaluate"], ["run"]),
        (["predict", "run"], ["images"]),
        (["evaluate", "run", "--checkpoint", "bst"], ["--checkpoint bst", "'best'"]),
        (["evaluate", "run", "--samples", "0"], ["--samples"]),
        (["data", "rooms", "--out", "x", "--train", "0"], ["0"]),
        (["data", "rooms", "--out", "x", "--train", "1", "--labels", "tow"], ["'tow'"]),
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
    assert "--device nix" in refused(capsys, "evaluate", tiny_run, "--device", "nix")


def test_a_missing_extra_is_named(capsys, monkeypatch, tmp_path):
    def no_lightning(name):
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch")

    monkeypatch.setattr("diffusionmtl.cli.settings_from_parsed", no_lightning)
    said = refused(capsys, "train", "--out", tmp_path / "run")
    assert "pip install 'diffusionmtl[train]'" in said
