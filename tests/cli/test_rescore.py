"""`diffusionmtl evaluate --predictions`: what `predict` wrote scores as the run that wrote it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.data.rooms.dataset import export_rooms
from tests.cli.terminal import done, files_below, refused
from tests.data import miniatures

# What rounding in the files may change, in the figure's unit: directions are kept as bytes, probabilities too.
ROUNDING = {"mErr": 0.3, "medErr": 0.5, "rmse": 0.3, "absErr": 1e-4, "relErr": 1e-4, "<11.25": 3, "<22.5": 3, "<30": 3}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms") / "rooms"
    export_rooms(root, {"val": 1}, (32, 32), 0)
    return root


def test_predict_then_score_is_evaluate(capsys, tiny_run, rooms, tmp_path):
    out, evaluated, rescored = tmp_path / "out", tmp_path / "run.json", tmp_path / "files.json"
    done(capsys, "evaluate", tiny_run, "--data", rooms, "--json", evaluated)
    done(capsys, "predict", tiny_run, rooms / "val/images", "--out", out, "--samples", 1)
    before = files_below(out)
    table = done(capsys, "evaluate", "--predictions", out, "--data", rooms, "--json", rescored)
    assert files_below(out) == before
    one, other = json.loads(evaluated.read_text()), json.loads(rescored.read_text())
    assert one["images"] == other["images"] == dict.fromkeys(one["images"], 1)
    for task, figures in one["final"].items():
        for name, figure in figures.items():
            found = other["final"][task][name]
            assert found == pytest.approx(figure, abs=ROUNDING.get(name.split("@")[0], 1.0)), (task, name)
    assert other["initial"] == {} and "initial" not in table
    assert "odsF@seism-0.011" in table and table.split()[:4] == ["task", "figure", "images", "final"]


def test_a_list_of_images_and_missing_files(capsys, tmp_path):
    root = miniatures.pascal_context(tmp_path / "PASCALContext")
    first, second = miniatures.IDS["val"]
    out = tmp_path / "out"
    (out / "edge").mkdir(parents=True)
    height, width = miniatures.SIZE
    Image.fromarray(np.zeros((height, width), np.uint8)).save(out / "edge" / f"{second}.png")
    words = ["evaluate", "--predictions", out, "--data", "pascal-context", "--root", root]
    assert f"no prediction edge/{first}" in refused(capsys, *words)
    names = tmp_path / "names.txt"
    names.write_text(f"{second}\n")
    assert "odsF@seism-0.0075" in done(capsys, *words, "--images", names)
    done(capsys, *words, "--allow-missing", "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["images"] == {"edge": 1}
    shutil.copy(names, root / "ImageSets/Context/test_new.txt")
    done(capsys, *words)
    names.write_text("2010_00001\n")
    assert f"line 1: data set 'pascal-context' has no image '2010_00001'. Did you mean '{first}'" in refused(
        capsys, *words, "--images", names
    )
    for text in ("", "\n\n"):
        names.write_text(text)
        assert "names no image" in refused(capsys, *words, "--images", names)
    names.write_bytes(b"\xff\xfe\x00")
    assert "not readable as a list" in refused(capsys, *words, "--images", names)
    assert "no such file" in refused(capsys, *words, "--images", tmp_path / "nowhere.txt")


def test_what_does_not_go_together(capsys, tmp_path):
    assert "leave out the run" in refused(capsys, "evaluate", "run", "--predictions", tmp_path, "--data", "rooms")
    assert "--data" in refused(capsys, "evaluate", "--predictions", tmp_path)
    assert "name a run folder" in refused(capsys, "evaluate")
    assert "no such folder" in refused(
        capsys, "evaluate", "--predictions", tmp_path / "x", "--data", "rooms", "--rooms-val", 1, "--size", 32, 32
    )
    assert "--jobs" in refused(capsys, "evaluate", "--predictions", tmp_path, "--data", "rooms", "--jobs", 0)


def test_a_run_is_scored_on_the_images_that_a_list_names(capsys, tiny_run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("room-00001\n")
    words = ["evaluate", tiny_run, "--json", tmp_path / "m.json"]
    table = done(capsys, *words, "--images", names)
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert set(metrics["images"].values()) == {1} and "images" in table.splitlines()[0]
    names.write_text("room-7\n")
    assert "has no image 'room-7'" in refused(capsys, *words, "--images", names)
