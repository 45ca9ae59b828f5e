"""What a batch owes and teaches, against the recordings: losses, gradients, one step of Adam, batch statistics.

Tolerances are those that the recordings suggest: losses 1e-5, gradients 1e-4, parameters after the step 2e-6, and 1e-6
in float64.
"""

import numpy as np
import pytest

from diffusionmtl.models.published import our_name, published_name

LABELLED_ONLY = True


def our_losses(recording, done) -> dict[str, float]:
    """Under the names of the recording."""
    batch = len(recording.mask)
    named = {"total": done.owed.total.item()}
    for prefix, losses in (("", done.owed.final), ("inter_", done.owed.initial)):
        for task in recording.tasks:
            values = losses[task].tolist() if task in losses else []
            named[f"{prefix}{task}"] = sum(values) / batch
            for image, value in zip(recording.rows().get(task, []), values, strict=True):
                named[f"s{int(image)}/{prefix}{task}"] = value
    return named


def recorded_losses(arrays, prefix: str = "") -> dict[str, float]:
    found = {}
    for name, value in arrays.items():
        for start in ("loss/", "loss_raw/"):
            if name.startswith(prefix + start):
                found[name.removeprefix(prefix + start)] = float(value)
    return found


def gradient_norms(recording, done) -> np.ndarray:
    """In the order of the recording; NaN where the batch does not touch a parameter."""
    norms = []
    for name in recording.arrays["param_names"].tolist():
        gradient = done.gradients[our_name(name)]
        norms.append(np.nan if gradient is None else gradient.double().norm().item())
    return np.asarray(norms)


def test_losses(recording, single):
    assert our_losses(recording, single) == pytest.approx(recorded_losses(recording.arrays), rel=1e-5, abs=1e-9)


def test_losses_in_float64(recording, double):
    recorded = recorded_losses(recording.arrays, "f64/")
    ours = our_losses(recording, double)
    assert recorded
    assert {name: ours[name] for name in recorded} == pytest.approx(recorded, rel=1e-6, abs=1e-12)


def test_every_parameter_is_recorded(recording, single):
    ours = {published_name(name) for name, _ in single.network.named_parameters()}
    assert ours == set(recording.arrays["param_names"].tolist())


def test_the_same_parameters_get_no_gradient(recording, single):
    untouched = np.isnan(recording.arrays["grad_norm"])
    assert untouched.any() == (len(recording.rows()) < len(recording.tasks))
    np.testing.assert_array_equal(np.isnan(gradient_norms(recording, single)), untouched)


def test_gradient_norms(recording, single):
    np.testing.assert_allclose(gradient_norms(recording, single), recording.arrays["grad_norm"], rtol=1e-4)
    assert single.total_norm.item() == pytest.approx(float(recording.arrays["grad_total_norm"]), rel=1e-4)


def test_gradient_norms_in_float64(recording, double):
    np.testing.assert_allclose(gradient_norms(recording, double), recording.arrays["f64/grad_norm"], rtol=1e-6)


def test_full_gradients(recording, single):
    named = recording.meta["named_gradients"]
    assert named
    for name in named:
        assert_close(single.gradients[our_name(name)].numpy(), recording.arrays[f"grad/{name}"], 1e-4)


def test_gradients_at_the_backbone(recording, single):
    for index in range(4):
        ours = single.maps[f"backbone/{index}"].grad.numpy()
        assert_close(ours, recording.arrays[f"grad_backbone/{index}"], 1e-4)


def test_parameters_after_one_step_of_adam(recording, single):
    for name in recording.meta["named_gradients"]:
        ours = single.after_step[our_name(name)].numpy()
        np.testing.assert_allclose(ours, recording.arrays[f"adam1/{name}"], rtol=0, atol=2e-6)


def test_batch_statistics(recording, single):
    ours = single.network.state_dict()
    names = [name for name in recording.arrays if name.startswith("bn_after/")]
    assert len(names) == sum("running" in key or "num_batches" in key for key in ours)
    for name in names:
        recorded = recording.arrays[name]
        value = ours[our_name(name.removeprefix("bn_after/"))].numpy()
        np.testing.assert_allclose(value, recorded, rtol=0, atol=2e-7 * max(np.abs(recorded).max(), 1))


def assert_close(ours: np.ndarray, recorded: np.ndarray, tolerance: float) -> None:
    """By relative L2 distance, and nowhere further than the tolerance of the largest value."""
    assert ours.shape == recorded.shape
    assert np.linalg.norm(ours - recorded) <= tolerance * np.linalg.norm(recorded)
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=tolerance * np.abs(recorded).max())
