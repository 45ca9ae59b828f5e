"""Bands on disk are the files that a whole prediction makes, and half of one is never there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from diffusionmtl.inference.bands import Band, Estimates
from diffusionmtl.inference.calibration import Calibration
from diffusionmtl.inference.prediction import Prediction, TaskPrediction
from diffusionmtl.inference.saving import Saver
from diffusionmtl.inference.streams import NpyStream, PngStream
from diffusionmtl.metrics.calibration import Temperature
from tests.toy import TASKS, ToyDataset


def answer(height: int, width: int) -> Prediction:
    """A prediction of every kind, by chance."""
    generator = torch.Generator().manual_seed(0)
    estimates = {
        task.name: task.activate(torch.randn(1, task.channels, height, width, generator=generator))[0] for task in TASKS
    }
    spread = torch.rand(height, width, generator=generator)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    return Prediction(image, {t.name: TaskPrediction(t, estimates[t.name], spread, None) for t in TASKS})


def in_bands(prediction: Prediction, rows: int):
    height = prediction.image.shape[1]
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        yield Band(
            top,
            {
                name: Estimates(found.estimate[None, :, part], found.uncertainty[None, part], None)
                for name, found in prediction.items()
            },
        )


def pixels(path: Path):
    if path.suffix == ".npy":
        return np.load(path), None
    with Image.open(path) as picture:
        return np.asarray(picture), picture.mode


@pytest.mark.parametrize("fitted", [{}, {"semseg": Temperature(2.0, 0.0), "edge": Temperature(1.0, -1.0)}])
@pytest.mark.parametrize(("rows", "band_pixels"), [(1, 1), (3, 60), (7, 1), (100, 1), (3, 10**9)])
def test_bands_make_the_files_of_the_whole(tmp_path, rows, band_pixels, fitted):
    plain = answer(29, 13)
    prediction = Prediction(plain.image, {n: replace(task, fitted=fitted.get(n)) for n, task in plain.items()})
    whole = prediction.save(tmp_path / "whole", "a b/c.d")
    told = Calibration("", 2, 1.0, fitted)
    with Saver(TASKS, tmp_path / "bands", "a b/c.d", prediction.image, band_pixels, calibration=told) as saver:
        for band in in_bands(prediction, rows):
            saver.add(band)
        written = saver.finish()
    assert [p.relative_to(tmp_path / "bands") for p in written] == [p.relative_to(tmp_path / "whole") for p in whole]
    for one, other in zip(written, whole, strict=True):
        (mine, mode), (theirs, expected) = pixels(one), pixels(other)
        assert mode == expected and mine.dtype == theirs.dtype
        if one.relative_to(tmp_path / "bands").parts[0] == "confidence":
            # Exponentials of a row are not always computed as those of a whole image are: one of 65,535 levels.
            assert np.abs(mine.astype(int) - theirs).max() <= 1, one
        else:
            assert np.array_equal(mine, theirs), one
    for task in TASKS:
        file = next(p for p in written if p.parent.parent.name == task.name)
        assert task.read(file)[0].shape[-2:] == (29, 13)
    sure = {p.parent.parent.name: p for p in written if p.relative_to(tmp_path / "bands").parts[0] == "confidence"}
    assert sure.keys() == fitted.keys()
    for name, path in sure.items():
        expected = prediction[name].confidence.numpy()
        np.testing.assert_allclose(pixels(path)[0] / 65535, expected, atol=1e-5)
    palette = [Image.open(tmp_path / of / "semseg/a b/c.d.png").getpalette() for of in ("bands", "whole")]
    assert palette[0] == palette[1]


def test_a_large_image_has_a_small_picture(tmp_path):
    prediction = answer(40, 30)
    with Saver(TASKS, tmp_path, "a", prediction.image, preview=20) as saver:
        for band in in_bands(prediction, 7):
            saver.add(band)
        *_, picture = saver.finish()
    with Image.open(picture) as drawn:
        # 15 cells are enlarged to what a name needs.
        assert drawn.width == 11 * 15 * (1 + len(TASKS))
        shown = np.asarray(drawn)[: 11 * 20 : 11, : 11 * 15 : 11]
    assert np.array_equal(shown, prediction.image[:, ::2, ::2].permute(1, 2, 0).numpy())


def test_what_breaks_off_leaves_nothing(tmp_path):
    prediction = answer(20, 10)

    def broken():
        with Saver(TASKS, tmp_path, "a", prediction.image, 1) as saver:
            for band in in_bands(prediction, 3):
                saver.add(band)
                if band.top > 10:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@given(st.sampled_from(["L", "RGB", "I;16", "P"]), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_a_png_in_pieces_is_a_png(tmp_path_factory, mode, height, width, rows):
    random = np.random.default_rng(height * 100 + width)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    array = random.integers(0, 65536 if mode == "I;16" else 256, shape).astype(np.uint16 if mode == "I;16" else "u1")
    path = tmp_path_factory.mktemp("png") / "a.png"
    stream = PngStream(path, (height, width), mode, bytes(range(256)) * 3 if mode == "P" else b"")
    for top in range(0, height, rows):
        stream.add(array[top : top + rows])
    assert not path.exists()
    stream.finish()
    with Image.open(path) as picture:
        assert picture.mode == mode
        assert np.array_equal(np.asarray(picture), array)


def test_an_array_in_pieces_is_what_numpy_saves(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    stream = NpyStream(tmp_path / "a.npy", array.shape, array.dtype)
    stream.add(array[:2])
    stream.add(array[2:])
    stream.finish()
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_predictions_show_themselves_in_a_notebook():
    prediction = answer(9, 12)
    page = prediction._repr_html_()
    assert page.count("<img") == 1 + 2 * len(TASKS)
    assert "depth (m)" in page and "data:image/png;base64," in page
    page = ToyDataset(3, annotated={0: ("depth",)})._repr_html_()
    assert page.count("<img") == 2 + 1 + len(TASKS) and "3 images" in page and "<td>2</td>" in page
    assert "rgb(" in TASKS[0]._repr_html_() and "chair" in TASKS[0]._repr_html_()
    assert repr(prediction) == "Prediction(9x12: semseg, depth, normals, saliency, edge)"
    assert repr(prediction["depth"]) == "TaskPrediction(depth: depth, 9x12, in m, uncertainty in m)"
    arrays = prediction.to_numpy()
    assert {name: array.shape for name, array in arrays.items()} == {
        t.name: (9, 12, 3) if t.kind == "normals" else (9, 12) for t in TASKS
    }
    np.testing.assert_allclose(arrays["normals"], F.normalize(prediction["normals"].estimate, dim=0).permute(1, 2, 0))
