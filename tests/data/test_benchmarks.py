"""The published benchmarks by their words, as `--data WORD --root DIR` asks for them."""

import pytest

from diffusionmtl.build import build_dataset
from diffusionmtl.config import DataSettings
from diffusionmtl.data.benchmarks import BENCHMARKS
from diffusionmtl.errors import UserError
from tests.data import miniatures as m


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder that holds all of them."""
    root = tmp_path_factory.mktemp("data")
    m.pascal_context(root / "PASCALContext")
    m.nyud_arrays(root / "nyuv2")
    m.cityscapes_arrays(root / "cityscapes2")
    return root


@pytest.mark.parametrize(
    ("word", "tasks", "classes"),
    [
        ("pascal-context", ["semseg", "human_parts", "sal", "normals", "edge"], 21),
        ("nyud", ["semseg", "depth", "normals"], 13),
        ("cityscapes", ["semseg", "depth"], 7),
        ("cityscapes-19", ["semseg", "depth"], 19),
        ("cityscapes-2", ["semseg", "depth"], 2),
    ],
)
def test_every_word_opens_its_benchmark(root, word, tasks, classes):
    dataset = build_dataset(DataSettings(data=(word,), root=str(root)), "train")
    assert [task.name for task in dataset.tasks] == tasks and dataset.tasks[0].channels == classes
    assert len(dataset) == 3 and len(build_dataset(DataSettings(data=(word,), root=str(root)), "val")) == 2


def test_several_are_joined(root):
    settings = DataSettings(data=("pascal-context", "nyud"), root=str(root))
    joined = build_dataset(settings, "train")
    names = {task.name for task in joined.tasks}
    assert names >= {"semseg_pascal-context", "semseg_nyud", "normals", "depth", "edge"}
    assert joined.names[0] == "pascal-context/2008_000002" and joined.names[3] == "nyud/0"
    chosen = build_dataset(DataSettings(data=settings.data, root=str(root), tasks=("semseg_nyud",)), "train")
    assert [task.name for task in chosen.tasks] == ["semseg_nyud"]


def test_files_of_tasks_that_are_not_chosen_may_be_missing(tmp_path):
    for path in (m.nyud_arrays(tmp_path) / "train" / "normal").iterdir():
        path.unlink()
    chosen = build_dataset(DataSettings(data=("nyud",), root=str(tmp_path), tasks=("depth",)), "train")
    assert [task.name for task in chosen.tasks] == ["depth"]


def test_a_task_that_it_does_not_have(root):
    with pytest.raises(UserError, match="--tasks dept: .* Did you mean 'depth'. Known: semseg, depth, normals"):
        build_dataset(DataSettings(data=("nyud",), root=str(root), tasks=("semseg", "dept")), "train")


@pytest.mark.parametrize("word", BENCHMARKS)
def test_no_folder_named(word):
    with pytest.raises(UserError, match=rf"--data {word}: say where its files are with --root DIR\. Published by"):
        build_dataset(DataSettings(data=(word,)), "train")


@pytest.mark.parametrize("word", BENCHMARKS)
def test_a_folder_without_it(tmp_path, word):
    with pytest.raises(UserError, match=r"expected .*; found an empty folder\. Published by"):
        build_dataset(DataSettings(data=(word,), root=str(tmp_path)), "train")
