"""Uncertainties of networks whose errors are known, and calibrations that change what is said but no answer."""

import math
from dataclasses import replace

import pytest
import torch

from diffusionmtl.build import build_network
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import (
    Calibration,
    calibrated_confidence,
    calibration_for,
    class_entropy,
    digest_of,
    read_calibration,
    save_calibration,
)
from diffusionmtl.inference.draws import Ensemble
from diffusionmtl.inference.fitting import fit_calibration
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.uncertainty import (
    CALIBRATED_ENTROPY,
    CLASSES,
    DRAWS,
    ENTROPY,
    EXPECTED,
    MIRROR,
    measure_uncertainty,
)
from diffusionmtl.metrics.calibration import Scale, Temperature
from tests.toy import TASK_NAMES, TASKS, ToyDataset, labels_at

BY_NAME = {task.name: task for task in TASKS}
DEPTH, SEMSEG = BY_NAME["depth"], BY_NAME["semseg"]
EVERYTHING = {index: frozenset(TASK_NAMES) for index in range(4)}


class Known:
    """Depth is off by 3 spreads and 5 cm; semseg says 0.88 or 0.76, and is wrong in a quarter of the pixels."""

    size = None
    tasks = (DEPTH, SEMSEG)

    def draws(self, image, keys, samples, seed, size):
        red, green = image.float()[:, 0] / 255, image.float()[:, 1] / 255
        labels = [labels_at(r, g) for r, g in zip(red, green, strict=True)]
        depth = torch.stack([torch.as_tensor(label["depth"]) for label in labels])
        spread = 0.1 * red[:, None]
        yield DEPTH, torch.stack([depth + 3 * spread + 0.05 + sign * spread for sign in (-1, 1)])
        truth = torch.stack([torch.as_tensor(label["semseg"])[0].long() for label in labels])
        wrong = red > 0.75
        sure = torch.where(wrong, 0.76, 0.88)
        one = torch.nn.functional.one_hot((truth + wrong) % 4, 4).movedim(-1, 1)
        yield SEMSEG, (one * sure[:, None] + (1 - one) * ((1 - sure) / 3)[:, None])[None].repeat(2, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def fits():
    tasks = {task.name: task for task in Known.tasks}
    return fit_calibration(Known(), ToyDataset(4, invalid=5), tasks, EVERYTHING, 2, 0)


def test_a_calibration_is_found(fits):
    assert fits["depth"].fitted.scale == pytest.approx(3, rel=1e-2)
    assert fits["depth"].fitted.floor == pytest.approx(0.05, rel=1e-2)
    assert fits["depth"].after["calibration_error"] < 1e-3 < fits["depth"].before["calibration_error"]
    # The error is 3 spreads and a little: within 3 times the spread nowhere, within twice the fitted error everywhere.
    assert fits["depth"].before["within_3"] == 0 and fits["depth"].after["within_2"] == 1
    assert fits["semseg"].fitted.temperature > 1.05
    assert fits["semseg"].after["nll"] < fits["semseg"].before["nll"]
    for fit in fits.values():
        assert fit.images == 4 and fit.checked and fit.pixels == 4 * 24 * (32 - 5)


def test_only_wanted_labels_are_opened():
    dataset = ToyDataset(4)
    tasks = {"depth": DEPTH}
    found = fit_calibration(Known(), dataset, tasks, {2: frozenset({"depth"}), 3: frozenset({"edge"})}, 2, 0)
    assert dataset.opened == [(2, "depth")]
    assert found["depth"].images == 1 and not found["depth"].checked


def test_measured_on_labels(fits):
    tasks = {task.name: task for task in Known.tasks}
    calibration = Calibration("", 2, 1.0, {name: fit.fitted for name, fit in fits.items()})
    found = measure_uncertainty(Known(), ToyDataset(4, invalid=5), tasks, EVERYTHING, 2, 0, calibration)
    depth, semseg = found["depth"], found["semseg"]
    assert depth.unit == "m" and depth.pixels == 4 * 24 * 27 and depth.images == 4
    # The error grows with the spread, so the spread ranks as the oracle does.
    assert depth.ause[DRAWS] == pytest.approx(0, abs=1e-3) and depth.chance > 0.1
    assert set(depth.ause) == {DRAWS, EXPECTED, MIRROR, CLASSES}
    assert set(semseg.ause) == {DRAWS, ENTROPY, CALIBRATED_ENTROPY, MIRROR}
    assert depth.ause[EXPECTED] == pytest.approx(0, abs=1e-2)
    # Classes are unsure where red is above 3/4, and there depth is off by most.
    assert 0 < depth.ause[CLASSES] < depth.chance
    assert depth.after.error < 1e-3 < depth.before.error == pytest.approx(2 / 3 * (depth.error - 0.05) + 0.05, rel=1e-3)
    # Both draws are equal, so their spread says nothing; the entropy is higher where it is wrong.
    assert semseg.ause[DRAWS] == pytest.approx(semseg.chance, abs=1e-6)
    assert semseg.ause[ENTROPY] == pytest.approx(0, abs=1e-6)
    assert semseg.error == pytest.approx(8 / 27)
    sure = [0.76, 0.88]
    assert semseg.before.stated == pytest.approx(sure, abs=1e-4) and semseg.before.came == (0.0, 1.0)
    assert semseg.before.error == pytest.approx(8 / 27 * 0.76 + 19 / 27 * 0.12, abs=1e-4)
    assert semseg.after.nll < semseg.before.nll


@pytest.fixture(scope="module")
def network():
    words = dict(backbone="test_efficientnet", width=16, blocks=1, token_stride=2, noise_start=0.3, noise_end=0.5)
    return build_network(TASKS, changed(Settings(), **words).network)


PICTURE = ToyDataset(1).image(0)
CALIBRATION = Calibration("", 2, 1.0, {"depth": Scale(5.0, 0.25), "edge": Temperature(2.0, -1.0)})


def test_a_calibration_changes_no_answer(network):
    plain = Predictor(network, (32, 32))(PICTURE, samples=2)
    told = Predictor(network, (32, 32), calibration=CALIBRATION)(PICTURE, samples=2)
    for task in TASK_NAMES:
        assert torch.equal(plain[task].estimate, told[task].estimate)
        if task != "depth":
            assert torch.equal(plain[task].uncertainty, told[task].uncertainty)
    assert torch.allclose(told["depth"].uncertainty, 5 * plain["depth"].uncertainty + 0.25)
    assert told["depth"].probability is None
    assert torch.allclose(plain["edge"].probability, plain["edge"].value, atol=1e-6)
    assert torch.allclose(told["edge"].probability, (plain["edge"].value.logit() / 2 - 1).sigmoid(), atol=1e-5)
    assert torch.allclose(told["semseg"].probability, plain["semseg"].estimate, atol=1e-6)


def test_what_else_foretells_an_error_is_used(network):
    """The classes' entropy and how far away things are, in one draw's answer as in the rows of a large one."""
    told = Calibration(
        "", 2, 1.0, {"depth": Scale(5.0, 0.25, classes=2.0, extent=0.5), "normals": Scale(0.0, 1.0, 3.0)}
    )
    plain = Predictor(network, (32, 32))(PICTURE, samples=2)
    found = Predictor(network, (32, 32), calibration=told)(PICTURE, samples=2)
    entropy = class_entropy([(SEMSEG, plain["semseg"].estimate[None])])[0]
    assert 0 < float(entropy.min()) <= float(entropy.max()) <= 1
    right = 5 * plain["depth"].uncertainty + 0.25 + 2 * entropy + 0.5 * plain["depth"].value[0]
    assert torch.allclose(found["depth"].uncertainty, right, atol=1e-5)
    assert torch.allclose(found["normals"].uncertainty, 1 + 3 * entropy, atol=1e-5)


def test_without_classes_nothing_is_said_of_them():
    assert class_entropy([(DEPTH, torch.ones(1, 1, 2, 2)), (BY_NAME["edge"], torch.full((1, 1, 2, 2), 0.3))]) is None
    one, two = torch.full((1, 4, 1, 1), 0.25), torch.tensor([1.0, 0, 0, 0]).reshape(1, 4, 1, 1)
    both = class_entropy([(SEMSEG, one), (DEPTH, torch.ones(1, 1, 1, 1)), (SEMSEG, two)])
    assert float(both) == pytest.approx(0.5, abs=1e-3), "the mean of both"


def test_what_is_fitted_to_spreads_is_left_out_of_mirrored_draws(tmp_path, network):
    """Numbers, and what the picture calls them: the same as of a run whose calibration has none for spreads."""
    predictor = Predictor(network, (32, 32), calibration=CALIBRATION)
    plain = Predictor(network, (32, 32), calibration=CALIBRATION.without_spreads())
    assert plain.calibration is not None and plain.calibration.tasks == {"edge": Temperature(2.0, -1.0)}
    flipped, without = (of(PICTURE, samples=2, flip=True) for of in (predictor, plain))
    for name in flipped:
        assert torch.equal(flipped[name].uncertainty, without[name].uncertainty)
        assert flipped[name].fitted == without[name].fitted
    assert predictor.calibration_for(False) is CALIBRATION
    assert predictor.calibration_for(True) == plain.calibration


def test_a_calibration_of_an_earlier_version_is_read(tmp_path):
    text = '{"weights": "", "samples": 2, "noise_scale": 1.0, "tasks": {"depth": {"scale": 2.0, "floor": 0.5}}}'
    (tmp_path / "calibration.json").write_text(text)
    found = read_calibration(tmp_path)
    assert found is not None and found.tasks == {"depth": Scale(2.0, 0.5, 0.0, 0.0)}


def test_the_probability_of_the_answer():
    classes = torch.tensor([0.7, 0.2, 0.06, 0.04]).reshape(1, 4, 1, 1)
    cooler = (classes.log() / 2).softmax(dim=1)[:, 0]
    assert torch.allclose(calibrated_confidence(SEMSEG, classes, Temperature(2.0, 0.0)), cooler)
    # The answer, cut at one half, stays yes for 0.9 although that is then less probable than no.
    yes = torch.tensor([0.9, 0.1]).reshape(1, 1, 1, 2)
    shifted = (torch.tensor([9.0, 1 / 9]).log() - 3).sigmoid()
    found = calibrated_confidence(BY_NAME["edge"], yes, Temperature(1.0, -3.0))
    assert torch.allclose(found[0, 0], torch.stack([shifted[0], 1 - shifted[1]]), atol=1e-5) and found[0, 0, 0] < 0.5
    assert calibrated_confidence(DEPTH, yes, Scale(1.0, 1.0)) is None
    assert calibrated_confidence(SEMSEG, classes, None) is None


def test_noise_of_another_strength(network):
    image, keys = PICTURE[None], [7]
    spreads = []
    for scale in (0.0, 1.0, 4.0):
        predictor = Predictor(network, None, noise_scale=scale)
        draws = {task.name: draws for task, draws in predictor.draws(image, keys, 3, 0)}
        spreads.append(float(DEPTH.spread(draws["depth"]).mean()))
        mean = predictor.estimate(image, keys, 3, 0)["depth"].mean
        assert torch.equal(mean, draws["depth"].mean(dim=0))
    assert spreads[0] == 0 < spreads[1] < spreads[2]


def test_an_ensemble_gives_a_draw_per_network(network):
    one, other = Predictor(network, None), Predictor(network, None, noise_scale=0.0)
    both = Ensemble([one, other], ["one", "other"])
    for task, draws in both.draws(PICTURE[None], [0], 5, 0, None):
        alone = next(d for t, d in other.draws(PICTURE[None], [0], 1, 0) if t == task)
        assert len(draws) == 2 and torch.equal(draws[1:], alone)
    with pytest.raises(UserError, match="--ensemble other: its tasks or --size"):
        Ensemble([one, Predictor(network, (64, 64))], ["one", "other"])


def test_a_calibration_is_kept_in_the_run(tmp_path):
    weights = tmp_path / "last.safetensors"
    weights.write_bytes(b"weights")
    assert calibration_for(tmp_path, weights, 1.0) is None
    whole = replace(CALIBRATION, weights=digest_of(weights))
    path = save_calibration(tmp_path, whole, {"edge": {"images": 3}})
    assert read_calibration(tmp_path) == whole == calibration_for(tmp_path, weights, 1.0)
    with pytest.raises(UserError, match=r"was made with --noise-scale 1, not 3; calibrate again"):
        calibration_for(tmp_path, weights, 3.0)
    weights.write_bytes(b"others")
    with pytest.raises(UserError, match=r"other weights than last.safetensors; .*--uncalibrated"):
        calibration_for(tmp_path, weights, 1.0)
    text = path.read_text()
    for damaged in ("{}", text.replace("2.0", "0.0"), text.replace("0.25", "-1"), text[:30]):
        path.write_text(damaged)
        with pytest.raises(UserError, match="not a calibration"):
            read_calibration(tmp_path)


def test_one_draw_of_a_kind_without_probabilities_states_nothing():
    class Once(Known):
        def draws(self, *args):
            for task, draws in super().draws(*args):
                yield task, draws[:1]

    tasks = {task.name: task for task in Known.tasks}
    assert set(fit_calibration(Once(), ToyDataset(2), tasks, {0: frozenset(tasks)}, 1, 0)) == {"semseg"}
    found = measure_uncertainty(Once(), ToyDataset(2), tasks, {0: frozenset(tasks)}, 1, 0)
    assert found["depth"].before is None and set(found["depth"].ause) == {MIRROR, CLASSES}
    assert math.isfinite(found["semseg"].before.error)
