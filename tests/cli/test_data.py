"""`diffusionmtl data inspect` and `data pack` on everything that `--data` can name."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffusionmtl.build import build_dataset
from diffusionmtl.config import DataSettings
from diffusionmtl.data.partition import annotations
from tests.cli.terminal import done, files_below, refused
from tests.data import miniatures
from tests.toy import TASK_NAMES


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    root = tmp_path_factory.mktemp("benchmarks")
    return {
        "pascal-context": miniatures.pascal_context(root / "PASCALContext"),
        "nyud": miniatures.nyud_pictures(root / "nyud"),
        "cityscapes": miniatures.cityscapes_arrays(root / "cityscapes"),
    }


def opened(root, split="train"):
    return build_dataset(DataSettings(data=(str(root),)), split)


@pytest.mark.parametrize("name", ["pascal-context", "nyud", "cityscapes"])
def test_inspect_a_benchmark(capsys, benchmarks, name, tmp_path):
    sheet, found = tmp_path / "sheet.png", tmp_path / "found.json"
    words = ["--root", benchmarks[name], "--all", "--sheet", sheet, "--json", found]
    said = done(capsys, "data", "inspect", name, *words)
    assert "nothing that training would refuse" in said and "semseg" in said
    first = json.loads(found.read_text())
    assert [split["split"] for split in first["splits"]] == ["train", "val"]
    assert Image.open(sheet).size[0] > 500
    assert done(capsys, "data", "inspect", "--data", name, *words) == said


def test_parts_of_nobody_are_no_reason_to_warn(capsys, benchmarks):
    said = done(capsys, "data", "inspect", "pascal-context", "--root", benchmarks["pascal-context"])
    assert "unknown everywhere" not in said


def test_inspect_says_what_is_missing(capsys, tmp_path):
    assert "--root DIR" in refused(capsys, "data", "inspect", "nyud")
    assert "NYUD-v2 expected" in refused(capsys, "data", "inspect", "nyud", "--root", tmp_path)
    assert "name the data" in refused(capsys, "data", "inspect")
    assert "name the data" in refused(capsys, "data", "inspect", "rooms", "--data", "rooms")


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_pack_inspect_and_train_from_it(capsys, folder, settings, tmp_path, form):
    before = files_below(folder)
    out = tmp_path / "packed"
    words = ["--data", folder, "--labels", "one", "--seed", 1, "--format", form, "--shard-size", 3, "--out", out]
    said = done(capsys, "data", "pack", *words)
    assert f"{out}: train" in said and "val 2 images with all labels" in said
    assert files_below(folder) == before
    assert all(len(tasks) == 1 for tasks in annotations(opened(out)).values())
    assert all(tasks == set(TASK_NAMES) for tasks in annotations(opened(out, "val")).values())
    assert (len(list((out / "train").glob("*.tar"))) == 3) == (form == "shards")
    said = done(capsys, "data", "inspect", out, "--sheet", tmp_path / "sheet.png")
    assert "nothing that training would refuse" in said
    done(capsys, "train", "--data", out, "--out", tmp_path / "run", "--config", settings)
    done(capsys, "evaluate", tmp_path / "run")
    assert "not an empty folder" in refused(capsys, "data", "pack", *words)


def test_runs_on_shards_and_on_the_folder_are_the_same_run(capsys, folder, settings, tmp_path):
    done(capsys, "data", "pack", "--data", folder, "--format", "shards", "--out", tmp_path / "toys2/toys")
    for run, data in (("one", folder), ("two", tmp_path / "toys2/toys")):
        done(capsys, "train", "--data", data, "--out", tmp_path / run, "--config", settings)
    weights = [tmp_path / run / "checkpoints/last.safetensors" for run in ("one", "two")]
    assert _tensors(weights[0]) == _tensors(weights[1])


def _tensors(path):
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(path).items()}


def test_pack_a_benchmark_with_its_partition(capsys, benchmarks, tmp_path):
    names = miniatures.IDS["train"]
    partition = tmp_path / "one.txt"
    words = ["--data", "pascal-context", "--root", benchmarks["pascal-context"]]
    done(capsys, "data", "partition", *words, "--labels", "one", "--out", partition)
    done(capsys, "data", "pack", *words, "--labels", partition, "--splits", "train", "--out", tmp_path / "out")
    packed = opened(tmp_path / "out")
    assert packed.names == names and all(len(t) == 1 for t in annotations(packed).values())
    assert not (tmp_path / "out/val").exists()
    for name in names:
        jpeg = benchmarks["pascal-context"] / f"JPEGImages/{name}.jpg"
        assert (tmp_path / f"out/train/images/{name}.jpg").read_bytes() == jpeg.read_bytes()


def test_pack_rooms_and_several(capsys, folder, tmp_path):
    rooms = ["--data", "rooms", "--rooms", 2, "--rooms-val", 1, "--size", 32, 32]
    done(capsys, "data", "pack", *rooms, "--data", folder, "--format", "shards", "--out", tmp_path / "out")
    packed = opened(tmp_path / "out")
    assert len(packed) == 10 and "rooms/room-00000" in packed.names and "toys/image 3" in packed.names


def test_pack_says_what_is_wrong(capsys, folder, tmp_path):
    assert "--data" in refused(capsys, "data", "pack", "--out", tmp_path / "out")
    assert "no such folder" in refused(capsys, "data", "pack", "--data", tmp_path / "x", "--out", tmp_path / "out")
    assert "no split 'test'" in refused(
        capsys, "data", "pack", "--data", folder, "--splits", "test", "--out", tmp_path / "out"
    )
    assert "--shard-size" in refused(
        capsys, "data", "pack", "--data", folder, "--shard-size", 0, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["rooms", "nyud"])
def test_a_folder_called_as_what_comes_with_the_package(capsys, folder, tmp_path, monkeypatch, name):
    folder.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for command in (["data", "inspect", name], ["data", "pack", "--data", name, "--out", "packed"]):
        said = refused(capsys, *command)
        assert f"--data {name}: also a folder here" in said and f"write ./{name} for the folder" in said
    assert not Path("packed").exists()
    assert done(capsys, "data", "inspect", f"./{name}").count("  train  8 ") == 1
