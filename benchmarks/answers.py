"""Inference: against the reference, in bfloat16, against the machine's peak, and for several draws of noise."""

from collections.abc import Callable

import torch

from benchmarks import networks as given
from benchmarks import reference
from benchmarks.counting import META, count
from benchmarks.measure import (
    LEAST,
    Ratio,
    Result,
    Spread,
    conv_peak,
    matmul_peak,
    side_by_side,
    speedup,
    spreads,
)
from diffusionmtl.diffusion import NoNoise, SeededNoise
from diffusionmtl.models.network import Network


def _given(quick: bool) -> tuple[Network, torch.Tensor]:
    settings, size = (given.THIN, (128, 128)) if quick else (given.PAPER, given.PAPER_SIZE)
    network = given.network(settings).eval()
    return network, given.batch(network.tasks, size, given.labelled(1, len(network.tasks), "none")).image


def _answer(network: Network, image: torch.Tensor, half: bool = False) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            network(image, SeededNoise(0, [0]))

    return run


def against_reference(quick: bool) -> Result:
    """Batch 1, float32, equal results."""
    network, image = _given(quick)

    @torch.inference_mode()
    def walked() -> None:
        reference.predict(network, image, SeededNoise(0, [0]))

    times = side_by_side({"ours": _answer(network, image), "reference": walked}, 5)
    goal = 1.15
    return Result(spreads(times), {"inference: times faster": Ratio(speedup(times, "ours", "reference"), target=goal)})


def half(quick: bool) -> Result:
    """Mixed precision against float32; pays on processors with bfloat16 units only."""
    network, image = _given(quick)
    times = side_by_side({name: _answer(network, image, name == "bf16") for name in ("fp32", "bf16")}, 5)
    return Result(
        spreads(times), {"inference in bf16: times faster": Ratio(speedup(times, "bf16", "fp32"), target=1.8)}
    )


def peak_share(quick: bool) -> Result:
    """Arithmetic done per second, as a share of what the machine's best convolution does."""
    network, image = _given(quick)
    peaks = {
        f"{kind} peak, {name}, GFLOP/s": measured(dtype, 5, quick)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for kind, measured in (("convolution", conv_peak), ("matmul", matmul_peak))
    }
    times = side_by_side({"inference": _answer(network, image)}, 5)["inference"]
    hollow = given.network(given.THIN if quick else given.PAPER).to(META).eval()
    with torch.no_grad():
        done = 2 * count(lambda: hollow(image.to(META), NoNoise()), hollow).gmac
    best = peaks["convolution peak, fp32, GFLOP/s"]
    share = Spread.of([done / each / best for each in times])
    figures = {**peaks, "inference GFLOP": done, **spreads({"inference": times})}
    return Result(figures, {"inference: share of convolution peak": Ratio(share, target=0.85)})


def samples(quick: bool) -> Result:
    """Each further draw of noise costs what the denoiser costs, and no more."""
    network, image = _given(quick)

    def drawn(count: int) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            initial = network.initial(image)
            for draw in range(count):
                network.finish(initial, SeededNoise(draw, [0]))

        return run

    @torch.inference_mode()
    def initial_alone() -> None:
        network.initial(image)

    times = side_by_side({"1 sample": drawn(1), "4 samples": drawn(4), "initial network": initial_alone}, 5)
    rounds = zip(times["1 sample"], times["4 samples"], times["initial network"], strict=True)
    share = Spread.of([(four - one) / 3 / (one - initial) for one, four, initial in rounds])
    return Result(spreads(times), {"a further sample: cost to denoiser's own": Ratio(share, LEAST, 1.1)})
