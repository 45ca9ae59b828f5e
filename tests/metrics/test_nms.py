import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from diffusionmtl.metrics.nms import suppress_non_maxima


def ridge(angle: float, size: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """A blurred straight line through the middle, and the distance of each pixel from it."""
    row, column = np.mgrid[:size, :size] - size // 2
    distance = np.abs(row * np.cos(angle) - column * np.sin(angle))
    return np.exp(-0.5 * (distance / 2.5) ** 2).astype(np.float32), distance


def pixel_by_pixel(image: np.ndarray) -> np.ndarray:
    """The definition read literally: angle by arc tangent, one pixel after another, border bands last."""
    height, width = image.shape
    ramp = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    smooth = convolve(image.astype(float), np.outer(ramp, ramp) / 625, mode="reflect")
    d_y, d_x = np.gradient(smooth)
    d_yx, d_xx = np.gradient(d_x)
    d_yy = np.gradient(d_y)[0]
    angle = np.mod(np.arctan(d_yy * np.sign(-d_yx) / (d_xx + 1e-5)), np.pi)

    def sample(y: float, x: float) -> float:
        y, x = min(max(y, 0), height - 1.001), min(max(x, 0), width - 1.001)
        y0, x0 = int(y), int(x)
        dy, dx = y - y0, x - x0
        upper = image[y0, x0] * (1 - dx) + image[y0, x0 + 1] * dx
        return upper * (1 - dy) + (image[y0 + 1, x0] * (1 - dx) + image[y0 + 1, x0 + 1] * dx) * dy

    out = image.copy()
    for y in range(height):
        for x in range(width):
            step_y, step_x = np.sin(angle[y, x]), np.cos(angle[y, x])
            if any(image[y, x] * 1.01 < sample(y + s * step_y, x + s * step_x) for s in (-1, 1)):
                out[y, x] = 0
    for k in range(5):
        for band in (out[k], out[height - 1 - k], out[:, k], out[:, width - 1 - k]):
            band *= k / 5
    return out


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition_read_literally(seed):
    image = gaussian_filter(np.random.default_rng(seed).random((21, 33)), 1.5)
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    np.testing.assert_allclose(suppress_non_maxima(image), pixel_by_pixel(image), atol=1e-6)


@pytest.mark.parametrize("degrees", [0.1, 20, 45, 70, 89.9, 110, 135, 160])
def test_the_crest_of_a_ridge_stays_and_its_slopes_go(degrees):
    image, distance = ridge(np.deg2rad(degrees))
    inner = np.zeros_like(image, dtype=bool)
    inner[8:-8, 8:-8] = True
    kept = suppress_non_maxima(image) > 0
    assert kept[inner & (distance < 0.3)].all()
    assert not kept[inner & (distance > 1.5) & (distance < 6)].any()


def test_border_is_scaled_down():
    out = suppress_non_maxima(np.ones((20, 30), dtype=np.float32))
    np.testing.assert_allclose(out[10, :6], [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(out[10, -6:], [1, 0.8, 0.6, 0.4, 0.2, 0])
    np.testing.assert_allclose(out[:6, 15], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert out[1, 1] == pytest.approx(0.04)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 7)])
def test_small_images_pass(shape):
    out = suppress_non_maxima(np.full(shape, 0.5, dtype=np.float32))
    assert out.shape == shape
    assert np.isfinite(out).all()
