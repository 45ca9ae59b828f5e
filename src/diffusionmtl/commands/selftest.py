"""The self-test of `diffusionmtl doctor`: a tiny network learns one step, predicts, and is saved and loaded."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from diffusionmtl.build import build_network, describe_run
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.collate import collate
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import in_one_line
from diffusionmtl.inference.load import load
from diffusionmtl.inference.prediction import Prediction
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.tasks import Depth, SemanticSegmentation
from diffusionmtl.training.objective import objective
from diffusionmtl.types import Batch, Sample

SIZE = (32, 48)
TASKS = (SemanticSegmentation("semseg", classes=("left", "right")), Depth("depth"))
SETTINGS = changed(Settings(), size=SIZE, backbone="test_efficientnet", width=16, attention_heads=4, blocks=1)


@dataclass(frozen=True)
class Check:
    """One step of the self-test.

    Attributes:
        wrong: in a line, what went wrong; None if nothing did.
        seconds: how long it took.
    """

    name: str
    wrong: str | None
    seconds: float


@dataclass
class _Bench:
    """What one step leaves for the next."""

    device: torch.device
    network: Network = field(default_factory=lambda: build_network(TASKS, SETTINGS.network))
    prediction: Prediction | None = None


def self_test(device: torch.device) -> Iterator[Check]:
    """Run each step on a device, until one fails; the images and labels are made up, one label per image."""
    bench = _Bench(device)
    for name, step in STEPS.items():
        begin = time.perf_counter()
        wrong = _fault(step, bench)
        yield Check(name, wrong, time.perf_counter() - begin)
        if wrong:
            return


def _fault(step: Callable[[_Bench], str | None], bench: _Bench) -> str | None:
    try:
        return step(bench)
    except Exception as error:  # a broken installation can make anything throw; the doctor reports it
        return in_one_line(error, 300, typed=True)


def _train(bench: _Bench) -> str | None:
    batch, network = _batch().to(bench.device), bench.network.to(bench.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    before = [p.detach().clone() for p in network.parameters()]
    output = network(batch.image, SeededNoise(0, batch.indices), {t: x.rows for t, x in batch.labels.items()})
    loss = objective(TASKS, output, batch).total
    loss.backward()
    optimizer.step()
    if not bool(torch.isfinite(loss.detach())):
        return f"the loss is {float(loss.detach())}"
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return "a weight is no number after the step"
    if all(bool((p == old).all()) for p, old in zip(network.parameters(), before, strict=True)):
        return "no weight changed"
    return None


def _predict(bench: _Bench) -> str | None:
    predictor = Predictor(bench.network, SIZE, bench.device)
    bench.prediction = predictor(_image(0), samples=2)
    again = predictor(_image(0), samples=2)
    for task in TASKS:
        value = bench.prediction[task.name].value
        if tuple(value.shape[-2:]) != SIZE:
            return f"{task.name} has the size {tuple(value.shape[-2:])} instead of {SIZE}"
        if not bool(torch.isfinite(value.float()).all()):
            return f"{task.name} holds what is no number"
        if not bool((value == again[task.name].value).all()):
            return f"{task.name} is another one for the same seed"
    return None


def _save_and_load(bench: _Bench) -> str | None:
    assert bench.prediction is not None
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-doctor-") as folder:
        path = Path(folder) / "network.safetensors"
        save_network(bench.network, path, describe_run(SETTINGS, TASKS))
        again = load(path, str(bench.device))(_image(0), samples=2)
    # A loaded network answers by a streamlined equal, the same within rounding.
    before, after = (p["depth"].value.float().cpu() for p in (bench.prediction, again))
    off = float((before - after).abs().max() / before.abs().max().clamp(min=1e-6))
    return None if off < 1e-2 else f"depth is off by {off:.1%} after saving and loading"


STEPS: dict[str, Callable[[_Bench], str | None]] = {
    "one training step": _train,
    "one prediction": _predict,
    "save and load": _save_and_load,
}


def _image(index: int) -> Tensor:
    height, width = SIZE
    red = torch.linspace(0, 255, width).expand(height, width)
    green = torch.linspace(0, 255, height)[:, None].expand(height, width)
    return torch.stack([red, green, torch.full_like(red, 60.0 * index)]).to(torch.uint8)


def _batch() -> Batch:
    """Two images: of one we know which half is which, of the other how far away everything is."""
    image = _image(0)
    half = (image[:1] > 127).long()
    metres = 1 + image[1:2].float() / 51
    known = torch.ones(1, *SIZE, dtype=torch.bool)
    samples = (
        Sample("first", 0, image, {"semseg": half}, {"semseg": known}),
        Sample("second", 1, _image(1), {"depth": metres}, {"depth": known}),
    )
    return collate(samples, TASKS)
