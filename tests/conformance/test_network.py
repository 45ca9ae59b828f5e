"""Every map that was recorded on the way through the published network, against ours.

Tolerances are those that the recordings suggest: arrays 1e-4 of their largest value, predictions a relative L2 distance
of 1e-5 in float32 and 1e-6 in float64.
"""

import numpy as np
import torch

# What the training tests and the inputs account for, and the draw after the last step, which nobody uses.
ELSEWHERE = ("image", "gt/", "task_w", "noise_order", "param_names", "loss", "grad", "adam1/", "bn_after/", "f64/")


def relative_l2(ours: torch.Tensor, recorded: np.ndarray) -> float:
    difference = ours.detach().double().numpy() - recorded
    return float(np.linalg.norm(difference) / np.linalg.norm(recorded))


def recorded_maps(recording) -> dict[str, np.ndarray]:
    maps = {name: array for name, array in recording.arrays.items() if not name.startswith(ELSEWHERE)}
    return {name: array for name, array in maps.items() if not name.endswith(("/noise", "/noise_T"))}


def test_every_recorded_map_is_compared(recording, single):
    wanted = recorded_maps(recording)
    assert wanted
    assert wanted.keys() - single.maps.keys() == set()


def test_every_map_on_the_way(recording, single):
    far = {}
    for name, recorded in recorded_maps(recording).items():
        ours = single.maps[name].detach().numpy()
        assert ours.shape == recorded.shape, name
        distance = np.abs(ours - recorded).max() / np.abs(recorded).max()
        if not distance <= 1e-4:
            far[name] = distance
    assert far == {}


def test_predictions(recording, single):
    names = [name for name in recording.arrays if name.startswith("preds/")]
    assert names
    far = {name: relative_l2(single.maps[name], recording.arrays[name]) for name in names}
    assert max(far.values()) <= 1e-5, far


def test_predictions_in_float64(recording, double):
    names = [name for name in recording.arrays if name.startswith("f64/preds/")]
    assert names
    far = {
        name: relative_l2(double.maps[name.removeprefix("f64/")][..., ::4, ::4], recording.arrays[name])
        for name in names
    }
    assert max(far.values()) <= 1e-6, far


def test_tasks_sizes_and_steps_are_read_off_the_checkpoint(recording, single):
    meta = recording.meta
    network = single.network
    assert [task.name for task in network.tasks] == meta["tasks"]
    assert {task.name: task.channels for task in network.tasks} == meta["num_output"]
    assert {task.name: task.weight for task in network.tasks} == meta["loss_weights"]
    assert network.refiner.schedule.steps == meta["num_timesteps"]
    assert len(network.refiner.denoiser.blocks) == meta["denoiser_depth"]
    assert sum(p.numel() for p in network.parameters()) == meta["params"]


def test_diffusion_constants_in_float64(recording, single):
    schedule = single.network.refiner.schedule
    recorded = recording.meta["constants_float64"]
    steps = range(schedule.steps)
    np.testing.assert_allclose(schedule.betas, recorded["betas"], rtol=1e-12)
    np.testing.assert_allclose([schedule.signal_power(k) for k in steps], recorded["alphas_cumprod"], rtol=1e-12)
    on_clean, on_noisy, variance = zip(*(schedule.posterior(k) for k in steps), strict=True)
    np.testing.assert_allclose(on_clean, recorded["posterior_mean_coef1"], rtol=1e-12)
    np.testing.assert_allclose(on_noisy, recorded["posterior_mean_coef2"], rtol=1e-12)
    np.testing.assert_allclose(variance, recorded["posterior_variance"], rtol=1e-12)
