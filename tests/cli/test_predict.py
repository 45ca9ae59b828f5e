"""`diffusionmtl predict`: names, resuming, tiles, data sets of answers, videos, memory."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.cli import main
from diffusionmtl.commands import predict as command
from diffusionmtl.commands.predict import Request, predict
from diffusionmtl.commands.sources import find_sources
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.inference.load import load
from diffusionmtl.inference.tiles import Tiling
from diffusionmtl.inference.video import write_video
from tests.cli.terminal import done, files_below, refused


def photo(path: Path, size: tuple[int, int] = (20, 30), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_names_are_those_below_what_was_given(tmp_path, monkeypatch):
    for name in ("in/a b/x.png", "in/ü/x.png", "in/x.tar.jpg", "in/.hidden/x.png", "in/.x.png", "in/x.txt", "in/c.MP4"):
        photo(tmp_path / "in" / "p.png").replace(tmp_path / "p.png")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p.png").replace(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    below = ["a b/x", "c", "x.tar", "ü/x"]
    for given in ("in", str(tmp_path / "in"), "./in/"):
        assert sorted(s.name for s in find_sources([given])) == below
    assert [s.name for s in find_sources(["in/*/x.png"])] == ["a b/x", "ü/x"]
    assert [s.name for s in find_sources(["in/**/x.png"])] == ["a b/x", "ü/x"]
    assert [s.name for s in find_sources(["i*/ü"])] == ["in/ü/x"]
    assert [s.name for s in find_sources(["in/ü/x.png", "in/ü"])] == ["x"]


def test_answers_that_share_a_name_get_numbers_that_stay(tiny_run, tmp_path):
    one, other = photo(tmp_path / "a/same.png", seed=1), photo(tmp_path / "b/Same.png", seed=2)
    out = tmp_path / "out"
    asked = dict(request=Request(samples=1), progress=False)
    assert [p.name for p in predict(tiny_run, [str(one), str(other)], out, **asked)] == ["same.png", "Same-2.png"]
    # Called with the second alone, its answer stays where it is and the first one's is left alone.
    before = files_below(out)
    assert [p.name for p in predict(tiny_run, [str(other)], out, **asked)] == ["Same-2.png"]
    assert files_below(out) == before


def test_resuming_leaves_out_what_is_done_and_nothing_else(tiny_run, tmp_path, monkeypatch):
    for i, name in enumerate("abc"):
        photo(tmp_path / f"in/{name}.png", seed=i)
    out, given = tmp_path / "out", [str(tmp_path / "in")]
    seen: list[str] = []
    usual = command.Job._image

    def watched(job, source, *rest):
        if source.path.stem == "c" and not seen.count("c"):
            seen.append("c")
            raise KeyboardInterrupt
        seen.append(source.path.stem)
        return usual(job, source, *rest)

    monkeypatch.setattr(command.Job, "_image", watched)
    words = ["predict", str(tiny_run), *given, "--out", str(out), "--samples", "1"]
    assert main(words) == 130

    def again(**words) -> list[str]:
        seen.clear()
        seen.append("c")
        request = Request(samples=words.pop("samples", 1), **words)
        assert len(predict(tiny_run, given, out, request, resume=True, progress=False)) == 3
        return seen[1:]

    assert again() == ["c"]
    assert again() == []
    photo(tmp_path / "in/b.png", seed=9)
    assert again() == ["b"]
    (out / "depth/a.png").unlink()
    assert again() == ["a"]
    assert again(flip=True) == again(seed=1) == again(tiling=Tiling((32, 32), 8)) == ["a", "b", "c"]
    assert not list(out.rglob("*.part"))


def test_the_files_are_those_of_the_predictor(tiny_run, tmp_path):
    image = photo(tmp_path / "a.png", (150, 100))
    request = Request(2, 3, Tiling((64, 64), 16), True)
    predict(tiny_run, [str(image)], tmp_path / "out", request, progress=False)
    prediction = load(tiny_run)(image, 2, 3, tiling=request.tiling, flip=True)
    for file in prediction.save(tmp_path / "python", "a"):
        assert (tmp_path / "out" / file.relative_to(tmp_path / "python")).read_bytes() == file.read_bytes(), file


def test_answers_are_a_data_set(capsys, tiny_run, tmp_path):
    photo(tmp_path / "in/x/a b.png")
    photo(tmp_path / "in/c.jpg", (40, 20))
    out = tmp_path / "out"
    done(capsys, "predict", tiny_run, tmp_path / "in", "--out", out, "--samples", 1)
    dataset = FolderDataset.open(out / "dataset", "train")
    assert dataset.names == ("c", "x/a b")
    assert all(dataset.annotated(i) == {task.name for task in dataset.tasks} for i in range(2))
    assert dataset.image(1).shape == (3, 30, 20)
    assert (out / "dataset/train/images/c.jpg").read_bytes() == (tmp_path / "in/c.jpg").read_bytes()
    for file, data in files_below(out / "dataset/train").items():
        assert file.startswith("images/") or (out / file).read_bytes() == data
    assert "nothing that training would refuse" in done(capsys, "data", "inspect", out / "dataset", "--all")


def test_tiles_that_make_no_sense(capsys, tiny_run, tmp_path):
    words = ["predict", tiny_run, photo(tmp_path / "a.png"), "--out", tmp_path / "out"]
    assert "--tile H W" in refused(capsys, *words, "--overlap", 8)
    assert "at most 32" in refused(capsys, *words, "--tile", 64, 64, "--overlap", 33)


def test_videos(capsys, tiny_run, tmp_path):
    av = pytest.importorskip("av")
    pictures = [Image.open(photo(tmp_path / f"frames/{i}.png", (64, 48), i)) for i in range(5)]
    write_video(tmp_path / "in/clip.mp4", pictures, Fraction(10))
    (tmp_path / "in/broken.mp4").write_bytes(b"nothing")
    out = tmp_path / "out"
    words = ["predict", tiny_run, tmp_path / "in", "--out", out, "--samples", 1, "--every", 2]
    assert "1 of 2 images could not be predicted" in refused(capsys, *words)
    found = sorted(str(p.relative_to(out / "pictures")) for p in (out / "pictures/clip").iterdir())
    tasks = [task.name for task in load(tiny_run).tasks]
    assert found == sorted([f"clip/00000{i}.png" for i in (0, 2, 4)] + [f"clip/{task}.mp4" for task in tasks])
    with av.open(str(out / "pictures/clip/depth.mp4")) as film:
        assert film.streams.video[0].frames == 3
    assert len(FolderDataset.open(out / "dataset", "train")) == 3
    before = {p: p.stat().st_mtime_ns for p in (out / "pictures/clip").iterdir()}
    assert "broken.mp4" in refused(capsys, *words, "--resume")
    assert {p: p.stat().st_mtime_ns for p in before} == before


PEAK = """
import resource, sys
from diffusionmtl.cli import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_answers(tiny_run, tmp_path):
    """Twice the rows need little more than the image itself: all answers of all draws would be 1 GB more."""

    def peak(height: int) -> float:
        image = photo(tmp_path / f"{height}.png", (512, height))
        words = ["predict", str(tiny_run), str(image), "--out", str(tmp_path / f"out{height}"), "--samples", "4"]
        call = [sys.executable, "-c", PEAK, *words, "--tile", "256", "256"]
        said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
        return int(said.split()[-1]) / 1e3

    # A band of rows, which is what is kept, is smaller than either.
    small, large = peak(5000), peak(10000)
    # Four copies of the image, which Pillow and the network's form of it take: 30 MB.
    assert large - small < 100, (small, large)
