"""The program as a person at a terminal meets it: every command once from end to end, and its help."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.cli import COMMANDS, main
from diffusionmtl.commands import demo
from diffusionmtl.config import changed
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.inference.load import load
from diffusionmtl.plain_yaml import read_yaml
from tests.cli.terminal import H, W, done, files_below, refused
from tests.runs import TINY, Interrupt, with_callback
from tests.toy import TASK_NAMES, ToyDataset

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
        words = example.split()[1 + len(command.split()) :]
        understood = str(parsed(parser, words))
        assert all(word in understood for word in words if not word.startswith("--")), example


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
    assert said.rstrip().endswith(f"Next: diffusionmtl evaluate {run}")
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
    assert "absErr@pooled ↓" in table and "mIoU@pooled ↑" in table and "in percent; " in table
    assert table.rstrip().endswith(f"Next: diffusionmtl report {run}")

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
    pictures = {str(p.relative_to(out / "pictures")) for p in (out / "pictures").rglob("*.png")}
    assert pictures == {"same.png", "b/same.png", "Größe 測.png", "[1].png"}
    for stem, width in (("same", 10), ("b/same", 11)):
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


def test_a_reference_gives_the_gain_over_it(tiny_run, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(tiny_run, run)
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--reference", str(run), "--json", str(tmp_path / "scores.json")]) == 0
    assert "Δm" in capsys.readouterr().out
    gain = json.loads((tmp_path / "scores.json").read_text())["delta_m"]
    assert gain["reference"] == str(run)
    assert gain["final"] == pytest.approx(0, abs=1e-9)


def test_a_reference_scored_elsewhere_is_refused(tiny_run, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(tiny_run, run)
    (run / "metrics.json").unlink(missing_ok=True)
    assert main(["evaluate", str(run), "--reference", str(run)]) == 2
    assert "has no metrics.json; run 'diffusionmtl evaluate" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    assert main(["evaluate", str(run), "--reference", str(run)]) == 2
    assert "evaluate it there first" in capsys.readouterr().err


def test_the_pixel_limit_is_an_option_wherever_images_are_read(tiny_run, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (20, 10)).save(photo)
    asked = ["predict", str(tiny_run), str(photo), "--out", str(tmp_path / "out"), "--max-pixels"]
    assert main([*asked, "199"]) == 2
    assert "--max-pixels" in capsys.readouterr().err
    assert main([*asked, "200"]) == 0
