"""Drawing images again: known answers and what must hold for every draw."""

import numpy as np
import pytest

from diffusionmtl.errors import UserError
from diffusionmtl.inference.per_image import PerImage, load_per_image, save_per_image
from diffusionmtl.report.resampling import gain_draws, image_draws, interval, resampled
from diffusionmtl.tasks import Depth, SemanticSegmentation

DEPTH = Depth("depth")
TASKS = (DEPTH, SemanticSegmentation("semseg", classes=("a", "b")))


def depth_errors(*errors: float, images=None) -> PerImage:
    """Images of 10 pixels, each with this mean error."""
    statistics = np.array([[10.0, 10 * error] for error in errors])
    return PerImage(tuple(images or range(len(errors))), statistics)


def test_a_draw_takes_as_many_images_and_the_first_takes_each_once():
    draws = image_draws(7, 50, seed=1)
    assert draws.shape == (51, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert (draws[0] == 1).all()
    assert (draws >= 0).all() and (draws > 1).any()
    assert (image_draws(7, 50, seed=1) == draws).all()
    assert (image_draws(7, 50, seed=2) != draws).any()


def test_a_draw_pools_the_pixels_of_its_images():
    kept = {"depth": PerImage((3, 8), np.array([[10.0, 10.0], [30.0, 90.0]]))}
    draws = np.array([[1, 1, 1], [2, 0, 1], [0, 1, 0], [0, 0, 1]])
    found = resampled(TASKS, kept, draws, [3, 5, 8])["depth"]
    assert found[:2].tolist() == [100 / 40, (20 + 90) / (20 + 30)]
    assert np.isnan(found[2]), "image 5 has no depth label"
    assert found[3] == 3.0


def test_gains_by_hand():
    values = {"depth": np.array([1.0, 2.0]), "semseg": np.array([50.0, 60.0])}
    references = {"depth": np.array([2.0, 2.0]), "semseg": np.array([40.0, 60.0])}
    assert gain_draws(TASKS, values, references).tolist() == [(50 + 25) / 2, 0.0]


def test_a_task_undefined_for_all_images_is_left_out_and_one_undefined_in_a_draw_spoils_the_draw():
    nan = float("nan")
    values = {"depth": np.array([1.0, nan, 1.0]), "semseg": np.array([nan, 1.0, 1.0])}
    references = {"depth": np.array([2.0, 2.0, 2.0]), "semseg": np.array([1.0, 1.0, 1.0])}
    found = gain_draws(TASKS, values, references)
    assert found[0] == found[2] == 50.0 and np.isnan(found[1])
    assert interval(found) == (50.0, 50.0)
    assert gain_draws(TASKS, {}, references) is None


def test_networks_that_err_alike_differ_by_nothing_whichever_images_are_drawn():
    draws = image_draws(6, 200)
    figures = resampled([DEPTH], {"depth": depth_errors(1, 9, 2, 8, 3, 7)}, draws, range(6))
    assert np.ptp(figures["depth"]) > 1, "the figure itself depends on the images"
    assert interval(gain_draws([DEPTH], figures, figures)) == (0.0, 0.0)


def test_the_same_share_less_error_on_every_image_is_certain():
    draws = image_draws(6, 200)
    reference = resampled([DEPTH], {"depth": depth_errors(1, 9, 2, 8, 3, 7)}, draws, range(6))
    better = resampled([DEPTH], {"depth": depth_errors(0.75, 6.75, 1.5, 6, 2.25, 5.25)}, draws, range(6))
    assert interval(gain_draws([DEPTH], better, reference)) == pytest.approx((25, 25))


def test_the_interval_of_a_mean_is_that_of_statistics():
    """Of n independent errors of equal size the mean's standard error is sd / sqrt(n)."""
    rng = np.random.default_rng(0)
    errors = rng.uniform(1, 2, 200)
    figures = resampled([DEPTH], {"depth": depth_errors(*errors)}, image_draws(200, 4000), range(200))["depth"]
    low, high = interval(figures)
    half = 1.96 * errors.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.1 * half)


def test_what_each_image_adds_survives_the_file(tmp_path):
    parts = {"final": {"depth": depth_errors(1, 2, images=(4, 9))}, "initial": {}}
    save_per_image(tmp_path / "per-image.npz", parts)
    found = load_per_image(tmp_path / "per-image.npz")
    assert list(found) == ["final"] and found["final"]["depth"].images == (4, 9)
    assert (found["final"]["depth"].statistics == parts["final"]["depth"].statistics).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "per-image.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"per-image\.npz"):
        load_per_image(path)
