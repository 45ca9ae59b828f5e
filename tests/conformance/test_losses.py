"""Our losses and objective against recordings of the published ones: equal where they are right, defined where not.

The published losses average over all valid pixels of the batch that they are given, ours over those of each sample. One
tall picture made of a batch's pictures is therefore the sample whose loss is the recorded one.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusionmtl.tasks import Task
from diffusionmtl.tasks.published import pascal_context_tasks, published_task
from diffusionmtl.training.objective import Objective, objective
from diffusionmtl.types import Batch, Canvas, NetworkOutput
from tests.conformance.recordings import labels_of

# Labels that no file of ours can hold: a yes-or-no label is yes or no.
NOT_OURS = {("edge", "fractional_label"), ("sal", "label_two")}
# The published loss is 0 and teaches nothing, because the weight of the class that occurs is 0.
ONE_CLASS_ONLY = {("sal", "no_positive"), ("sal", "no_negative")}
CHANNELS = {"semseg": 21, "human_parts": 7, "sal": 2, "normals": 3, "depth": 1, "edge": 1}


def recorded_cases(folder: Path, file: str) -> list[dict]:
    path = folder / "losses_metrics" / file
    return json.loads(path.read_text())["cases"] if path.is_file() else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per recorded loss that is a loss of ours, or per recorded batch."""
    folder = metafunc.config.getoption("--conformance")
    reason = "no recordings there; name their folder with --conformance DIR"
    nothing = [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    every = [row for row in recorded_cases(folder, "losses_summary.json") if row["loss"] in CHANNELS]
    found = {
        "case": [row for row in every if not is_one_of(row, NOT_OURS)],
        "comparable": [row for row in every if row["status"] == "ok" and not is_one_of(row, NOT_OURS | ONE_CLASS_ONLY)],
        "scheme": recorded_cases(folder, "scheme_summary.json"),
    }
    for argument in found.keys() & set(metafunc.fixturenames):
        ids = ["-".join(filter(None, (row.get("loss"), row["case"]))) for row in found[argument]]
        params = [pytest.param(row, id=name) for row, name in zip(found[argument], ids, strict=True)]
        metafunc.parametrize(argument, params or nothing)


def is_one_of(row: dict, names: set[tuple[str, str]]) -> bool:
    return (row["loss"], row["case"]) in names


@pytest.fixture
def arrays(conformance_dir):
    with np.load(conformance_dir / "losses_metrics" / "losses.npz") as stored:
        yield stored


def our_loss(task: Task, arrays, name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Our loss of the recorded batch as one tall picture, and its gradient in the shape of the recorded one."""
    raw = torch.from_numpy(arrays[f"{name}/pred"]).to(dtype).requires_grad_()
    label = torch.from_numpy(arrays[f"{name}/label"]).to(dtype)
    tall = labels_of(task, torch.cat(label.split(1), dim=2), torch.zeros(1, dtype=torch.int64), dtype)
    (loss,) = task.loss(torch.cat(raw.split(1), dim=2), tall.value, tall.valid)
    loss.backward()
    return loss.detach(), raw.grad


def test_loss(case, arrays):
    name, task = f"{case['loss']}/{case['case']}", published_task(case["loss"], CHANNELS[case["loss"]])
    if case["status"] == "crash" and case["case"] == "label_equals_num_classes":
        with pytest.raises(IndexError):
            our_loss(task, arrays, name, torch.float32)
        return
    loss, gradient = our_loss(task, arrays, name, torch.float32)
    if case["case"] == "all_ignored":
        assert loss == 0
        assert torch.equal(gradient, torch.zeros_like(gradient))
    elif is_one_of(case, ONE_CLASS_ONLY):
        assert case["value"] == 0
        assert loss == pytest.approx(1e-3 * one_class_cross_entropy(arrays, name), rel=1e-4)
        assert gradient.abs().sum() > 0
    else:
        assert loss.item() == pytest.approx(case["value"], rel=1e-6)
        assert torch.isfinite(gradient).all()
        if case["case"] not in ("zero_prediction", "tiny_prediction"):
            recorded = arrays[f"{name}/grad"]
            np.testing.assert_allclose(gradient.numpy(), recorded, rtol=1e-5, atol=1e-6 * np.abs(recorded).max())


def test_loss_in_float64(comparable, arrays):
    task = published_task(comparable["loss"], CHANNELS[comparable["loss"]])
    name = f"{comparable['loss']}/{comparable['case']}"
    loss, _ = our_loss(task, arrays, name, torch.float64)
    # Some published losses cast to float32 on the way, so their float64 run carries its rounding.
    assert loss.item() == pytest.approx(float(arrays[f"{name}/loss_f64"]), rel=5e-7, abs=1e-12)


def one_class_cross_entropy(arrays, name: str) -> float:
    raw, label = torch.from_numpy(arrays[f"{name}/pred"]).double(), torch.from_numpy(arrays[f"{name}/label"])[:, 0]
    per_pixel = torch.nn.functional.cross_entropy(raw, label.long(), ignore_index=255, reduction="sum")
    return (per_pixel / (label != 255).sum()).item()


@dataclass(frozen=True)
class Scheme:
    """A recorded batch through our objective, and the leaves that its gradient reaches."""

    ours: Objective
    arrays: dict[str, np.ndarray]
    case: str
    leaves: list[torch.Tensor]


@pytest.fixture
def batch(scheme, conformance_dir) -> Scheme:
    with np.load(conformance_dir / "losses_metrics" / "scheme.npz") as stored:
        arrays = {key: stored[key] for key in stored.files if key.startswith(f"{scheme['case']}/")}
    mask, tasks = np.asarray(scheme["mask"], dtype=bool), pascal_context_tasks()
    final, initial, rows, labels = {}, {}, {}, {}
    for task, column in zip(tasks, mask.T, strict=True):
        at = torch.from_numpy(np.flatnonzero(column))
        truth = torch.from_numpy(arrays[f"{scheme['case']}/gt/{task.name}"])
        labels[task.name] = labels_of(task, truth[at], at, torch.float32)
        given = [arrays[f"{scheme['case']}/preds/s{i}/{task.name}"] for i in at.tolist()]
        before = torch.from_numpy(arrays[f"{scheme['case']}/inter_preds/{task.name}"])[at]
        after = torch.from_numpy(np.concatenate(given)) if given else torch.empty_like(before)
        final[task.name], initial[task.name] = after.requires_grad_(), before.requires_grad_()
        rows[task.name] = at
    size = tuple(arrays[f"{scheme['case']}/gt/semseg"].shape[-2:])
    output = NetworkOutput(final, initial, rows, Canvas(size=size, padded=size))
    image = torch.zeros(len(mask), 3, *size, dtype=torch.uint8)
    names = tuple(map(str, range(len(mask))))
    given = Batch(names, tuple(range(len(mask))), image, labels, torch.from_numpy(mask.sum(axis=1)))
    owed = objective(tasks, output, given)
    return Scheme(owed, arrays, scheme["case"], [*final.values(), *initial.values()])


def test_objective(scheme, batch):
    """Equal to the recorded total; where that is NaN or a crash, what the other labels owe."""
    if "labelled_but_all_ignored" in scheme["case"] and "human_parts" not in scheme["case"]:
        ignored = "edge" if "edge" in scheme["case"] else "sal"
        assert "crash" in scheme or math.isnan(float(scheme["out"]["total"]))
        assert 0 in batch.ours.final[ignored]
        # The label without a valid pixel still counts as one of its image's labels, as it does for human parts.
        semseg = (batch.ours.final["semseg"] + 0.5 * batch.ours.initial["semseg"]) * 5 / 2
        assert batch.ours.total.item() == pytest.approx((semseg / torch.tensor([2, 1])).sum().item(), rel=1e-6)
    else:
        assert batch.ours.total.item() == pytest.approx(scheme["out"]["total"], rel=1e-6)


def test_objective_can_always_be_learnt_from(scheme, batch):
    """A batch without any label is the number 0 in the published code, which has no gradient to speak of."""
    batch.ours.total.backward()
    assert torch.isfinite(batch.ours.total)
    assert all(torch.isfinite(leaf.grad).all() for leaf in batch.leaves)


def test_losses_of_a_batch(scheme, batch):
    """Sum over samples over batch size, per task, final and initial."""
    recorded = {key.split("/loss/")[1]: float(value) for key, value in batch.arrays.items() if "/loss/" in key}
    recorded = {key: value for key, value in recorded.items() if key != "total" and math.isfinite(value)}
    ours = dict.fromkeys(recorded, 0.0)
    for prefix, losses in (("", batch.ours.final), ("inter_", batch.ours.initial)):
        ours |= {prefix + task: value.sum().item() / len(scheme["mask"]) for task, value in losses.items()}
    assert recorded or "crash" in scheme
    assert {key: ours[key] for key in recorded} == pytest.approx(recorded, rel=1e-6, abs=1e-9)
