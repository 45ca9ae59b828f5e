"""Our arithmetic against recordings of the published meters: equal where they are right, reproducible where not."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusionmtl.metrics.functional import (
    angular_error_degrees,
    angular_summary,
    angular_sums,
    confusion_matrix,
    depth_summary,
    depth_sums,
    iou_per_class,
    max_f,
    mean_iou,
    published_squash,
    threshold_counts,
)

IGNORE = 255
CLASSES = {"semseg": 21, "human_parts": 7}
SEGMENTATION_CASES = ["basic", "absent_classes", "all_ignored", "batch_of_one", "tied_logits"]
SALIENCY_CASES = [
    "basic",
    "confident",
    "no_ignore",
    "no_positive",
    "all_positive",
    "negative_prediction",
    "batch_of_one",
]
NORMALS_CASES = ["basic", "no_ignore", "zero_prediction", "zero_gt_not_ignored", "one_channel_255", "opposite"]
EDGE_CASES = ["basic", "no_positive", "batch_of_one", "unequal_valid"]


@pytest.fixture(scope="module")
def meters(conformance_dir):
    folder = conformance_dir / "losses_metrics"
    summary = json.loads((folder / "meters_summary.json").read_text())["cases"]
    return SimpleNamespace(
        arrays=np.load(folder / "meters.npz"), summary={(row["task"], row["case"]): row for row in summary}
    )


def updates(meters, task: str, case: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Raw network output and label of each update."""
    return [
        tuple(torch.from_numpy(meters.arrays[f"{task}/{case}/{what}{k}"]) for what in ("logits", "gt"))
        for k in range(meters.summary[task, case]["updates"])
    ]


def recorded(meters, task: str, case: str, what: str) -> np.ndarray:
    return meters.arrays[f"{task}/{case}/{what}"]


def segmentation_matrix(meters, task: str, case: str) -> torch.Tensor:
    return sum(
        confusion_matrix(logits.argmax(1), label[:, 0].long(), label[:, 0] != IGNORE, CLASSES[task])
        for logits, label in updates(meters, task, case)
    )


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("case", SEGMENTATION_CASES)
def test_segmentation(meters, task, case):
    matrix = segmentation_matrix(meters, task, case)
    np.testing.assert_array_equal(matrix.diagonal(), recorded(meters, task, case, "tp"))
    np.testing.assert_array_equal(matrix.sum(0) - matrix.diagonal(), recorded(meters, task, case, "fp"))
    np.testing.assert_array_equal(matrix.sum(1) - matrix.diagonal(), recorded(meters, task, case, "fn"))
    published = mean_iou(matrix, absent="zero").item()
    assert published == pytest.approx(recorded(meters, task, case, "score/mIoU").item(), rel=1e-6)


@pytest.mark.parametrize("task", CLASSES)
def test_segmentation_leaves_absent_classes_out(meters, task):
    matrix = segmentation_matrix(meters, task, "absent_classes")
    present = (matrix.sum(0) + matrix.sum(1)) > 0
    assert mean_iou(matrix).item() == pytest.approx(iou_per_class(matrix)[present].mean().item())
    assert mean_iou(segmentation_matrix(meters, task, "all_ignored")).isnan()


def test_semseg_unknown_labels_are_ignored(meters):
    matrix = segmentation_matrix(meters, "semseg", "label_254_and_minus1")
    expected = recorded(meters, "semseg", "label_254_and_minus1", "score/mIoU").item()
    assert mean_iou(matrix, absent="zero").item() == pytest.approx(expected, rel=1e-6)


def test_human_parts_published_meter_charges_unknown_labels(meters):
    """The published meter charges them to the prediction; the same as a class more that is left out of the mean."""
    ((logits, label),) = updates(meters, "human_parts", "label_254_and_minus1")
    unknown = (label[:, 0] < 0) | (label[:, 0] == 254)
    known_or_extra = torch.where(unknown, CLASSES["human_parts"], label[:, 0].long())
    matrix = confusion_matrix(logits.argmax(1), known_or_extra, label[:, 0] != IGNORE, CLASSES["human_parts"] + 1)
    expected = recorded(meters, "human_parts", "label_254_and_minus1", "score/mIoU").item()
    assert iou_per_class(matrix)[:-1].mean().item() == pytest.approx(expected, rel=1e-6)
    ours = mean_iou(segmentation_matrix(meters, "human_parts", "label_254_and_minus1")).item()
    assert ours > expected


def saliency_counts(meters, case: str, squash) -> torch.Tensor:
    return sum(
        threshold_counts(squash(logits.softmax(1)[:, 1]), label[:, 0] == 1, label[:, 0] != IGNORE)
        for logits, label in updates(meters, "sal", case)
    )


@pytest.mark.parametrize("case", [*SALIENCY_CASES, "all_ignored"])
def test_saliency_published_counts(meters, case):
    counts = saliency_counts(meters, case, published_squash)
    names = ("true_positives", "predicted_positives", "actual_positives")
    expected = np.stack([recorded(meters, "sal", case, name) for name in names])
    np.testing.assert_array_equal(counts.numpy(), expected)


@pytest.mark.parametrize("case", SALIENCY_CASES)
def test_saliency_published_score(meters, case):
    score = max_f(saliency_counts(meters, case, published_squash)).item()
    assert score == pytest.approx(recorded(meters, "sal", case, "score/maxF").item(), rel=1e-6)


def test_saliency_ours_sees_what_the_published_meter_hides(meters):
    assert max_f(saliency_counts(meters, "confident", torch.Tensor.clone)) == 100
    assert max_f(saliency_counts(meters, "negative_prediction", torch.Tensor.clone)) < 1
    assert recorded(meters, "sal", "negative_prediction", "score/maxF") > 50
    assert max_f(saliency_counts(meters, "all_ignored", torch.Tensor.clone)).isnan()
    assert recorded(meters, "sal", "all_ignored", "score/maxF") == 0


def normals_mean(meters, case: str) -> float:
    parts = [
        angular_sums(angular_error_degrees(logits, label), (label != IGNORE).all(1))
        for logits, label in updates(meters, "normals", case)
    ]
    total, histogram = (sum(states) for states in zip(*parts, strict=True))
    return angular_summary(total, histogram).mean.item()


@pytest.mark.parametrize("case", NORMALS_CASES)
def test_normals(meters, case):
    expected = recorded(meters, "normals", case, "score/mean").item()
    assert normals_mean(meters, case) == pytest.approx(expected, rel=1e-6)


def test_normals_perfect(meters):
    assert normals_mean(meters, "perfect") == pytest.approx(0, abs=1e-3)


def test_normals_all_ignored_crashes_no_more(meters):
    assert math.isnan(normals_mean(meters, "all_ignored"))


def depth_scores(meters, case: str, published: bool):
    return depth_summary(
        sum(
            depth_sums(logits, label, label != IGNORE, published=published)
            for logits, label in updates(meters, "depth", case)
        )
    )


@pytest.mark.parametrize("case", ["basic", "negative_prediction", "zero_gt_not_ignored"])
def test_depth_published(meters, case):
    scores = depth_scores(meters, case, published=True)
    for name in ("rmse", "log_rmse", "abs_rel", "sq_rel", "abs_err"):
        assert getattr(scores, name).item() == pytest.approx(
            recorded(meters, "depth", case, f"score/{name}").item(), rel=1e-6
        )


def test_depth_ours(meters):
    ((logits, label),) = updates(meters, "depth", "zero_gt_not_ignored")
    known = (label != IGNORE) & (label > 0)
    scores = depth_scores(meters, "zero_gt_not_ignored", published=False)
    assert all(score.isfinite() for score in scores)
    assert scores.abs_err.item() == pytest.approx((logits - label).abs()[known].mean().item(), rel=1e-5)
    negative = depth_scores(meters, "negative_prediction", published=False).abs_err.item()
    assert negative > recorded(meters, "depth", "negative_prediction", "score/abs_err")
    assert depth_scores(meters, "all_ignored", published=False).rmse.isnan()


@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_monitor_is_the_loss_of_a_squashed_probability(meters, case):
    """Why the published edge loss is of no use: the cross entropy of `published_squash`, weighted by all pixels."""
    loss = pixels = 0
    for logits, label in updates(meters, "edge", case):
        valid = label != IGNORE
        squashed = published_squash(logits.sigmoid())[valid]
        positive = label[valid]
        mean = -(0.95 * positive * squashed.log() + 0.05 * (1 - positive) * (1 - squashed).log()).mean()
        loss, pixels = loss + mean.item() * label.numel(), pixels + label.numel()
    assert loss / pixels == pytest.approx(recorded(meters, "edge", case, "score/loss").item(), rel=1e-6)
