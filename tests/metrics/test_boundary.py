import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from diffusionmtl.metrics.boundary import (
    BSDS,
    FAST,
    SEISM_NYUD,
    SEISM_PASCAL,
    BoundaryProtocol,
    average_precision,
    boundary_counts,
    ods_f,
    ois_f,
)
from diffusionmtl.metrics.thinning import thin

SHAPE = (48, 64)  # diagonal 80 pixels
EXACT = BoundaryProtocol("exact", 0.0, (0.3, 0.6), eight_bit=False, nms=False)
NEAR = replace(EXACT, name="near", max_distance=3 / 80)
PROTOCOLS = [SEISM_PASCAL, SEISM_NYUD, FAST]


def everywhere(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.ones(shape, dtype=bool)


def outlines(seed: int, rim: int = 1) -> np.ndarray:
    """Outlines of blobs, away from the image border by `rim` pixels."""
    smooth = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 3)
    inside = smooth > np.median(smooth)
    edge = np.zeros(SHAPE, dtype=bool)
    edge[:-1, :-1] = (inside[:-1, :-1] != inside[1:, :-1]) | (inside[:-1, :-1] != inside[:-1, 1:])
    edge[:rim] = edge[-rim:] = edge[:, :rim] = edge[:, -rim:] = False
    return edge


def noisy(edge: np.ndarray, seed: int) -> np.ndarray:
    soft = gaussian_filter(edge.astype(np.float32), 1)
    return np.clip(soft / soft.max() * 0.8 + np.random.default_rng(seed).random(SHAPE) * 0.2, 0, 1).astype(np.float32)


def line(column: int, value: float = 1.0) -> np.ndarray:
    out = np.zeros(SHAPE, dtype=np.float32)
    out[5:25, column] = value
    return out


def test_protocols_of_the_tables():
    assert len(SEISM_PASCAL.thresholds) == 101
    assert SEISM_PASCAL.thresholds[:2] == (0.001, 0.01)
    assert SEISM_PASCAL.thresholds[-2:] == (0.99, 0.999)
    assert (SEISM_PASCAL.max_distance, SEISM_NYUD.max_distance) == (0.0075, 0.011)


def test_known_counts():
    counts = boundary_counts(line(30) + line(10, 0.5), line(32) > 0, everywhere(), NEAR)
    np.testing.assert_array_equal(counts, [[20, 20], [40, 20], [20, 20], [20, 20]])
    assert ods_f(counts) == 100
    # The exact protocol sees two wrong lines.
    counts = boundary_counts(line(30) + line(10, 0.5), line(32) > 0, everywhere(), EXACT)
    np.testing.assert_array_equal(counts, [[0, 0], [40, 20], [0, 0], [20, 20]])
    assert ods_f(counts) == 0


@pytest.mark.parametrize("distance, matched", [(3, 20), (4, 0)])
def test_tolerance_includes_its_limit(distance, matched):
    counts = boundary_counts(line(30), line(30 + distance) > 0, everywhere(), NEAR)
    assert counts[0].tolist() == [matched, matched]


def test_threshold_is_strict():
    protocol = replace(EXACT, thresholds=(0.5,))
    assert boundary_counts(line(30, 0.5), line(30) > 0, everywhere(), protocol)[1] == 0
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert boundary_counts(line(30, above), line(30) > 0, everywhere(), protocol)[1] == 20


def test_eight_bit_rounds_to_a_png():
    protocol = replace(EXACT, thresholds=(0.5,), eight_bit=True)
    # 0.499 * 255 = 127.2 and 0.501 * 255 = 127.8; 127 / 255 = 0.498 and 128 / 255 = 0.502.
    assert boundary_counts(line(30, 0.4995), line(30) > 0, everywhere(), protocol)[1] == 0
    assert boundary_counts(line(30, 0.5), line(30) > 0, everywhere(), protocol)[1] == 20


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(3))
def test_perfect_prediction_scores_100(protocol, seed):
    edge = outlines(seed)
    counts = boundary_counts(edge.astype(np.float32), edge, everywhere(), protocol)
    assert counts[3, 0] > 50
    assert ods_f(counts) == ois_f(counts[None]) == 100
    # Within five pixels of the image border the published protocol scales probabilities down.
    edge = outlines(seed, rim=5)
    assert average_precision(boundary_counts(edge.astype(np.float32), edge, everywhere(), protocol)) == 100


def test_label_on_the_image_border_is_lost_to_the_published_protocol():
    edge = np.zeros(SHAPE, dtype=bool)
    edge[10, :] = True
    counts = boundary_counts(edge.astype(np.float32), edge, everywhere(), SEISM_PASCAL)
    assert counts[:, 0].tolist() == [SHAPE[1] - 2, SHAPE[1] - 2, SHAPE[1] - 2, SHAPE[1]]


def test_thick_label_is_thinned_unless_told_otherwise():
    label = np.zeros(SHAPE, dtype=bool)
    label[10:13, 10:40] = True
    assert boundary_counts(line(1), label, everywhere(), EXACT)[3, 0] == thin(label).sum()
    assert boundary_counts(line(1), label, everywhere(), replace(EXACT, thin_label=False))[3, 0] == 90


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_worse_predictions_score_less(protocol):
    edge = outlines(0)
    good = ods_f(boundary_counts(noisy(edge, 1), edge, everywhere(), protocol))
    shifted = ods_f(boundary_counts(np.roll(noisy(edge, 1), 5, axis=1), edge, everywhere(), protocol))
    assert 100 > good > shifted > 0


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
def test_what_is_invalid_does_not_count(protocol):
    edge = outlines(0)
    valid = everywhere()
    valid[:, 40:] = False
    probability = noisy(edge, 1)
    counts = boundary_counts(probability, edge, valid, protocol)
    np.testing.assert_array_equal(boundary_counts(probability, edge | ~valid, valid, protocol), counts)
    assert counts[3, 0] == thin(edge & valid).sum()
    nothing = boundary_counts(probability, edge, ~everywhere(), protocol)
    assert not nothing.any()


def test_not_a_number_is_no_prediction():
    probability = line(30)
    probability[40, 50] = math.nan
    for protocol in (EXACT, SEISM_PASCAL):
        clean = boundary_counts(line(30), line(30) > 0, everywhere(), protocol)
        np.testing.assert_array_equal(boundary_counts(probability, line(30) > 0, everywhere(), protocol), clean)


@given(
    hnp.arrays(np.float32, (7, 9), elements=st.integers(0, 20).map(lambda k: np.float32(k / 20))),
    hnp.arrays(np.bool_, (7, 9)),
    hnp.arrays(np.bool_, (7, 9)),
    st.sampled_from([*PROTOCOLS, EXACT, NEAR]),
)
def test_counts_are_consistent(probability, label, valid, protocol):
    matched, predictions, matched_labels, labels = boundary_counts(probability, label, valid, protocol)
    np.testing.assert_array_equal(matched, matched_labels)
    assert (matched <= np.minimum(predictions, labels)).all()
    assert (labels == thin(label & valid).sum()).all()
    assert (predictions <= valid.sum()).all()
    for k, threshold in enumerate(protocol.thresholds):
        if not (protocol.nms or protocol.eight_bit):
            assert predictions[k] == thin((probability > np.float32(threshold)) & valid).sum()


class TestSeveralAnnotators:
    def test_a_prediction_is_right_if_anyone_says_so(self):
        labels = np.stack([line(30) > 0, line(32) > 0, line(50) > 0])
        counts = boundary_counts(line(30), labels, everywhere(), NEAR)
        assert counts[:, 0].tolist() == [20, 20, 40, 60]
        f = 2 * 1 * (2 / 3) / (1 + 2 / 3)
        assert ods_f(counts) == pytest.approx(100 * f)

    def test_one_annotator_may_have_an_axis(self):
        edge = outlines(0)
        np.testing.assert_array_equal(
            boundary_counts(noisy(edge, 1), edge[None], everywhere(), FAST),
            boundary_counts(noisy(edge, 1), edge, everywhere(), FAST),
        )

    def test_bsds_predicts_at_the_threshold_and_leaves_labels_as_they_are(self):
        probability, labels = line(30, 0.2), np.stack([line(30) > 0, (line(30) + line(31) + line(32)) > 0])
        counts = boundary_counts(probability, labels, everywhere(), BSDS)
        assert len(BSDS.thresholds) == 99
        # 0.2 is predicted at 0.01 .. 0.20; the second annotator's line is three pixels wide, of which one is matched.
        assert counts[1].tolist() == [20] * 20 + [0] * 79
        assert counts[:, 0].tolist() == [20, 20, 40, 80]
        # Here precision is 1 and recall a half.
        assert ods_f(counts) == pytest.approx(100 * 2 * 0.5 / 1.5)


class TestScores:
    counts = np.array([[[30, 10], [60, 10], [30, 10], [40, 40]], [[10, 10], [10, 10], [10, 10], [10, 10]]])

    def test_ods_takes_one_threshold_for_all(self):
        pooled = self.counts.sum(axis=0)
        # P = 40/70, R = 40/50 at the first threshold; 20/20 and 20/50 at the second.
        expected = [2 * p * r / (p + r) for p, r in ((40 / 70, 0.8), (1, 0.4))]
        assert ods_f(pooled) == pytest.approx(100 * max(expected))

    def test_ois_takes_the_best_of_each_image(self):
        # First image: F = 60 at the first, 40 at the second threshold. The second image is perfect at both.
        assert ois_f(self.counts) == pytest.approx(100 * 2 * 40 / (70 + 50))

    def test_ois_of_an_image_without_label_predicts_least(self):
        empty = np.array([[[0, 0], [50, 3], [0, 0], [0, 0]]])
        both = np.concatenate([self.counts[1:], empty])
        assert ois_f(both) == pytest.approx(100 * 2 * 10 / (13 + 10))

    def test_average_precision_is_the_area(self):
        # Points (R, P): (0.2, 1), (0.6, 0.5), (0.6, 0.4).
        counts = np.array([[60, 60, 20], [150, 120, 20], [60, 60, 20], [100, 100, 100]])
        assert average_precision(counts) == pytest.approx(100 * (0.2 * 1 + 0.4 * 0.75))

    def test_average_precision_without_predictions(self):
        assert average_precision(np.array([[0], [0], [0], [5]])) == 0

    def test_neither_label_nor_prediction_is_not_a_number(self):
        nothing = boundary_counts(np.zeros(SHAPE, dtype=np.float32), ~everywhere(), everywhere(), FAST)
        assert not nothing.any()
        assert math.isnan(ods_f(nothing))
        assert math.isnan(ois_f(nothing[None]))
        assert math.isnan(ois_f(nothing[None][:0]))
        assert math.isnan(average_precision(nothing))

    def test_prediction_without_label_and_label_without_prediction_are_zero(self):
        for probability, label in ((line(3), line(3) > 9), (line(3) * 0, line(3) > 0)):
            counts = boundary_counts(probability, label, everywhere(), FAST)
            assert ods_f(counts) == ois_f(counts[None]) == 0

    def test_empty_image_leaves_a_pooled_score_alone(self):
        pooled = self.counts.sum(axis=0)
        assert ods_f(pooled + np.zeros_like(pooled)) == ods_f(pooled)
        with_empty = np.concatenate([self.counts, np.zeros_like(self.counts[:1])])
        assert ois_f(with_empty) == ois_f(self.counts)

    @given(hnp.arrays(np.int64, (3, 3, 5), elements=st.integers(0, 50)), st.permutations(range(3)))
    def test_order_of_images_and_ois_at_least_zero(self, raw, order):
        matched = np.minimum(raw[:, 0], np.minimum(raw[:, 1], raw[:, 2, :1]))
        counts = np.stack([matched, raw[:, 1], matched, np.broadcast_to(raw[:, 2, :1], matched.shape)], axis=1)
        shuffled = counts[list(order)]
        np.testing.assert_equal(ois_f(shuffled), ois_f(counts))
        np.testing.assert_equal(ods_f(shuffled.sum(axis=0)), ods_f(counts.sum(axis=0)))
        if not math.isnan(ods_f(counts.sum(axis=0))):
            assert 0 <= ods_f(counts.sum(axis=0)) <= 100


@pytest.mark.parametrize("thresholds", [(), (0.5, 0.5), (0.6, 0.4)])
def test_thresholds_must_ascend(thresholds):
    with pytest.raises(ValueError, match="ascend"):
        replace(EXACT, thresholds=thresholds)
