"""A kind that the package has never heard of, written here, goes the whole way from dataset.yaml to a picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffusionmtl import files, losses
from diffusionmtl.build import build_dataset, build_network, build_training_data, describe_run
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.inspect import inspect
from diffusionmtl.data.partition import make_partition
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.inference.evaluate import evaluate
from diffusionmtl.inference.load import load
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.tasks import Meter, Task, task_from_settings
from diffusionmtl.tasks.base import drawn_grey_where_invalid
from diffusionmtl.training.objective import objective


class FlowMap(LabelMap):
    """Where each pixel goes [2 H W]: to the right and down, in percent of the picture's width."""

    def flipped(self) -> LabelMap:
        return self.like(self.plain().flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None])

    def zoomed(self, scale: float) -> LabelMap:
        return self.like(self.plain() * scale)


class FlowMeter(Meter):
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, estimate: Tensor, label: Tensor, valid: Tensor) -> None:
        errors = (estimate - label).norm(dim=1)[valid].double()
        self.sums += torch.stack([errors.sum(), torch.tensor(errors.numel(), dtype=torch.float64)])

    def compute(self) -> dict[str, float]:
        return {"endPointErr@pooled": float(self.sums[0] / self.sums[1])}


@dataclass(frozen=True)
class Flow(Task):
    """Motion, read from a `.npy` [H W 2] in pixels; NaN is unknown."""

    weight: float = field(default=1.0, kw_only=True)
    limit: float = 50.0

    kind: ClassVar[str] = "flow"
    label_type: ClassVar[type[LabelMap]] = FlowMap
    label_channels: ClassVar[int] = 2
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    headline: ClassVar[str] = "endPointErr@pooled"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "% of the width"
    spread_unit: ClassVar[str] = "% of the width"

    @property
    def channels(self) -> int:
        return 2

    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        pixels = files.read_array(path, max_pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 2:
            raise UserError(f"{path}: task '{self.name}' needs [H W 2], found {pixels.shape}; save x and y in pixels")
        valid = np.isfinite(pixels).all(axis=2)
        percent = np.where(valid[..., None], pixels, 0) * (100 / pixels.shape[1])
        label = torch.from_numpy(percent.astype(np.float32)).permute(2, 0, 1).contiguous()
        return label.as_subclass(FlowMap), torch.from_numpy(valid)[None].as_subclass(ValidMap)

    def write(self, stem: Path, value: Tensor, valid: Tensor | None = None) -> list[Path]:
        pixels = value.as_subclass(Tensor).permute(1, 2, 0).cpu().numpy() * (value.shape[-1] / 100)
        if valid is not None:
            pixels = np.where(valid.cpu().numpy()[..., None], pixels, np.nan)
        return [files.write_array(stem.with_name(f"{stem.name}.npy"), pixels.astype(np.float32))]

    def loss(self, raw: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        return losses.absolute_error(raw, label, valid)

    def activate(self, raw: Tensor) -> Tensor:
        return raw

    def meter(self) -> Meter:
        return FlowMeter()

    def draw(self, value: Tensor, valid: Tensor | None = None, limits: tuple[float, float] | None = None) -> np.ndarray:
        x, y = value.as_subclass(Tensor).cpu().numpy()
        hue = np.arctan2(y, x) / (2 * np.pi) % 1
        strength = np.clip(np.hypot(x, y) / self.limit, 0, 1)
        hsv = (np.stack([hue, strength, np.ones_like(hue)], axis=-1) * 255).astype(np.uint8)
        return drawn_grey_where_invalid(np.array(Image.fromarray(hsv, "HSV").convert("RGB")), valid)


H, W = 32, 48


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four images, of which two know their motion and two how far things are."""
    root, rng = tmp_path / "traffic", np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "motion", "depth"):
            (root / split / part).mkdir(parents=True)
        for i in range(4):
            picture = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / split / "images" / f"{i}.png")
            if i % 2 or split == "val":
                flow = rng.normal(size=(H, W, 2)).astype(np.float32) * 5
                flow[:, :4] = np.nan
                np.save(root / split / "motion" / f"{i}.npy", flow)
            if i % 2 == 0 or split == "val":
                np.save(root / split / "depth" / f"{i}.npy", rng.uniform(1, 5, (H, W)).astype(np.float32))
    (root / "dataset.yaml").write_text("tasks:\n  motion: {kind: flow, limit: 30}\n  depth: {kind: depth}\n")
    return root


@pytest.fixture
def settings(folder) -> Settings:
    small = {"width": 16, "blocks": 1, "attention_heads": 2, "backbone": "test_resnet"}
    return changed(Settings(), data=(str(folder),), size=(H, W), batch=2, holdout=0.0, **small)


def test_a_new_kind_is_known_to_the_description(folder, settings):
    tasks = build_dataset(settings.data, "train").tasks
    assert tasks[0] == Flow("motion", limit=30.0)
    assert task_from_settings("motion", tasks[0].settings(), "dataset.yaml") == tasks[0]
    with pytest.raises(UserError, match="unknown key 'limits' for kind 'flow'. Did you mean 'limit'"):
        task_from_settings("motion", {"kind": "flow", "limits": 3}, "dataset.yaml")


def test_a_new_kind_is_varied_by_its_own_rules(folder, settings):
    data = build_dataset(settings.data, "train")
    label, valid = data.label(1, "motion")
    pixels = np.load(folder / "train/motion/1.npy")
    np.testing.assert_allclose(label.plain()[0, :, 4:] * W / 100, pixels[:, 4:, 0], rtol=1e-5)
    assert not valid[0, :, :4].any() and bool(valid[0, :, 4:].all())
    mirrored = label.flipped()
    assert torch.equal(mirrored[0], -label[0].flip(-1)) and torch.equal(mirrored[1], label[1].flip(-1))
    assert torch.equal(label.zoomed(2.0).plain(), 2 * label.plain())


def test_a_new_kind_is_trained_evaluated_and_drawn(folder, settings, tmp_path):
    dataset = build_dataset(settings.data, "train")
    data = build_training_data(settings, dataset, make_partition("as-found", dataset, 0))
    network = build_network(data.tasks, settings.network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    seen = 0
    for batch in data.train:
        rows = {task: labels.rows for task, labels in batch.labels.items()}
        owed = objective(network.tasks, network(batch.image, SeededNoise(0, batch.indices), rows), batch)
        assert bool(torch.isfinite(owed.total))
        optimizer.zero_grad()
        owed.total.backward()
        optimizer.step()
        seen += len(owed.final["motion"])
    assert seen == 2 and bool(network.initial.heads["motion"].weight.grad.any())

    weights = tmp_path / "motion.safetensors"
    save_network(network, weights, describe_run(settings, network.tasks))
    predictor = load(weights)
    assert predictor.network.tasks == network.tasks
    scores = evaluate(predictor, build_dataset(settings.data, "val"))
    assert scores.images == {"motion": 4, "depth": 4}
    assert scores.final["motion"]["endPointErr@pooled"] > 0

    prediction = predictor(folder / "val/images/0.png", samples=2)
    motion = prediction["motion"]
    assert motion.to_numpy().shape == (H, W, 2) and motion.uncertainty is not None
    assert motion.draw().size == (W, H)
    prediction.save(tmp_path / "out", "0")
    back, valid = motion.task.read(tmp_path / "out/motion/0.npy")
    torch.testing.assert_close(back.plain(), motion.value)
    assert bool(valid.all())


def test_a_perfect_new_kind_scores_best_and_costs_nothing(settings):
    data = build_dataset(settings.data, "val")
    label, valid = (x.plain()[None] for x in data.label(0, "motion"))
    task = data.tasks[0]
    meter = task.meter()
    meter.update(task.activate(label), label, valid[0])
    assert meter.compute() == {"endPointErr@pooled": 0.0}
    assert float(task.loss(label, label, valid[0])) == 0.0


def test_a_new_kind_is_looked_at(settings):
    found = inspect({"train": build_dataset(settings.data, "train")}, None)
    assert found.sound and "motion" in found.text()


def test_a_network_is_the_same_without_the_files(settings):
    """A task may also be made in Python."""
    network = build_network((Flow("motion"),), settings.network)
    picture = Predictor(network, None)(np.zeros((20, 30, 3), np.uint8))["motion"].draw()
    assert picture.size == (30, 20)
