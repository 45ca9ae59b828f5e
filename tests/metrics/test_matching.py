import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

from diffusionmtl.metrics.matching import match, near_pairs

two_masks = hnp.arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9)))
distances = st.sampled_from([0.0, 0.9, 1.0, 1.5, 2.5, 4.69, 30.0])


def pairs_of(prediction: np.ndarray, label: np.ndarray, max_distance: float):
    pixels = np.flatnonzero(prediction)
    return pixels, *near_pairs(pixels, label, max_distance)


@given(two_masks, distances)
def test_pairs_equal_those_of_a_search_tree(masks, max_distance):
    prediction, label = masks
    _, pixel_position, label_position = pairs_of(prediction, label, max_distance)
    found = set(zip(pixel_position.tolist(), label_position.tolist(), strict=True))
    assert len(found) == len(pixel_position)
    assert (np.diff(pixel_position) >= 0).all()
    points = [np.argwhere(mask) for mask in masks]
    expected = set()
    if len(points[0]) and len(points[1]):
        neighbours = KDTree(points[1]).query_ball_point(points[0], max_distance)
        expected = {(k, n) for k, near in enumerate(neighbours) for n in near}
    assert found == expected


@given(two_masks, distances, st.randoms(use_true_random=False))
def test_matching_is_one_to_one_and_as_large_as_can_be(masks, max_distance, random):
    prediction, label = masks
    pixels, pixel_position, label_position = pairs_of(prediction, label, max_distance)
    present = np.array([random.random() < 0.7 for _ in pixels], dtype=bool)
    matched = match(pixel_position, label_position, present, int(label.sum()))
    assert len(set(matched.tolist())) == len(matched)
    assert present[matched].all()

    graph = np.zeros((len(pixels), int(label.sum())), dtype=bool)
    graph[pixel_position, label_position] = True

    def largest(rows: np.ndarray) -> int:
        if graph[rows].size == 0:
            return 0
        return int((maximum_bipartite_matching(csr_array(graph[rows]), perm_type="column") >= 0).sum())

    assert len(matched) == largest(np.flatnonzero(present))
    # Those said to be matched can all be matched at once.
    assert largest(matched) == len(matched)


def test_a_chain_needs_every_pair_moved():
    # Pixel k is near labels k and k + 1; greedy matching from the wrong end would leave one pixel over.
    pixel_position = np.repeat(np.arange(50), 2)
    label_position = pixel_position + np.tile([1, 0], 50)
    keep = label_position < 50
    matched = match(pixel_position[keep], label_position[keep], np.ones(50, dtype=bool), 50)
    np.testing.assert_array_equal(matched, np.arange(50))


@pytest.mark.parametrize("prediction, label", [(0, 0), (1, 0), (0, 1)])
def test_nothing_to_match(prediction, label):
    masks = [np.full((4, 5), bool(value)) for value in (prediction, label)]
    pixels, pixel_position, label_position = pairs_of(*masks, 2.0)
    assert len(match(pixel_position, label_position, np.ones(len(pixels), dtype=bool), int(masks[1].sum()))) == 0
