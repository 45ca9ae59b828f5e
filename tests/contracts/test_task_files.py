"""Every kind of task: what it writes it reads back, and nothing else passes for a label."""

from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from diffusionmtl.errors import UserError
from diffusionmtl.labels import ValidMap
from diffusionmtl.tasks import (
    Boundary,
    Depth,
    Disparity,
    Saliency,
    SemanticSegmentation,
    SurfaceNormals,
    Task,
    task_kinds,
)

NAMES = tuple(f"class {i}" for i in range(300))
TASKS = [
    SemanticSegmentation("t", classes=NAMES[:3]),
    SemanticSegmentation("t", classes=NAMES[:255]),
    SemanticSegmentation("t", classes=NAMES),
    SemanticSegmentation("t", classes=NAMES[:3], ignore=65535),
    SemanticSegmentation("t", classes=NAMES[:3], ignore=-1),
    Depth("t"),
    Depth("t", scale=0.01),
    Disparity("t", scale=1 / 256),
    SurfaceNormals("t"),
    SurfaceNormals("t", frame="opencv"),
    Saliency("t", ignore=0),
    Saliency("t", ignore=128),
    Boundary("t", ignore=255),
    Boundary("t", ignore=127),
]
IDS = [f"{task.kind}-{i}" for i, task in enumerate(TASKS)]

sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))


def values(task: Task, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Some label [C H W] that the task can have."""
    if isinstance(task, SemanticSegmentation):
        return torch.from_numpy(rng.integers(0, task.channels, (1, *size))).to(task.label_dtype)
    if isinstance(task, Depth):
        return torch.from_numpy(rng.uniform(0.2, 60, (1, *size)).astype(np.float32))
    if isinstance(task, SurfaceNormals):
        return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(3, *size)).astype(np.float32)), dim=0)
    return torch.from_numpy(rng.random((1, *size)) < 0.5)


def test_every_kind_is_asked():
    assert {task.kind for task in TASKS} == {
        k for k, c in task_kinds().items() if c.__module__.startswith("diffusionmtl")
    }


@pytest.mark.parametrize("task", TASKS, ids=IDS)
@given(size=sizes, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_what_is_written_is_read_back(tmp_path_factory, task, size, seed, data):
    folder = tmp_path_factory.mktemp("labels")
    value = values(task, size, np.random.default_rng(seed))
    valid = torch.from_numpy(data.draw(arrays.arrays(np.bool_, size)))
    written = task.write(folder / "a.b", value, valid)
    assert {path.stem for path in written} == {"a.b"}
    for path in written:
        assert path.suffix in task.suffixes
        label, known = task.read(path)
        assert type(label) is task.label_type and type(known) is ValidMap
        assert label.dtype == task.label_dtype and label.shape == (task.label_channels, *size)
        assert torch.equal(known[0].as_subclass(Tensor), valid)
        got, want = label.as_subclass(Tensor)[:, valid].double(), value[:, valid].double()
        assert torch.allclose(got, want, rtol=0, atol=coarseness(task, path))


def coarseness(task: Task, path: Path) -> float:
    """How far a value may be from what was written: half a step of the file's numbers."""
    if path.suffix == ".npy":
        return 0.0
    if isinstance(task, Depth):
        return 0.51 * task.scale
    # A component is rounded by up to 1 / 255 and the vector then brought back to length 1.
    return 0.012 if isinstance(task, SurfaceNormals) else 0.0


@pytest.mark.parametrize("task", TASKS, ids=IDS)
@given(size=sizes)
def test_a_label_unknown_everywhere_is_read_as_such(tmp_path_factory, task, size):
    folder = tmp_path_factory.mktemp("labels")
    value = values(task, size, np.random.default_rng(0))
    for path in task.write(folder / "x", value, torch.zeros(size, dtype=torch.bool)):
        assert not task.read(path)[1].any()


@pytest.mark.parametrize("task", [Saliency("t"), Boundary("t")], ids=lambda task: task.kind)
@given(size=sizes, seed=st.integers(0, 2**32 - 1))
def test_a_yes_or_no_file_without_an_ignore_value_is_known_everywhere(tmp_path_factory, task, size, seed):
    folder = tmp_path_factory.mktemp("labels")
    value = values(task, size, np.random.default_rng(seed))
    (path,) = task.write(folder / "x", value, None)
    label, known = task.read(path)
    assert torch.equal(label.as_subclass(Tensor), value) and bool(known.all())
    with pytest.raises(UserError, match=r"x\.png: some pixels are unknown; give the task an ignore value"):
        task.write(folder / "x", value, torch.zeros(size, dtype=torch.bool))


@pytest.mark.parametrize("task", TASKS, ids=IDS)
@given(
    content=arrays.arrays(
        st.sampled_from([np.bool_, np.uint8, np.int16, np.int64, np.float16, np.float64]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_an_array_of_anything_is_a_label_or_a_clear_error(tmp_path_factory, task, content):
    path = tmp_path_factory.mktemp("labels") / "x.npy"
    np.save(path, content)
    try:
        label, valid = task.read(path)
    except UserError as error:
        assert "x.npy" in str(error) and "\n" not in str(error)
        return
    assert label.dtype == task.label_dtype
    assert label.shape[0] == task.label_channels and label.shape[1:] == valid.shape[1:] == content.shape[:2]
    assert bool(torch.isfinite(label.as_subclass(Tensor).float()).all())


EXTREMES = [1e308, -1e308, 1e30, float("inf"), float("nan"), 2**64 - 1, -(2**63), 127, 1]


@pytest.mark.parametrize("task", TASKS, ids=IDS)
@pytest.mark.parametrize("number", EXTREMES)
def test_extreme_numbers_are_labels_or_clear_errors(tmp_path, task, number):
    np.save(tmp_path / "x.npy", np.full((2, 3, 3) if isinstance(task, SurfaceNormals) else (2, 3), number))
    try:
        label, _ = task.read(tmp_path / "x.npy")
    except UserError as error:
        assert "x.npy" in str(error)
        return
    assert bool(torch.isfinite(label.as_subclass(Tensor).float()).all())


def test_components_of_normals_may_be_whole_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.tile([0, 1, 0], (2, 3, 1)))
    label, valid = SurfaceNormals("t").read(tmp_path / "x.npy")
    assert label[:, 0, 0].tolist() == [0, 1, 0] and bool(valid.all())


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order_does_not_matter(tmp_path, order):
    np.save(tmp_path / "x.npy", np.full((2, 3), 2.5, f"{order}f8"))
    assert Depth("t").read(tmp_path / "x.npy")[0].unique().tolist() == [2.5]
    np.save(tmp_path / "x.npy", np.full((2, 3), 1, f"{order}i4"))
    assert SemanticSegmentation("t", classes=("a", "b")).read(tmp_path / "x.npy")[0].unique().tolist() == [1]


def test_a_sixteen_bit_yes_is_in_the_upper_half(tmp_path):
    Image.fromarray(np.array([[0, 255, 32767, 32768, 65535]], np.uint16)).save(tmp_path / "x.png")
    assert Saliency("t").read(tmp_path / "x.png")[0][0, 0].tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("task", TASKS, ids=IDS)
@given(content=st.binary(max_size=64), suffix=st.sampled_from([".npy", ".png"]))
def test_bytes_of_anything_are_a_clear_error(tmp_path_factory, task, content, suffix):
    path = tmp_path_factory.mktemp("labels") / f"x{suffix}"
    path.write_bytes((b"\x93NUMPY" if suffix == ".npy" else b"\x89PNG\r\n\x1a\n") + content)
    with pytest.raises(UserError, match=rf"x\{suffix}: not a readable"):
        task.read(path)
