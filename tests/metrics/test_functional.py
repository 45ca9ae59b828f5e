import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffusionmtl.metrics.functional import (
    ANGLE_BINS,
    THRESHOLDS_19,
    angular_error_degrees,
    angular_summary,
    angular_sums,
    confusion_matrix,
    delta_m,
    depth_summary,
    depth_sums,
    f_per_threshold,
    iou_per_class,
    iou_per_threshold,
    max_f,
    mean_iou,
    pixel_accuracy,
    published_squash,
    threshold_counts,
)

CLASSES = 4


def everywhere(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


@st.composite
def segmentations(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))
    prediction = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1)))
    label = draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, CLASSES)))
    valid = draw(hnp.arrays(np.bool_, shape))
    return torch.from_numpy(prediction), torch.from_numpy(label), torch.from_numpy(valid)


@st.composite
def probability_maps(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))
    probability = draw(hnp.arrays(np.float32, shape, elements=st.integers(0, 100).map(lambda k: np.float32(k / 100))))
    label = draw(hnp.arrays(np.bool_, shape))
    valid = draw(hnp.arrays(np.bool_, shape))
    return torch.from_numpy(probability), torch.from_numpy(label), torch.from_numpy(valid)


class TestSegmentation:
    def test_known_answer(self):
        prediction = torch.tensor([[0, 0, 1], [1, 2, 2]])
        label = torch.tensor([[0, 1, 1], [1, 2, 0]])
        matrix = confusion_matrix(prediction, label, everywhere(2, 3), 4)
        assert matrix.tolist() == [[1, 0, 1, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
        torch.testing.assert_close(
            iou_per_class(matrix), torch.tensor([100 / 3, 200 / 3, 50, math.nan]).double(), equal_nan=True
        )
        assert mean_iou(matrix).item() == pytest.approx(50)
        assert mean_iou(matrix, absent="zero").item() == pytest.approx(37.5)
        assert pixel_accuracy(matrix).item() == pytest.approx(400 / 6)

    def test_predicted_but_never_labelled_class_counts_as_zero(self):
        matrix = confusion_matrix(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]), everywhere(1, 2), 2)
        assert mean_iou(matrix).item() == pytest.approx(25)

    def test_nothing_valid_is_not_a_number(self):
        matrix = confusion_matrix(torch.zeros(2, 2).int(), torch.zeros(2, 2).int(), ~everywhere(2, 2), 3)
        assert matrix.sum() == 0
        assert mean_iou(matrix).isnan()
        assert pixel_accuracy(matrix).isnan()

    def test_byte_label_does_not_wrap(self):
        label = torch.full((1, 2), 200, dtype=torch.uint8)
        matrix = confusion_matrix(label, label, everywhere(1, 2), 201)
        assert matrix[200, 200] == 2

    def test_impossible_prediction_is_refused_where_it_counts(self):
        prediction, label = torch.tensor([[0, 9]]), torch.tensor([[0, 1]])
        with pytest.raises(ValueError, match="arg max"):
            confusion_matrix(prediction, label, everywhere(1, 2), 2)
        assert confusion_matrix(prediction, label, torch.tensor([[True, False]]), 2).sum() == 1

    @given(segmentations())
    def test_counts_are_the_valid_pixels_of_known_class(self, maps):
        prediction, label, valid = maps
        matrix = confusion_matrix(prediction, label, valid, CLASSES)
        counted = valid & (label >= 0) & (label < CLASSES)
        assert matrix.sum() == counted.sum()
        assert matrix.sum(1).tolist() == [int((counted & (label == k)).sum()) for k in range(CLASSES)]
        assert matrix.sum(0).tolist() == [int((counted & (prediction == k)).sum()) for k in range(CLASSES)]

    @given(segmentations(), st.integers(0, 6))
    def test_parts_add_up_to_the_whole(self, maps, cut):
        parts = [confusion_matrix(*(x[piece] for x in maps), CLASSES) for piece in (slice(cut), slice(cut, None))]
        assert torch.equal(parts[0] + parts[1], confusion_matrix(*maps, CLASSES))

    @given(segmentations(), st.permutations(range(CLASSES)))
    def test_renaming_the_classes_changes_nothing(self, maps, names):
        prediction, label, valid = maps
        valid = valid & (label >= 0) & (label < CLASSES)
        renamed = torch.tensor(names)
        before = confusion_matrix(prediction, label, valid, CLASSES)
        after = confusion_matrix(renamed[prediction], renamed[label.clamp(0, CLASSES - 1)], valid, CLASSES)
        torch.testing.assert_close(mean_iou(after), mean_iou(before), equal_nan=True)

    @given(segmentations())
    def test_perfect_is_best(self, maps):
        prediction, _, valid = maps
        perfect = confusion_matrix(prediction, prediction, valid, CLASSES)
        if valid.any():
            assert mean_iou(perfect) == 100
            assert pixel_accuracy(perfect) == 100


class TestSaliency:
    def test_thresholds_of_the_tables(self):
        np.testing.assert_allclose(THRESHOLDS_19, np.linspace(0.05, 0.95, 19))

    def test_known_answer(self):
        probability = torch.tensor([[0.1, 0.5, 0.6, 0.9]])
        label = torch.tensor([[0, 0, 1, 1]])
        counts = threshold_counts(probability, label, everywhere(1, 4), (0.05, 0.5, 0.7, 0.95))
        assert counts.tolist() == [[2, 2, 1, 0], [4, 3, 1, 0], [2, 2, 2, 2]]
        # P, R of the thresholds: (1/2, 1), (2/3, 1), (1, 1/2), (0/0, 0).
        expected = [1.3 * p * r / (0.3 * p + r) for p, r in ((1 / 2, 1), (2 / 3, 1), (1, 1 / 2))]
        torch.testing.assert_close(f_per_threshold(counts), torch.tensor([100 * f for f in expected] + [0]).double())
        assert max_f(counts).item() == pytest.approx(100 * max(expected))
        torch.testing.assert_close(iou_per_threshold(counts), torch.tensor([50, 200 / 3, 50, 0]).double())

    def test_beta_one_is_the_dice_score(self):
        counts = torch.tensor([[3], [4], [5]])
        assert max_f(counts, beta_squared=1.0).item() == pytest.approx(100 * 2 * 3 / 9)

    def test_nothing_to_find_and_nothing_found_is_not_a_number(self):
        probability, label = torch.zeros(2, 2), torch.zeros(2, 2)
        assert max_f(threshold_counts(probability, label, everywhere(2, 2))).isnan()
        assert max_f(threshold_counts(probability + 1, label, everywhere(2, 2))) == 0

    def test_not_a_number_is_never_positive(self):
        counts = threshold_counts(torch.full((1, 1), math.nan), torch.ones(1, 1), everywhere(1, 1))
        assert counts[1].sum() == 0
        assert max_f(counts) == 0

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
    def test_any_type_of_label(self, dtype):
        label = torch.tensor([[0, 1]]).to(dtype)
        assert max_f(threshold_counts(label.float(), label, everywhere(1, 2))) == 100

    def test_published_operating_points(self):
        points = torch.tensor([0.55, 0.60, 0.65, 0.70]).logit()
        torch.testing.assert_close(points, torch.tensor([0.2007, 0.4055, 0.6190, 0.8473]), atol=1e-4, rtol=0)
        counts = threshold_counts(published_squash(torch.tensor([[0.0, 1.0]])), torch.ones(1, 2), everywhere(1, 2))
        assert counts[1].tolist() == [2] * 10 + [1] * 4 + [0] * 5

    def test_perfect_is_never_more_than_perfect(self):
        counts = torch.arange(1, 2000)[:, None, None].expand(-1, 3, 1)
        assert (max_f(counts) == 100).all()

    @given(probability_maps())
    def test_equals_one_comparison_per_threshold(self, maps):
        probability, label, valid = maps
        counts = threshold_counts(*maps)
        for column, threshold in zip(counts.T.tolist(), THRESHOLDS_19, strict=True):
            positive = valid & (probability >= torch.tensor(threshold))
            assert column == [int((positive & label).sum()), int(positive.sum()), int((valid & label).sum())]

    @given(probability_maps(), st.integers(0, 6))
    def test_parts_add_up_to_the_whole(self, maps, cut):
        parts = [threshold_counts(*(x[piece] for x in maps)) for piece in (slice(cut), slice(cut, None))]
        assert torch.equal(parts[0] + parts[1], threshold_counts(*maps))

    @given(probability_maps())
    def test_perfect_is_best(self, maps):
        _, label, valid = maps
        perfect = max_f(threshold_counts(label.float(), label, valid))
        assert perfect == 100 if (label & valid).any() else perfect.isnan()


def vectors(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).T.reshape(3, 1, len(rows))


class TestNormals:
    def test_known_angles(self):
        prediction = vectors((0, 0, 1), (0, 0, 5), (1, 0, 0), (0, 0, -1), (0, 0, 0))
        label = vectors((0, 0, 1), (0, 1, 1), (0, 1, 0), (0, 0, 1), (0, 0, 1))
        expected = torch.tensor([[0.0, 45.0, 90.0, 180.0, 90.0]])
        torch.testing.assert_close(angular_error_degrees(prediction, label), expected)

    def test_small_angle_is_not_lost(self):
        angle = 1e-4
        turned = vectors((math.sin(angle), 0, math.cos(angle)))
        error = angular_error_degrees(turned, vectors((0, 0, 1)))
        assert error.item() == pytest.approx(math.degrees(angle), rel=1e-3)

    @given(hnp.arrays(np.float32, (2, 3, 2, 4), elements=st.floats(-1, 1, width=32)), st.floats(0.1, 50))
    def test_symmetric_and_blind_to_length(self, maps, length):
        a, b = torch.from_numpy(maps)
        a[2] += 2
        b[2] += 2
        error = angular_error_degrees(a, b)
        torch.testing.assert_close(angular_error_degrees(b, a), error)
        torch.testing.assert_close(angular_error_degrees(a * length, b), error, atol=2e-4, rtol=1e-4)

    def test_summary_against_numpy(self):
        error = torch.from_numpy(np.random.default_rng(0).uniform(0, 60, (2, 3, 30, 41)))
        valid = torch.from_numpy(np.random.default_rng(1).random((2, 3, 30, 41)) < 0.7)
        parts = [angular_sums(error[k], valid[k]) for k in range(2)]
        summary = angular_summary(parts[0][0] + parts[1][0], parts[0][1] + parts[1][1])
        kept = error[valid].numpy()
        assert summary.mean.item() == pytest.approx(kept.mean())
        assert summary.median.item() == pytest.approx(np.median(kept), abs=0.006)
        shares = [summary.below_11_25, summary.below_22_5, summary.below_30]
        assert [s.item() for s in shares] == pytest.approx([100 * (kept < x).mean() for x in (11.25, 22.5, 30)])

    def test_limits_are_strict(self):
        error = torch.tensor([11.25, 22.5, 30.0])
        summary = angular_summary(*angular_sums(error, everywhere(3)))
        shares = [summary.below_11_25, summary.below_22_5, summary.below_30]
        assert [s.item() for s in shares] == pytest.approx([0, 100 / 3, 200 / 3])

    def test_median_of_an_even_number_lies_between(self):
        summary = angular_summary(*angular_sums(torch.tensor([10.0, 20.0]), everywhere(2)))
        assert summary.median.item() == pytest.approx(15, abs=0.006)

    def test_extremes_stay_in_the_histogram(self):
        total, histogram = angular_sums(torch.tensor([0.0, 180.0, 180.00002]), everywhere(3))
        assert histogram[0] == 1
        assert histogram[ANGLE_BINS - 1] == 2
        assert total.item() == pytest.approx(360, abs=1e-3)

    def test_not_a_number_is_seen_where_valid_only(self):
        error = torch.tensor([1.0, math.nan])
        assert angular_summary(*angular_sums(error, everywhere(2))).mean.isnan()
        assert angular_summary(*angular_sums(error, torch.tensor([True, False]))).mean == 1

    def test_nothing_valid_is_not_a_number(self):
        assert all(score.isnan() for score in angular_summary(*angular_sums(torch.zeros(3), ~everywhere(3))))


class TestDepth:
    def test_known_answer(self):
        prediction = torch.tensor([[1.0, 3.0, 4.0, 7.0]])
        label = torch.tensor([[2.0, 2.0, 4.0, math.nan]])
        summary = depth_summary(depth_sums(prediction, label, torch.tensor([[True, True, True, False]])))
        assert summary.abs_err.item() == pytest.approx(2 / 3)
        assert summary.abs_rel.item() == pytest.approx(1 / 3)
        assert summary.rmse.item() == pytest.approx(math.sqrt(2 / 3))
        assert summary.log_rmse.item() == pytest.approx(math.sqrt((math.log(2) ** 2 + math.log(1.5) ** 2) / 3))
        assert summary.sq_rel.item() == pytest.approx(1 / 3)
        assert summary.delta_1_25.item() == pytest.approx(100 / 3)

    def test_label_without_a_depth_is_left_out(self):
        label = torch.tensor([0.0, -1.0, math.inf, math.nan, 2.0])
        assert depth_sums(torch.full((5,), 2.0), label, everywhere(5)).tolist() == [1, 0, 0, 0, 0, 0, 1]

    def test_published_differs_where_the_prediction_is_not_positive(self):
        prediction, label = torch.tensor([-1.0]), torch.tensor([1.0])
        ours = depth_summary(depth_sums(prediction, label, everywhere(1)))
        published = depth_summary(depth_sums(prediction, label, everywhere(1), published=True))
        assert ours.abs_err.item() == pytest.approx(2)
        assert published.abs_err.item() == pytest.approx(1)
        assert ours.log_rmse.item() == published.log_rmse.item() == pytest.approx(9 * math.log(10))
        assert ours.delta_1_25 == published.delta_1_25 == 0

    def test_inputs_stay_as_they_are(self):
        prediction = torch.tensor([-1.0, 1.0])
        depth_sums(prediction, torch.ones(2), everywhere(2), published=True)
        assert prediction.tolist() == [-1, 1]

    def test_nothing_valid_is_not_a_number(self):
        assert all(score.isnan() for score in depth_summary(depth_sums(torch.ones(2), torch.ones(2), ~everywhere(2))))

    @given(
        hnp.arrays(np.float32, (2, 4, 5), elements=st.floats(0.125, 8, width=32)),
        hnp.arrays(np.bool_, (4, 5)),
        st.integers(0, 4),
    )
    def test_parts_add_up_to_the_whole_and_perfect_is_best(self, maps, valid, cut):
        prediction, label, valid = torch.from_numpy(maps[0]), torch.from_numpy(maps[1]), torch.from_numpy(valid)
        whole = depth_sums(prediction, label, valid)
        parts = [depth_sums(prediction[p], label[p], valid[p]) for p in (slice(cut), slice(cut, None))]
        torch.testing.assert_close(parts[0] + parts[1], whole)
        assert depth_sums(label, label, valid).tolist() == [valid.sum(), 0, 0, 0, 0, 0, valid.sum()]


class TestDeltaM:
    def test_known_answer(self):
        gain = delta_m(
            {"semseg": 66.0, "normals": 13.0}, {"semseg": 60.0, "normals": 20.0}, {"normals": False, "semseg": True}
        )
        assert gain == pytest.approx((10 + 35) / 2)

    @given(st.dictionaries(st.text(max_size=3), st.floats(0.1, 100), min_size=1))
    def test_no_change_is_no_gain(self, values):
        assert delta_m(values, values, dict.fromkeys(values, True)) == 0

    def test_direction(self):
        assert delta_m({"a": 2.0}, {"a": 1.0}, {"a": True}) == 100
        assert delta_m({"a": 2.0}, {"a": 1.0}, {"a": False}) == -100

    @pytest.mark.parametrize("values, references", [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0}, {"a": 0.0})])
    def test_what_has_no_answer_is_refused(self, values, references):
        with pytest.raises(ValueError, match="references|same tasks"):
            delta_m(values, references, dict.fromkeys(values, True))
