"""`evaluate --calibrate` and `--uncertainty`: what they write, and that predictions use it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.cli import main
from diffusionmtl.inference.calibration import class_entropy
from diffusionmtl.inference.load import load


@pytest.fixture
def run(tiny_run, tmp_path, capsys) -> Path:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert main(["evaluate", str(copy), "--calibrate", "--samples", "2"]) == 0, capsys.readouterr().err
    return copy


def test_calibrated_measured_and_used(run, tmp_path, capsys):
    said = json.loads((run / "calibration.json").read_text())
    assert said["samples"] == 2 and said["noise_scale"] == 1.0
    assert all({"images", "pixels", "before", "after"} <= of.keys() for of in said["tasks"].values())
    # Rooms of one label each: a task whose label was not held out has no calibration.
    depth = said["tasks"]["depth"]

    assert main(["evaluate", str(run), "--uncertainty", "--samples", "2"]) == 0
    table = capsys.readouterr().out
    assert "AUSE draws" in table and "calibrated" in table and (run / "uncertainty.svg").stat().st_size > 1000
    found = json.loads((run / "uncertainty.json").read_text())
    assert found["tasks"]["depth"]["after"]["error"] >= 0 and found["tasks"]["depth"]["images"] == 2
    assert not (run / "metrics.json").exists()

    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(image)
    spreads, answers = [], []
    for word in ([], ["--uncalibrated"]):
        out = tmp_path / f"out{len(word)}"
        assert main(["predict", str(run), str(image), "--out", str(out), "--samples", "2", *word]) == 0
        spreads.append(np.load(out / "uncertainty/depth/a.npy"))
        answers.append(np.load(out / "depth/a.npy"))
    assert np.array_equal(*answers)
    stated = {name for name, of in said["tasks"].items() if "temperature" in of}
    assert {path.name for path in (tmp_path / "out0").glob("confidence/*")} == stated
    assert all((tmp_path / "out0/confidence" / name / "a.png").is_file() for name in stated)
    assert not (tmp_path / "out1/confidence").exists()
    semseg = load(run, calibrated=False)(image, samples=2)["semseg"]
    classes = class_entropy([(semseg.task, semseg.estimate[None])])[0].numpy()
    right = depth["scale"] * spreads[1] + depth["floor"] + depth["classes"] * classes + depth["extent"] * answers[0]
    assert np.allclose(spreads[0], right, rtol=1e-4)

    capsys.readouterr()
    spread = [name for name, of in said["tasks"].items() if "scale" in of]
    for words in (["--flip"], ["--flip", "--uncalibrated"], []):
        out = tmp_path / f"flip{''.join(words)}"
        assert main(["predict", str(run), str(image), "--out", str(out), "--samples", "2", *words]) == 0
        noted = f"uncertainty of {', '.join(sorted(spread))} is the spread, not the calibrated error"
        assert (noted in capsys.readouterr().err) == (words == ["--flip"])
    assert main(["predict", str(run), str(image), "--out", str(tmp_path / "b"), "--noise-scale", "3"]) == 2
    assert "was made with --noise-scale 1, not 3" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--uncertainty", "--split", "train"]) == 2
    assert "would flatter" in capsys.readouterr().err


def test_mistakes(tiny_run, tmp_path, capsys):
    assert main(["evaluate", str(tiny_run), "--ensemble", str(tiny_run)]) == 2
    assert "--ensemble: means nothing without --uncertainty" in capsys.readouterr().err
    assert main(["evaluate", str(tiny_run), "--uncertainty", "--precision", "bf16"]) == 2
    assert "--precision bf16: is for scores" in capsys.readouterr().err
    weights = tiny_run / "checkpoints" / "last.safetensors"
    assert main(["evaluate", str(weights), "--calibrate", "--data", "rooms"]) == 2
    assert "nobody knows what was held out" in capsys.readouterr().err


def test_an_ensemble_is_measured(tiny_run, tmp_path, capsys):
    out = tmp_path / "together.json"
    words = ["--uncertainty", "--ensemble", str(tiny_run), "--json", str(out)]
    assert main(["evaluate", str(tiny_run), *words]) == 0
    assert "AUSE 2 networks" in capsys.readouterr().out
    assert json.loads(out.read_text())["ensemble"] == [str(tiny_run)] and out.with_suffix(".svg").exists()
