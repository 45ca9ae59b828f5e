"""Tiles say what the whole image would have said, as far as that can be promised, in rows of any number."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffusionmtl.build import build_network
from diffusionmtl.config import Settings, changed
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.inference.bands import FINAL, bands
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.tiles import FieldNoise, Plan, Tiling, blended, spans, weights
from diffusionmtl.seeds import derive_seed
from tests.toy import TASKS

SMALL = dict(width=16, blocks=1, token_stride=2, noise_start=0.3, noise_end=0.5)


def network(method: str, backbone: str):
    return build_network(TASKS, changed(Settings(), **SMALL, method=method, backbone=backbone).network, 0)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@given(st.integers(1, 400), st.integers(1, 130), st.floats(0, 0.5), st.sampled_from([16, 32]))
@example(50, 20, 0.5, 32)  # a tile of one step of the grid
@settings(deadline=None, max_examples=60)
def test_tiles_cover_an_image_and_share_every_cell(length, tile, share, multiple):
    overlap, stride = int(tile * share), 8
    found = spans(length, tile, overlap, multiple)
    assert found[0][0] == 0 and length <= found[-1][1] < length + multiple
    assert all(a % multiple == b % multiple == 0 for a, b in found)
    assert all(before[0] < after[0] <= before[1] - overlap for before, after in pairwise(found))
    total = np.zeros(found[-1][1] // stride)
    for (a, b), part in zip(found, weights(found, overlap, stride), strict=True):
        assert part.min() >= 0
        total[a // stride : b // stride] += part
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_the_outer_quarter_of_an_overlap_counts_for_nothing():
    first, second = weights(((0, 128), (64, 192)), 64, 8)
    assert first[-2:].tolist() == [0, 0] and second[:2].tolist() == [0, 0]
    assert (np.diff(first[8:]) <= 0).all() and (np.diff(second[:8]) >= 0).all()
    # At the border of the image nothing is lost.
    assert first[0] == second[-1] == 1


@pytest.mark.parametrize(("tile", "overlap"), [((32, 48), 16), ((64, 32), 0), ((500, 500), 32)])
def test_tiles_that_agree_are_blended_into_what_they_agree_on(tile, overlap):
    """Neither doubled nor faded: a line that passes through seams stays one line of the same height."""
    plan = Plan.of((150, 170), Tiling(tile, overlap), 16, 8)
    whole = torch.randn(2, 3, *plan.grid)
    whole[..., 7] = 9.0

    def look(top, left, bottom, right):
        return {(FINAL, "x"): whole[..., top // 8 : bottom // 8, left // 8 : right // 8]}

    blocks = [maps[FINAL, "x"] for maps in blended(plan, look)]
    assert len(blocks) == len(plan.rows)
    torch.testing.assert_close(torch.cat(blocks, dim=-2), whole)


@pytest.mark.parametrize("size", [(41, 83), (1, 5), (9, 7)])
@pytest.mark.parametrize("fitted", [None, (48, 64)])
def test_rows_are_those_of_the_whole(size, fitted):
    """However few are made at a time, for an image that is seen as it is and for one that is shrunk or enlarged."""
    predictor = Predictor(network("feature", "test_efficientnet"), fitted)
    image = picture(*size)
    seen = image if fitted is None else predictor_view(image, fitted)
    expected = predictor.estimate(seen[None], [0], 2, 0, size)
    plan = Plan.of((seen.shape[-2], seen.shape[-1]), None, 32, 8)
    seeds = [derive_seed(0, "sample", i) for i in range(2)]
    for budget in (1, 10**9):
        view = [predictor._look(seen, plan, (0, 0, *plan.padded), seeds, ("final",), False)]
        parts = list(bands(TASKS, plan, size, [view], budget))
        assert [part.top for part in parts] == list(range(size[0]) if budget == 1 else [0])
        for task in TASKS:
            mean = torch.cat([part.tasks[task.name].mean for part in parts], dim=-2)
            spread = torch.cat([part.tasks[task.name].spread for part in parts], dim=-2)
            torch.testing.assert_close(mean, expected[task.name].mean, atol=1e-5, rtol=1e-4)
            # The angle between almost equal directions magnifies rounding.
            torch.testing.assert_close(spread, expected[task.name].spread, atol=0.05, rtol=1e-3)


def predictor_view(image, size):
    from diffusionmtl.data.transforms import fit

    return fit(image, size)


def reach(predictor: Predictor, width: int) -> int:
    """How many pixels beside a changed column an answer of the network changes, at most."""
    image = picture(32, width)
    other = image.clone()
    middle = width // 2
    other[..., middle] = 255 - other[..., middle]
    one, two = (predictor(x) for x in (image, other))
    moved = [((one[name].estimate - two[name].estimate).abs() > 1e-6).any(dim=0).any(dim=0) for name in one]
    return int((torch.stack(moved).any(dim=0).nonzero() - middle).abs().max())


def test_a_network_that_looks_around_itself_only_says_the_same_in_tiles():
    """What can be promised: where a quarter of the overlap is more than the network's reach, only rounding differs."""
    predictor = Predictor(network("multitask", "test_resnet"), None)
    far = reach(predictor, 800)
    assert 0 < far < 300
    overlap = 4 * (far + 32)
    tiling = Tiling((2 * overlap + 64, 2 * overlap + 64), overlap)
    image = picture(32, 4 * overlap, 3)
    whole, tiled = predictor(image), predictor(image, tiling=tiling)
    for name in whole:
        torch.testing.assert_close(whole[name].estimate, tiled[name].estimate, atol=1e-4, rtol=1e-4)
    # Without an overlap every seam shows: the test can fail.
    seams = predictor(image, tiling=replace(tiling, overlap=0))
    assert max(float((whole[n].estimate - seams[n].estimate).abs().max()) for n in whole) > 1e-3


def test_one_tile_that_holds_the_image_is_the_image():
    for method in ("feature", "multitask"):
        predictor = Predictor(network(method, "test_efficientnet"), None)
        image = picture(50, 70)
        one, other = (predictor(image, 2, tiling=Tiling(tile, 0)) for tile in ((64, 96), (500, 500)))
        whole = predictor(image, 2)
        for name in one:
            assert torch.equal(one[name].estimate, other[name].estimate)
            if method == "multitask":
                assert torch.equal(one[name].estimate, whole[name].estimate)


def test_tiles_that_overlap_see_the_same_noise():
    rows = torch.arange(1)
    whole = FieldNoise(5, 0, 0)("depth", 1, rows, torch.empty(1, 4, 50, 70))
    part = FieldNoise(5, 29, 7)("depth", 1, rows, torch.empty(1, 4, 20, 60))
    assert torch.equal(part, whole[..., 29:49, 7:67])
    assert abs(float(whole.mean())) < 0.05 and abs(float(whole.std()) - 1) < 0.05
    others = [FieldNoise(6, 0, 0)("depth", 1, rows, whole), FieldNoise(5, 0, 0)("depth", 2, rows, whole)]
    others += [FieldNoise(5, 0, 0)("edge", 1, rows, whole), FieldNoise(5, 32, 0)("depth", 1, rows, whole)]
    for other in [*others, whole.roll(32, dims=-1)]:
        assert abs(float((other * whole).mean())) < 0.05


def test_uncertainty_has_no_seams():
    """Overlaps that averaged two draws would be surer than the rest."""
    predictor = Predictor(network("feature", "test_efficientnet"), None)
    spread = predictor(torch.full((3, 128, 128), 90, dtype=torch.uint8), 6, tiling=Tiling((64, 128), 32))
    rows = spread["saliency"].uncertainty.mean(dim=1)
    seam, beside = rows[32:64].mean(), torch.cat([rows[8:24], rows[72:88]]).mean()
    assert 0.85 < float(seam / beside) < 1.18


@pytest.mark.parametrize("method", ["feature", "multitask"])
def test_a_flipped_view_makes_the_answer_of_a_mirror_image_the_mirrored_answer(method):
    """For 64 columns, which need no padding, at a network without chance."""
    predictor = Predictor(network(method, "test_resnet"), None)
    if predictor.network.refiner is not None:
        predictor.network.refiner.noisy = False
    image = picture(32, 64)
    one, other = predictor(image, flip=True), predictor(image.flip(-1), flip=True)
    for task in TASKS:
        mirrored = task.mirrored(other[task.name].estimate[None])[0]
        torch.testing.assert_close(one[task.name].estimate, mirrored, atol=1e-5, rtol=1e-4)
        assert one[task.name].uncertainty is not None
    x = one["normals"].estimate
    assert torch.equal(TASKS[2].mirrored(x[None])[0], torch.stack([-x[0].flip(-1), x[1].flip(-1), x[2].flip(-1)]))


def test_flipping_is_the_mean_of_two_views():
    predictor = Predictor(network("multitask", "test_efficientnet"), None)
    image = picture(20, 30)
    noise = SeededNoise(0, [0])
    both = predictor(image, flip=True)
    with torch.inference_mode():
        outputs = [predictor.network(x[None], noise) for x in (image, image.flip(-1))]
    for task in TASKS:
        plain, mirror = (task.activate(o.canvas.to_image(o.final[task.name])) for o in outputs)
        mean = (plain + task.mirrored(mirror)) / 2
        torch.testing.assert_close(both[task.name].estimate, mean[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("tile", "overlap"), [((0, 5), 0), ((64, 64), 33), ((64, 64), -1)])
def test_tilings_that_make_no_sense_are_refused(tile, overlap):
    with pytest.raises(ValueError):
        Tiling(tile, overlap)


def test_large_images_are_tiled_only_where_nothing_shrinks_them():
    local = network("multitask", "test_efficientnet")
    assert Predictor(local, None).tiling_for((2000, 2000)) is None
    assert Predictor(local, None).tiling_for((2000, 2001)) is not None
    assert Predictor(local, (64, 64)).tiling_for((9000, 12000)) is None
