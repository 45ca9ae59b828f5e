"""Training steps: against the reference in time, launches and memory, and in bfloat16."""

import copy
import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks import networks as given
from benchmarks import reference
from benchmarks.counting import META, Work, count
from benchmarks.measure import (
    LEAST,
    Ratio,
    Result,
    counted,
    in_a_process,
    peak_bytes,
    repeats,
    side_by_side,
    speedup,
    spreads,
)
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoiseSource, NoNoise, SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.models.recompute import Again
from diffusionmtl.training.objective import objective
from diffusionmtl.types import Batch

Walk = Callable[[Network, Batch, NoiseSource], torch.Tensor]
QUICK_SIZE = (64, 64)


def together(network: Network, batch: Batch, noise: NoiseSource) -> torch.Tensor:
    """The loss as training computes it."""
    rows = {task: labels.rows for task, labels in batch.labels.items()}
    return objective(network.tasks, network(batch.image, noise, rows), batch).total


def one_by_one(network: Network, batch: Batch, noise: NoiseSource) -> torch.Tensor:
    """The loss pair by pair."""
    return reference.training_loss(network, network.tasks, batch, noise)


WALKS: dict[str, Walk] = {"ours": together, "reference": one_by_one}
AGAIN: dict[str, Again] = {"ours, light": "light", "ours, checkpointed": True}


def step(walk: Walk, network: Network, batch: Batch, half: bool = False) -> Callable[[], None]:
    """One step: forward, backward, an update by Adam, in our own steps as training calls it."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=walk is together)
    noise = SeededNoise(0, batch.indices)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = walk(network, batch, noise)
        loss.backward()
        optimizer.step()

    return run


def as_trained(network: Network) -> Network:
    """A copy whose maps lie as training lays them."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _compared(
    settings: NetworkSettings,
    size: tuple[int, int],
    images: int,
    rounds: int,
    goals: Mapping[str, float | None],
    again: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """`again`: per label setting, what of `AGAIN` takes turns too."""
    figures, ratios = {}, {}
    plain = given.network(settings).train()
    ours = as_trained(plain)
    for protocol, goal in goals.items():
        batch = given.batch(plain.tasks, size, given.labelled(images, len(plain.tasks), protocol))
        lighter = (again or {}).get(protocol, ())
        codes = {name: step(walk, ours if walk is together else plain, batch) for name, walk in WALKS.items()}
        codes |= {name: _recomputing(AGAIN[name], ours, batch) for name in lighter}
        times = side_by_side(codes, rounds)
        name = f"training step, {size[0]}x{size[1]}, width {settings.width}, batch {images}, {protocol}"
        figures |= {f"{name}, {what}": value for what, value in spreads(times).items()}
        ratios[f"{name}: times faster"] = Ratio(speedup(times, "ours", "reference"), target=goal)
        for who in lighter:
            ratios[f"{name}: times as long, {who}"] = Ratio(speedup(times, "ours", who), LEAST, 1.35)
        gc.collect()
    return Result(figures, ratios)


def _recomputing(again: Again, network: Network, batch: Batch) -> Callable[[], None]:
    """A step of a network that the plain one shares."""
    run = step(together, network, batch)

    def recomputed() -> None:
        network.recompute(again)
        try:
            run()
        finally:
            network.recompute(False)

    return recomputed


def small(quick: bool) -> Result:
    """What CPU users and CI train, in two sizes."""
    if quick:
        return _compared(given.THIN, QUICK_SIZE, 6, repeats(quick), {"one": None, "random": None})
    return _joined(
        _compared(given.SMALL, size, 12, 9, {"one": 1.5, "random": 2.0})
        for size in (given.LEAST_SIZE, given.SMALL_SIZE)
    )


def paper(quick: bool, images: int = 2) -> Result:
    """The paper's size. A quarter of an hour on two cores for batch 2, three for batch 6, and 12 GB."""
    if quick:
        return _compared(given.THIN, (128, 128), images, repeats(quick), {"random": None}, {"random": [*AGAIN]})
    again = {"random": [*AGAIN] if images == 2 else ["ours, light"]}
    return _compared(given.PAPER, given.PAPER_SIZE, images, 5, {"one": 1.0, "random": 1.1}, again)


def _joined(results: Iterable[Result]) -> Result:
    found = [*results]
    return Result(
        {name: value for each in found for name, value in each.figures.items()},
        {name: value for each in found for name, value in each.ratios.items()},
    )


def half(quick: bool) -> Result:
    """Mixed precision against float32; pays on processors with bfloat16 units only."""
    settings, size, images = (given.THIN, QUICK_SIZE, 4) if quick else (given.PAPER, given.PAPER_SIZE, 2)
    network = as_trained(given.network(settings)).train()
    batch = given.batch(network.tasks, size, given.labelled(images, len(network.tasks), "random"))
    codes = {name: step(together, network, batch, half=name == "bf16") for name in ("fp32", "bf16")}
    times = side_by_side(codes, repeats(quick))
    return Result(spreads(times), {"training in bf16: times faster": Ratio(speedup(times, "bf16", "fp32"), target=1.5)})


def work(settings: NetworkSettings, size: tuple[int, int], images: int, protocol: str) -> dict[str, Work]:
    """Forward and backward of both walks, and of ours with maps computed again, counted without numbers."""
    network = given.network(settings).to(META).train()
    mask = given.labelled(images, len(network.tasks), protocol)
    batch = given.batch(network.tasks, size, mask).to(META)
    found = {}
    for name, walk in [*WALKS.items(), *((name, together) for name in AGAIN)]:
        network.recompute(AGAIN.get(name, False))
        network.zero_grad(set_to_none=True)
        found[name] = count(lambda walk=walk: walk(network, batch, NoNoise()).backward(), network)
    return found


def launches(quick: bool) -> Result:
    """Kernel launches, arithmetic and live bytes of a step, counted and not timed. The optimiser is not counted."""
    settings, size = (given.THIN, QUICK_SIZE) if quick else (given.PAPER, given.PAPER_SIZE)
    figures, ratios = {}, {}
    for images, protocol in ((3, "random"),) if quick else ((2, "one"), (6, "one"), (6, "random")):
        done = work(settings, size, images, protocol)
        name = f"batch {images}, {protocol}"
        for who, each in done.items():
            figures |= {f"{name}, {who} launches": each.launches, f"{name}, {who} GMAC": round(each.gmac, 2)}
            figures[f"{name}, {who} peak MiB"] = round(each.peak_bytes / 2**20)
        ours, theirs, light, again = (done[name] for name in ("ours", "reference", *AGAIN))
        asked = (images, protocol) == (6, "random")
        goal = 1 / 3 if asked else None
        ratios[f"{name}: launches"] = Ratio(counted(ours.launches / theirs.launches), LEAST, goal)
        ratios[f"{name}: multiply-adds"] = Ratio(counted(ours.gmac / theirs.gmac), LEAST, 1.0)
        share = Ratio(counted(ours.peak_bytes / theirs.peak_bytes), LEAST, 0.7 if asked else None)
        ratios[f"{name}: live bytes"] = share
        less = Ratio(counted(light.peak_bytes / theirs.peak_bytes), LEAST, 0.7 if asked else None)
        ratios[f"{name}: live bytes, light"] = less
        ratios[f"{name}: multiply-adds, light"] = Ratio(counted(light.gmac / ours.gmac), LEAST)
        half = Ratio(counted(again.peak_bytes / ours.peak_bytes), LEAST, 0.5 if asked else None)
        ratios[f"{name}: live bytes, checkpointed to not"] = half
    return Result(figures, ratios)


def memory(quick: bool) -> Result:
    """Resident memory of a step, each in a process of its own, over what the process holds before it."""
    which = "quick" if quick else "paper"
    # All of them would take a third of a quick minute; `launches` counts the others there too.
    names = ("ours", "reference") if quick else ("ours", "reference", *AGAIN)
    # Memory does not mind company, but steps of the paper's size do not fit side by side, and so have all cores.
    at_once, threads = (len(names), 1) if quick else (1, 2)
    with ThreadPoolExecutor(at_once) as pool:
        said = pool.map(lambda name: in_a_process("-m", "benchmarks.steps", which, name, threads=threads), names)
        words = dict(zip(names, said, strict=True))
    grown = {name: max(1, int(said.split()[-1])) for name, said in words.items()}
    ratios = {"training step: resident memory": Ratio(counted(grown["ours"] / grown["reference"]), LEAST, 0.7)}
    if not quick:
        light, again = (grown[name] for name in AGAIN)
        ratios["training step: resident memory, light"] = Ratio(counted(light / grown["reference"]), LEAST, 0.7)
        ratios["training step: resident memory, checkpointed to not"] = Ratio(
            counted(again / grown["ours"]), LEAST, 0.5
        )
    return Result({f"{name} MiB": round(size / 2**20, 1) for name, size in grown.items()}, ratios)


def _grown(which: str, name: str) -> int:
    settings, size = (given.THIN, (192, 192)) if which == "quick" else (given.PAPER, given.PAPER_SIZE)
    network = given.network(settings).train()
    network.recompute(AGAIN.get(name, False))
    batch = given.batch(network.tasks, size, given.labelled(6, len(network.tasks), "random"))
    before = peak_bytes()
    step(WALKS["reference" if name == "reference" else "ours"], network, batch)()
    return peak_bytes() - before


if __name__ == "__main__":
    print(_grown(*sys.argv[1:3]))
