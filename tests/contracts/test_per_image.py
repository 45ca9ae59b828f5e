"""Every kind's headline figure of any images follows from what each of these images adds."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.tasks import Boundary, Depth, Disparity, Saliency, SemanticSegmentation, SurfaceNormals, task_kinds

TASKS = [
    SemanticSegmentation("semseg", classes=("wall", "floor", "chair", "a class that nobody ever sees")),
    Depth("depth"),
    Disparity("disparity"),
    SurfaceNormals("normals"),
    Saliency("saliency"),
    Saliency("published_saliency", protocol="published"),
    Boundary("edge"),
]
every_kind = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
N, H, W = 5, 12, 14


@cache
def images(task):
    """Activated outputs, labels and masks of N images; the last has no valid pixel."""
    generator = torch.Generator().manual_seed(0)
    estimate = task.activate(2 * torch.randn(N, task.channels, H, W, generator=generator))
    if isinstance(task, SemanticSegmentation):
        estimate[:, -1] = -1
        label = torch.randint(0, 3, (N, 1, H, W), generator=generator).to(torch.uint8)
    elif isinstance(task, Depth):
        label = 0.5 + torch.rand(N, 1, H, W, generator=generator)
    elif isinstance(task, SurfaceNormals):
        label = torch.nn.functional.normalize(torch.randn(N, 3, H, W, generator=generator), dim=1)
    else:
        label = torch.rand(N, 1, H, W, generator=generator) < 0.1
    valid = torch.rand(N, H, W, generator=generator) < 0.8
    valid[-1] = False
    return estimate, label, valid


def pooled(task, estimate, label, valid, chosen):
    meter = task.meter()
    for i in chosen:
        meter.update(estimate[i : i + 1], label[i : i + 1], valid[i : i + 1])
    return meter


@cache
def added_by_each(task):
    return torch.stack([pooled(task, *images(task), [i]).statistics() for i in range(N)])


def test_every_kind_of_the_package_is_asked():
    ours = {kind for kind, of in task_kinds().items() if of.__module__.startswith("diffusionmtl.")}
    assert {task.kind for task in TASKS} == ours


@every_kind
@given(chosen=st.lists(st.integers(0, N - 1), min_size=1, max_size=9))
def test_any_images_pooled_anew_give_what_a_meter_gives_that_saw_them(task, chosen):
    seen = images(task)
    each = added_by_each(task)
    total = each[chosen].sum(dim=0, keepdim=True)
    figure = float(task.meter().headline(total)[0])
    expected = pooled(task, *seen, chosen).compute()[task.headline]
    assert figure == pytest.approx(expected, rel=1e-12, nan_ok=True)


@every_kind
def test_what_images_add_is_the_same_seen_one_by_one_or_after_each_other(task):
    seen = images(task)
    meter = task.meter()
    for i, alone in enumerate(added_by_each(task)):
        before = meter.statistics()
        meter.update(*(part[i : i + 1] for part in seen))
        assert torch.allclose(meter.statistics() - before, alone, rtol=1e-12, atol=1e-9)


@every_kind
def test_several_sets_of_images_at_once(task):
    each = added_by_each(task)
    sets = torch.stack([each[:2].sum(dim=0), each[1:4].sum(dim=0), each[-1]])
    figures = task.meter().headline(sets)
    assert figures.shape == (3,)
    assert figures[:2].tolist() == [float(task.meter().headline(one[None])[0]) for one in sets[:2]]
    assert math.isnan(figures[2]), "nothing was measured"
