"""Pictures keep their pixels where they must and lose only size where they may."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.report.draw import LARGEST, PANEL_WIDTH, enlarged, heat, panel_uri, photo_uri, shrunk


def decoded(uri: str) -> tuple[str, np.ndarray]:
    head, data = uri.split(",", 1)
    return head, np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB"))


def pixels(height: int, width: int, colours: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (colours, 3), dtype=np.uint8)
    return palette[rng.integers(0, colours, (height, width))]


@pytest.mark.parametrize(("width", "factor"), [(128, 2), (100, 2), (32, 8), (256, 1), (300, 1), (1, PANEL_WIDTH)])
def test_enlarged_by_whole_factors(width: int, factor: int) -> None:
    small = pixels(7, width, 50)
    large = enlarged(small)
    assert large.shape == (7 * factor, width * factor, 3)
    assert (large[::factor, ::factor] == small).all()
    assert (large[factor - 1 :: factor, factor - 1 :: factor] == small).all()


@pytest.mark.parametrize("colours", [2, 40, 5000])
def test_a_panel_comes_out_as_it_went_in(colours: int) -> None:
    small = pixels(96, 128, colours)
    head, seen = decoded(panel_uri(small))
    assert head == "data:image/png;base64"
    assert (seen == enlarged(small)).all()


def test_large_labels_stay_exact_and_large_ramps_become_jpeg() -> None:
    few = pixels(300, 380, 200)
    head, seen = decoded(panel_uri(few))
    assert "png" in head
    assert (seen == few).all()
    many = np.stack(np.meshgrid(np.arange(380) % 256, np.arange(300) % 256), axis=-1)
    smooth = np.concatenate([many, many[..., :1]], axis=-1).astype(np.uint8)
    assert "jpeg" in decoded(panel_uri(smooth))[0]


def test_shrunk_keeps_shape_and_class_colours() -> None:
    large = pixels(900, 300, 5)
    small = shrunk(large)
    assert small.shape == (LARGEST, LARGEST // 3, 3)
    assert {tuple(c) for c in small.reshape(-1, 3)} <= {tuple(c) for c in large.reshape(-1, 3)}
    assert shrunk(small) is small


def test_a_photograph_stays_close() -> None:
    ramp = np.linspace(0, 255, 96 * 128).reshape(96, 128).astype(np.uint8)
    photo = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)
    head, seen = decoded(photo_uri(photo))
    assert "jpeg" in head
    assert np.abs(seen.astype(int) - photo).mean() < 4


def test_heat_rises_and_saturates() -> None:
    values = np.linspace(0, 2, 1000, dtype=np.float32).reshape(1, -1)
    light = heat(values, 1.0).astype(int).sum(axis=2)[0]
    assert (np.diff(light) >= 0).all()
    assert len(set(light[500:])) == 1
    assert len(np.unique(heat(values, 1.0).reshape(-1, 3), axis=0)) <= 256
    assert (heat(np.array([[np.nan, 0.0]], dtype=np.float32), 1.0)[0, 0] == heat(values, 1.0)[0, 0]).all()
