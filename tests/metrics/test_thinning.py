import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter, label

from diffusionmtl.metrics.thinning import pack, pack_nested, thin, unpack

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))
EIGHT = np.ones((3, 3))


def blobs(seed: int, count: int = 1, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Regions of every width, each mask part of the one before."""
    smooth = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return smooth > np.quantile(smooth, np.linspace(0.2, 0.9, count))[:, None, None]


def test_a_bar_becomes_its_middle_line():
    mask = np.zeros((7, 15), dtype=bool)
    mask[2:5, 2:13] = True
    expected = np.zeros_like(mask)
    expected[3, 3:12] = True
    np.testing.assert_array_equal(thin(mask), expected)


def test_lines_stay():
    lines = np.zeros((9, 9), dtype=bool)
    lines[4, 1:8] = True
    np.testing.assert_array_equal(thin(lines), lines)
    np.testing.assert_array_equal(thin(np.eye(9, dtype=bool)), np.eye(9, dtype=bool))


@pytest.mark.parametrize("seed", range(20))
def test_equals_an_independent_implementation(seed):
    morphology = pytest.importorskip("skimage.morphology", reason="scikit-image, the oracle, is not installed")
    random = np.random.default_rng(seed)
    noise = random.random(random.integers(1, 40, 2)) < random.uniform(0.1, 0.95)
    for mask in (noise, *blobs(seed, 5)):
        np.testing.assert_array_equal(thin(mask), morphology.thin(mask))


@given(masks)
def test_thinned_is_part_connected_alike_and_final(mask):
    thinned = thin(mask)
    assert not (thinned & ~mask).any()
    assert label(thinned, EIGHT)[1] == label(mask, EIGHT)[1]
    np.testing.assert_array_equal(thin(thinned), thinned)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_a_stack_is_thinned_mask_by_mask(count):
    stack = blobs(0, count, (20, 30))[::-1]
    np.testing.assert_array_equal(thin(stack), np.stack([thin(mask) for mask in stack]))


def test_batch_axes_are_kept():
    stack = blobs(1, 6)
    np.testing.assert_array_equal(thin(stack.reshape(2, 3, 60, 80)), thin(stack).reshape(2, 3, 60, 80))
    assert thin(np.zeros((0, 4, 5), dtype=bool)).shape == (0, 4, 5)


def test_the_argument_is_not_changed():
    mask = blobs(2)[0]
    before = mask.copy()
    thin(mask)
    np.testing.assert_array_equal(mask, before)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 150), st.integers(0, 5))))
def test_unpack_undoes_pack(stack):
    np.testing.assert_array_equal(unpack(pack(stack), len(stack)), stack)


@given(hnp.arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 130)), st.integers(1, 130))
def test_pack_nested(levels, count):
    np.testing.assert_array_equal(pack_nested(levels, count), pack(levels > np.arange(count)[:, None]))
