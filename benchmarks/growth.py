"""How work and time grow with tasks, steps, pixels, samples and labels."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from benchmarks import networks as given
from benchmarks.answers import as_loaded
from benchmarks.counting import META, count
from benchmarks.measure import Result, seconds
from benchmarks.steps import as_trained, step, together
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise, SeededNoise

Points = list[tuple[float, float]]
FULL = replace(given.SMALL, width=32)


def counts(quick: bool) -> Result:
    """Billions of multiply-adds and MiB of live maps of a step, counted; and what attention is of them, by pixels."""
    settings, usual = (given.THIN, 2) if quick else (FULL, 5)
    gmac: dict[str, Points] = {name: [] for name in ("tasks", "steps", "megapixels", "labels, %")}
    live: dict[str, Points] = {name: [] for name in gmac}

    def note(axis: str, x: float, done) -> None:
        gmac[axis].append((x, done.gmac))
        live[axis].append((x, done.peak_bytes / 2**20))

    for number in (1, 2) if quick else (1, 2, 5, 10, 15, 20):
        note("tasks", number, _counted(settings, number))
    for steps in (1, 2) if quick else (1, 2, 4, 8):
        note("steps", steps, _counted(replace(settings, steps=steps), usual))
    for side in (128, 256) if quick else (128, 256, 512, 768, 1024):
        note("megapixels", side**2 / 1e6, _counted(settings, usual, size=(side, side)))
    for percent in (0, 100) if quick else (0, 20, 40, 60, 80, 100):
        note("labels, %", percent, _counted(settings, usual, percent))
    curves = {
        "GMAC": gmac,
        "MiB": live,
        "attention, % of GMAC": {"megapixels": _attention(settings, quick)},
    }
    flat = {f"{what}, {axis} {x:g}": y for what, by in curves.items() for axis, line in by.items() for x, y in line}
    return Result(flat, {}, curves)


def _attention(settings: NetworkSettings, quick: bool) -> Points:
    """Products of queries with keys and of weights with values grow with the square of the tokens, all else with them.

    Beyond the sizes that are measured, to where it takes over.
    """
    network = given.network(settings).to(META).eval()
    found = []
    for side in (256, 512) if quick else (256, 512, 1024, 2048, 4096):
        image = torch.empty(1, 3, side, side, device=META)
        with torch.no_grad():
            whole = count(lambda image=image: network(image, NoNoise()), network).gmac
        tokens = (side // (settings.grid_stride * settings.token_stride)) ** 2
        each = 2 * tokens**2 * settings.width / 1e9
        found.append((side**2 / 1e6, 100 * each * settings.blocks * settings.steps * len(network.tasks) / whole))
    return found


def _mask(tasks: int, percent: int) -> np.ndarray:
    """Labels of four images: of those that there could be, so many per cent."""
    mask = given.labelled(4, tasks, "full")
    mask.flat[round(mask.size * percent / 100) :] = False
    return mask


@cache  # every axis passes through the usual step
def _counted(settings: NetworkSettings, tasks: int, percent: int = 100, size: tuple[int, int] = given.SMALL_SIZE):
    network = given.network(settings, given.many_tasks(tasks)).to(META).train()
    batch = given.batch(network.tasks, size, _mask(tasks, percent)).to(META)
    return count(lambda: together(network, batch, NoNoise()).backward(), network)


def times(quick: bool) -> Result:
    """Seconds, the best of three: training steps by tasks, steps and labels, answers by pixels and samples."""
    settings, usual = (given.THIN, 2) if quick else (FULL, 5)
    found: dict[str, Points] = {name: [] for name in ("tasks", "steps", "labels, %", "megapixels", "samples")}
    for number in (1, 2) if quick else (1, 2, 5, 10, 20):
        found["tasks"].append((number, _step_seconds(settings, number)))
    for steps in (1, 2) if quick else (1, 2, 4, 8):
        found["steps"].append((steps, _step_seconds(replace(settings, steps=steps), usual)))
    for percent in (0, 100) if quick else (0, 20, 40, 60, 80, 100):
        found["labels, %"].append((percent, _step_seconds(settings, usual, percent)))
    for side in (128, 256) if quick else (128, 256, 512, 768, 1024):
        found["megapixels"].append((side**2 / 1e6, _answer_seconds(settings, (side, side), 1)))
    for samples in (1, 4) if quick else (1, 2, 4, 8, 16):
        found["samples"].append((samples, _answer_seconds(settings, given.SMALL_SIZE, samples)))
    flat = {f"s, {axis} {x:g}": y for axis, line in found.items() for x, y in line}
    return Result(flat, {}, {"s": found})


def _step_seconds(settings: NetworkSettings, tasks: int, percent: int = 100) -> float:
    network = as_trained(given.network(settings, given.many_tasks(tasks))).train()
    batch = given.batch(network.tasks, given.SMALL_SIZE, _mask(tasks, percent))
    run = step(together, network, batch)
    run()
    return min(seconds(run) for _ in range(3))


def _answer_seconds(settings: NetworkSettings, size: tuple[int, int], samples: int) -> float:
    network = as_loaded(given.network(settings).eval())
    image = given.batch(network.tasks, size, given.labelled(1, 5, "none")).image

    @torch.inference_mode()
    def run() -> None:
        initial = network.initial(image)
        for draw in range(samples):
            network.finish(initial, SeededNoise(draw, [0]))

    run()
    return min(seconds(run) for _ in range(3))
