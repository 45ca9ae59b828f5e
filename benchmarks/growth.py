"""How work and time grow with tasks, steps, pixels, samples and labels."""

from dataclasses import replace

import torch

from benchmarks import networks as given
from benchmarks.counting import META, count
from benchmarks.measure import Result, seconds
from benchmarks.steps import step, together
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise, SeededNoise

Points = list[tuple[float, float]]
FULL = replace(given.SMALL, width=32)


def counts(quick: bool) -> Result:
    """Billions of multiply-adds and MiB of live maps, counted: of a step (tasks, steps, labels) or an answer (rest)."""
    settings = given.THIN if quick else FULL
    gmac: dict[str, Points] = {name: [] for name in ("tasks", "steps", "megapixels", "labels, %")}
    live: dict[str, Points] = {name: [] for name in gmac}

    def note(axis: str, x: float, done) -> None:
        gmac[axis].append((x, done.gmac))
        live[axis].append((x, done.peak_bytes / 2**20))

    for number in (1, 5) if quick else (1, 2, 5, 10, 15, 20):
        note("tasks", number, _counted(settings, number, "full"))
    for steps in (1, 2) if quick else (1, 2, 4, 8):
        note("steps", steps, _counted(replace(settings, steps=steps), 5, "full"))
    for side in (128, 256) if quick else (128, 256, 512, 768, 1024):
        note("megapixels", side**2 / 1e6, _counted(settings, 5, "full", (side, side)))
    for percent in (0, 100) if quick else (0, 20, 40, 60, 80, 100):
        note("labels, %", percent, _counted(settings, 5, percent))
    curves = {"GMAC": gmac, "MiB": live}
    flat = {f"{what}, {axis} {x:g}": y for what, by in curves.items() for axis, line in by.items() for x, y in line}
    return Result(flat, {}, curves)


def _counted(settings: NetworkSettings, tasks: int, labels: str | int, size: tuple[int, int] = given.SMALL_SIZE):
    network = given.network(settings, given.many_tasks(tasks)).to(META).train()
    if isinstance(labels, str):
        mask = given.labelled(4, tasks, labels)
    else:
        mask = given.labelled(4, tasks, "full")
        mask.flat[round(mask.size * labels / 100) :] = False
    batch = given.batch(network.tasks, size, mask).to(META)
    return count(lambda: together(network, batch, NoNoise()).backward(), network)


def times(quick: bool) -> Result:
    """Seconds, the best of three: training steps by tasks and steps, answers by pixels and samples."""
    settings = given.THIN if quick else FULL
    found: dict[str, Points] = {name: [] for name in ("tasks", "steps", "megapixels", "samples")}
    for number in (1, 5) if quick else (1, 2, 5, 10, 20):
        found["tasks"].append((number, _step_seconds(settings, number)))
    for steps in (1, 2) if quick else (1, 2, 4, 8):
        found["steps"].append((steps, _step_seconds(replace(settings, steps=steps), 5)))
    for side in (128, 256) if quick else (128, 256, 512, 768, 1024):
        found["megapixels"].append((side**2 / 1e6, _answer_seconds(settings, (side, side), 1)))
    for samples in (1, 4) if quick else (1, 2, 4, 8, 16):
        found["samples"].append((samples, _answer_seconds(settings, given.SMALL_SIZE, samples)))
    flat = {f"s, {axis} {x:g}": y for axis, line in found.items() for x, y in line}
    return Result(flat, {}, {"s": found})


def _step_seconds(settings: NetworkSettings, tasks: int) -> float:
    network = given.network(settings, given.many_tasks(tasks)).train()
    batch = given.batch(network.tasks, given.SMALL_SIZE, given.labelled(4, tasks, "full"))
    run = step(together, network, batch)
    run()
    return min(seconds(run) for _ in range(3))


def _answer_seconds(settings: NetworkSettings, size: tuple[int, int], samples: int) -> float:
    network = given.network(settings).eval()
    image = given.batch(network.tasks, size, given.labelled(1, 5, "none")).image

    @torch.inference_mode()
    def run() -> None:
        initial = network.initial(image)
        for draw in range(samples):
            network.finish(initial, SeededNoise(draw, [0]))

    run()
    return min(seconds(run) for _ in range(3))
