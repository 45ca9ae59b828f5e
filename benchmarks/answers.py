"""Inference as users get it from `load`: against the reference, in bfloat16, by ONNX Runtime, at the machine's peak."""

import copy
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks import networks as given
from benchmarks import reference
from benchmarks.counting import META, count
from benchmarks.measure import (
    LEAST,
    Ratio,
    Result,
    Spread,
    conv_peak,
    counted,
    matmul_peak,
    repeats,
    side_by_side,
    speedup,
    spreads,
)
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise, SeededNoise
from diffusionmtl.export.graph import AnswerGraph
from diffusionmtl.export.program import program_of
from diffusionmtl.inference.load import answering
from diffusionmtl.inference.streamlined import streamlined
from diffusionmtl.models.network import Network

EQUAL = 1e-4
LITE_SIZE = (256, 256)


def as_loaded(network: Network, half: bool = False) -> Network:
    """What answers for a network once it has been loaded."""
    return answering(copy.deepcopy(network), torch.device("cpu"), "bf16" if half else "fp32")


def plainly_loaded(network: Network) -> Network:
    """The same without Winograd's convolutions: as much arithmetic as there is, and what is exported."""
    laid = copy.deepcopy(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return streamlined(laid)


def _settings(quick: bool) -> tuple[NetworkSettings, tuple[int, int]]:
    return (given.THIN, (128, 128)) if quick else (given.PAPER, given.PAPER_SIZE)


def _given(quick: bool) -> tuple[Network, Tensor]:
    settings, size = _settings(quick)
    return _made(settings, size)


def _made(settings: NetworkSettings, size: tuple[int, int]) -> tuple[Network, Tensor]:
    network = given.network(settings).eval()
    return network, given.batch(network.tasks, size, given.labelled(1, len(network.tasks), "none")).image


def _answer(network: Network, image: Tensor, half: bool = False) -> Callable[[], Mapping[str, Tensor]]:
    @torch.inference_mode()
    def run() -> Mapping[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network(image, SeededNoise(0, [0])).final

    return run


def _furthest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Largest difference of any number, as a share of the largest number of its task or of 1."""
    return max(
        float((ours[task].float() - raw).abs().max()) / max(1.0, float(raw.abs().max())) for task, raw in theirs.items()
    )


def against_reference(quick: bool) -> Result:
    """Batch 1, float32, equal results, which is checked first."""
    network, image = _given(quick)

    @torch.inference_mode()
    def walked() -> Mapping[str, Tensor]:
        return reference.predict(network, image, SeededNoise(0, [0]))

    codes = {
        "ours": _answer(as_loaded(network), image),
        "reference": walked,
        "without Winograd": _answer(plainly_loaded(network), image),
        "not streamlined": _answer(network, image),
    }
    off = _furthest(codes["ours"](), walked())
    if off > EQUAL:
        raise AssertionError(f"ours is {off:.2g} from the reference, more than {EQUAL:g}: times mean nothing")
    times = side_by_side(codes, repeats(quick))
    goal = Ratio(speedup(times, "ours", "reference"), target=1.15)
    figures = {**spreads(times), "largest difference from the reference": off}
    steps = {
        "inference: by Winograd, times faster": Ratio(speedup(times, "ours", "without Winograd")),
        "inference: streamlined, times faster": Ratio(speedup(times, "without Winograd", "not streamlined")),
    }
    return Result(figures, {"inference: times faster": goal} | steps)


def half(quick: bool) -> Result:
    """bfloat16 against float32 with and without Winograd's convolutions; pays on processors with units for it."""
    network, image = _given(quick)
    codes = {
        "fp32": _answer(as_loaded(network), image),
        "fp32 without Winograd": _answer(plainly_loaded(network), image),
        "bf16": _answer(as_loaded(network, half=True), image, half=True),
    }
    off = _furthest(codes["bf16"](), codes["fp32"]())
    times = side_by_side(codes, repeats(quick))
    ratios = {
        "inference in bf16: times faster": Ratio(speedup(times, "bf16", "fp32 without Winograd"), target=1.8),
        "inference in bf16: times faster than by Winograd": Ratio(speedup(times, "bf16", "fp32")),
    }
    return Result({**spreads(times), "largest difference from fp32": off}, ratios)


def onnx(quick: bool) -> Result:
    """ONNX Runtime on what `diffusionmtl export` writes, against PyTorch on the same weights; needs the extra."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        return Result({"skipped": "needs diffusionmtl[export]"}, {})
    from diffusionmtl.export.onnx_file import onnx_runner, write_onnx  # noqa: PLC0415  an optional extra

    network, _ = _given(quick)
    graph, loaded = (AnswerGraph(each).eval() for each in (plainly_loaded(network), as_loaded(network)))
    inputs = graph.example(1, _settings(quick)[1])
    with TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "network.onnx"
        write_onnx(program_of(graph), path, ["image", "noise"], graph.outputs)
        run = onnx_runner(path)

        @torch.inference_mode()
        def by_torch() -> tuple[Tensor, ...]:
            return loaded(*inputs)

        found = dict(zip(graph.outputs, map(torch.from_numpy, run(inputs)), strict=True))
        off = _furthest(found, dict(zip(graph.outputs, by_torch(), strict=True)))
        times = side_by_side({"torch": by_torch, "onnx runtime": lambda: run(inputs)}, repeats(quick))
    figures = {**spreads(times), "largest difference from torch": off}
    return Result(figures, {"ONNX Runtime: times faster than torch": Ratio(speedup(times, "onnx runtime", "torch"))})


def light(quick: bool) -> Result:
    """The light preset: images per second at 256 x 256, and times faster than the paper's network at its size."""
    size = (64, 64) if quick else LITE_SIZE
    figures, ratios = {}, {}
    for preset in ("lite", "lite-resnet18"):
        network, image = _made(given.preset(preset), size)
        codes = {name: _answer(as_loaded(network, name == "bf16"), image, name == "bf16") for name in ("fp32", "bf16")}
        times = side_by_side(codes, repeats(quick))
        figures |= {f"{preset}, {name}": value for name, value in spreads(times).items()}
        for name, goal in (("fp32", 10.0), ("bf16", 15.0)):
            rate = Spread.of([1 / each for each in times[name]])
            target = goal if preset == "lite" else None
            ratios[f"--preset {preset}, {size[0]}x{size[1]}, {name}: images/s"] = Ratio(rate, target=target)
    return Result(figures, ratios)


def peak_share(quick: bool) -> Result:
    """Arithmetic done per second, as a share of what the machine's best convolution does; no short cuts."""
    network, image = _given(quick)
    peaks = {
        f"{kind} peak, {name}, GFLOP/s": measured(dtype, repeats(quick), quick)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for kind, measured in (("convolution", conv_peak), ("matmul", matmul_peak))
    }
    quicker = plainly_loaded(network)
    times = side_by_side({"inference": _answer(quicker, image)}, repeats(quick))["inference"]
    hollow = quicker.to(META)
    with torch.no_grad():
        done = 2 * count(lambda: hollow(image.to(META), NoNoise()), hollow).gmac
    best = peaks["convolution peak, fp32, GFLOP/s"]
    share = Spread.of([done / each / best for each in times])
    figures = {**peaks, "inference GFLOP": done, **spreads({"inference": times})}
    return Result(figures, {"inference: share of convolution peak": Ratio(share, target=0.85)})


def samples(quick: bool) -> Result:
    """Each further draw of noise costs what the denoiser costs, and no more."""
    plain, image = _given(quick)
    network = as_loaded(plain)

    def drawn(number: int) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            initial = network.initial(image)
            for draw in range(number):
                network.finish(initial, SeededNoise(draw, [0]))

        return run

    @torch.inference_mode()
    def initial_alone() -> None:
        network.initial(image)

    codes = {"1 sample": drawn(1), "4 samples": drawn(4), "initial network": initial_alone}
    times = side_by_side(codes, repeats(quick))
    rounds = zip(times["1 sample"], times["4 samples"], times["initial network"], strict=True)
    share = Spread.of([(four - one) / 3 / (one - initial) for one, four, initial in rounds])
    return Result(spreads(times), {"a further sample: cost to denoiser's own": Ratio(share, LEAST, 1.1)})


def lighter(quick: bool) -> Result:
    """What the light presets save, counted at the paper's size."""
    paper = _gmac(given.PAPER)
    figures, ratios = {"paper GMAC": round(paper, 2)}, {}
    for preset in ("lite", "lite-resnet18"):
        own = _gmac(given.preset(preset))
        figures[f"{preset} GMAC"] = round(own, 2)
        ratios[f"--preset {preset}: times fewer multiply-adds"] = Ratio(counted(paper / own), target=20.0)
    return Result(figures, ratios)


def _gmac(settings: NetworkSettings) -> float:
    with META:
        hollow = given.bare(settings).eval()
    image = torch.empty(1, 3, *given.PAPER_SIZE, device=META)
    with torch.no_grad():
        return count(lambda: hollow(image, NoNoise()), hollow).gmac
