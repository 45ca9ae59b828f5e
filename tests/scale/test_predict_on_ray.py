"""`diffusionmtl predict --ray`: the folder of a plain call, whoever dies, and nothing twice."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.cli import main
from diffusionmtl.commands import predict_on_ray as command
from diffusionmtl.commands.on_ray import Shared
from diffusionmtl.commands.predict import Plan, Request, predict
from diffusionmtl.commands.predict_on_ray import predict_on_ray
from diffusionmtl.errors import UserError
from diffusionmtl.scale.pool import Cluster
from tests.cli.terminal import files_below, refused
from tests.scale import poison

NAMES = ("a", "b", "c", "d", "e/f")


def photos(folder: Path) -> Path:
    for seed, name in enumerate(NAMES):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (30, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_interrupted_and_continued(ray, tiny_run, tmp_path, monkeypatch, interrupted):
    """A worker is killed in the middle of an image, the call is stopped, called again, and once more for nothing."""
    monkeypatch.chdir(tmp_path)
    photos(Path("in"))
    with pytest.raises(UserError) as plain:
        predict(tiny_run, ["in", "in/a.png"], Path("plain"), Request(samples=2), progress=False)

    plan = Plan(tiny_run, Path("out"), Request(samples=2), resume=True)
    make = partial(poison.dying_once, tmp_path / "died", "b")
    monkeypatch.setattr(command, "_answering", make)
    monkeypatch.setattr(command, "progress_bar", lambda what: interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_on_ray(plan, ["in", "in/a.png"], Cluster())
    assert interrupted == [1, 2]
    for path in Path("plain/.predicted").rglob("*.json"):  # what is recorded is all there, and right
        record = Path("out") / path.relative_to("plain")
        assert not record.is_file() or record.read_bytes() == path.read_bytes()

    monkeypatch.setattr(command, "progress_bar", lambda what: lambda done, total: None)
    with pytest.raises(UserError) as continued:
        predict_on_ray(plan, ["in", "in/a.png"], Cluster())
    assert str(continued.value) == str(plain.value) and "in/bad.png: not a readable image" in str(plain.value)
    assert (tmp_path / "died").exists()
    assert files_below(Path("out")) == files_below(Path("plain"))
    # Only what was at work when the first call was stopped, one image per worker, may have been begun twice.
    answered = (tmp_path / "answered.txt").read_text().split()
    assert set(answered) == set(NAMES) and len(answered) <= len(NAMES) + 2

    before, begun = state(Path("out")), len(answered)
    Path("in/bad.png").unlink()
    monkeypatch.setattr(command, "progress_bar", lambda what: lambda done, total: None)
    pictures = predict_on_ray(plan, ["in"], Cluster())
    assert pictures == [Path("out/pictures") / f"{name}.png" for name in NAMES]
    after = state(Path("out"))
    assert after.pop(Path("out/dataset.yaml")) and after.pop(Path("out/dataset/dataset.yaml"))
    assert {path: before[path] for path in after} == after and len(before) == len(after) + 2
    assert len((tmp_path / "answered.txt").read_text().split()) == begun


@pytest.mark.slow
def test_urls_and_anew(ray, tiny_run, tmp_path, capsys):
    """Images by URL get the answers of the same images in a folder; without --resume everything is answered again."""
    folder, out = photos(tmp_path / "in"), tmp_path / "out"
    (folder / "bad.png").unlink()
    predict(tiny_run, [str(folder)], tmp_path / "plain", Request(samples=1), progress=False)
    words = ["predict", tiny_run, f"file://{folder}", "--out", out, "--samples", 1, "--ray", "local", "--workers", 1]
    for _ in range(2):
        assert main([str(word) for word in words]) == 0
        assert f"{len(NAMES)} image(s) predicted" in capsys.readouterr().out
        found = {name: data for name, data in files_below(out).items() if not name.startswith(".predicted")}
        wanted = {name: data for name, data in files_below(tmp_path / "plain").items() if ".predicted" not in name}
        assert found == wanted
        shutil.rmtree(out / "depth")


def test_mistakes(tiny_run, tmp_path, capsys, monkeypatch):
    image = photos(tmp_path / "in") / "a.png"
    words = ["predict", tiny_run, image, "--out", tmp_path / "out"]
    assert "add --ray local" in refused(capsys, *words, "--workers", 2)
    assert "add --ray local" in refused(capsys, "predict", tiny_run, "s3://shop/in", "--out", tmp_path / "out")
    # Other tests of this process may be connected to a cluster, which would be used.
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    assert "no cluster there" in refused(capsys, *words, "--ray", "127.0.0.1:9x")


@pytest.mark.parametrize("which", ["run", "out"])
def test_workers_that_see_something_else_refuse(tiny_run, tmp_path, which):
    plan = Plan(tiny_run, tmp_path, Request())
    settings = plan.job().finished.settings if which == "out" else "other"
    with pytest.raises(UserError, match="on a disk that all machines share"):
        command._answering(plan, Shared(tiny_run, tmp_path, settings, tmp_path / "token"))
