"""`diffusionmtl complete --ray`: the folder of a plain call, whoever dies, and nothing twice."""

import sys
from functools import partial
from pathlib import Path

import pytest

from diffusionmtl.cli import main
from diffusionmtl.commands import complete as command
from diffusionmtl.commands import complete_on_ray, on_ray
from diffusionmtl.commands.completing import Plan
from diffusionmtl.commands.held_out import held_out_labels
from diffusionmtl.commands.on_ray import Shared
from diffusionmtl.config import DataSettings
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.errors import UserError
from diffusionmtl.inference.complete import Asked
from diffusionmtl.inference.load import settings_of_run
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.scale.pool import Cluster, Outcome
from tests.cli.terminal import files_below, refused
from tests.runs import tiny, trained
from tests.scale import poison
from tests.toy import ToyDataset

TASKS = ("semseg", "depth")
DATA = DataSettings(data=("toys",), tasks=TASKS)
# Everything is kept, whatever it is worth.
ASKED = Asked(samples=1, thresholds=tuple((task, 0.0) for task in TASKS))
WORDS = ["--samples", 1, "--threshold", *(f"{task}=0" for task in TASKS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with data, a run on some of its labels, and what a plain call makes of both."""
    root = tmp_path_factory.mktemp("made")
    export_folder(root / "toys", {"train": ToyDataset(8)})
    settings = tiny(
        data=(str(root / "toys"),),
        tasks=TASKS,
        labels="one",
        holdout=0.3,
        epochs=1,
        batch=2,
        self_training="never",
    )
    trained(settings, root / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        command.complete(Path("run"), DATA, Path("plain"), ASKED, progress=False)
    return root


@pytest.fixture
def here(made, monkeypatch) -> Path:
    """Everything is named from here, as at a terminal."""
    monkeypatch.chdir(made)
    return made


def completed(out: Path, resume: bool = False) -> dict:
    return command.complete(Path("run"), DATA, out, ASKED, resume=resume, cluster=Cluster())


def assert_as_plain(out: Path) -> None:
    mine, theirs = files_below(out), files_below(Path("plain"))
    assert mine.keys() == theirs.keys()
    # A record holds the whole path of the image.
    assert {n for n in mine if mine[n] != theirs[n] and not n.startswith(".predicted/")} == set()


def in_this_process(elsewhere: Path):
    """`work` without Ray, in another folder, last input first."""

    def work(make, inputs, cluster):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(elsewhere)
            answer, outcomes = make(), []
            for number in reversed(range(len(inputs))):
                try:
                    outcomes.append(Outcome(number, answer(inputs[number])))
                except UserError as error:
                    outcomes.append(Outcome(number, fault=str(error)))
        yield from outcomes

    return work


def test_whoever_completes_an_image_it_is_the_same(here, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(on_ray, "work", in_this_process(tmp_path / "elsewhere"))
    assert completed(tmp_path / "out") == command.complete(Path("run"), DATA, Path("plain"), ASKED, resume=True)
    assert_as_plain(tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_one_bad_image_stops_no_other(here, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "work", in_this_process(tmp_path))
    dataset = FolderDataset.open(Path("toys"), "train")
    apart = held_out_labels(RunFolder(Path("run")), dataset, settings_of_run(Path("run")))
    index = next(i for i in range(len(dataset)) if i not in apart)
    image = dataset.image_path(index)
    good = image.read_bytes()
    try:
        image.write_bytes(good[:60])
        with pytest.raises(UserError, match=rf"1 of 8 images .* --resume: image '{image.stem}': .*not a readable"):
            completed(tmp_path / "out")
    finally:
        image.write_bytes(good)
    assert len(list((tmp_path / "out/.predicted").glob("*.json"))) == 7
    assert not (tmp_path / "out/dataset.yaml").exists()
    completed(tmp_path / "out", resume=True)
    assert_as_plain(tmp_path / "out")


@pytest.mark.parametrize("which", ["run", "out"])
def test_workers_that_see_something_else_refuse(here, tmp_path, which):
    plan = Plan(Path("run"), DATA, tmp_path, ASKED)
    identity = plan.job().identity if which == "out" else "other"
    with pytest.raises(UserError, match="on a disk that all machines share"):
        complete_on_ray._answering(plan, Shared(plan.run, tmp_path, identity, tmp_path / "token"), {})


def test_mistakes(here, tmp_path, capsys, monkeypatch):
    words = ["complete", "run", "--data", "toys", "--tasks", *TASKS, *WORDS, "--out", tmp_path / "out"]
    assert "add --ray local" in refused(capsys, *words, "--workers", 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'diffusionmtl[scale]'" in refused(capsys, *words, "--ray", "local")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_interrupted_and_continued(ray, here, tmp_path, monkeypatch, interrupted):
    """A worker is killed in the middle of an image, the call is stopped, called again, and once more for nothing."""
    names = FolderDataset.open(Path("toys"), "train").names
    make = partial(poison.dying_once_completing, tmp_path / "died", names[1])
    monkeypatch.setattr(complete_on_ray, "_answering", make)
    monkeypatch.setattr(command, "progress_bar", lambda what: interrupted if what == "completing" else lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        completed(tmp_path / "out")
    assert interrupted == [1, 2] and not (tmp_path / "out/dataset.yaml").exists()

    monkeypatch.setattr(command, "progress_bar", lambda what: lambda done, total: None)
    completed(tmp_path / "out", resume=True)
    assert (tmp_path / "died").exists()
    assert_as_plain(tmp_path / "out")
    # What was at work when the first call was stopped, one image per worker, and the one that was died of.
    answered = (tmp_path / "answered.txt").read_text().split("\n")[:-1]
    assert set(answered) == set(names) and len(answered) <= len(names) + 3

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/train").rglob("*") if p.is_file()}
    words = ["complete", "run", "--data", "toys", "--tasks", *TASKS, *WORDS, "--out", tmp_path / "out"]
    assert main([str(word) for word in (*words, "--resume", "--ray", "local", "--workers", 1)]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len((tmp_path / "answered.txt").read_text().split("\n")) == len(answered) + 1
