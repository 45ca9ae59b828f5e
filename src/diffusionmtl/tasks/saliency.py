"""Saliency: the part of a picture that a person looks at first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from diffusionmtl import losses
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.metrics import functional as mf
from diffusionmtl.tasks.base import Meter, Task
from diffusionmtl.tasks.binary import (
    check_ignore,
    describe_binary,
    doubts_of_binary,
    draw_probability,
    read_binary,
    write_binary,
)


class SaliencyMap(LabelMap):
    """True where salient [1 H W]."""


class SaliencyMeter(Meter):
    """maxF (beta^2 = 0.3) from pooled counts at 19 thresholds, and IoU at one half, in percent.

    `maxF@published` thresholds the sigmoid of the probability, as the published meter does.
    """

    counts: Tensor
    published: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.zeros(3, len(mf.THRESHOLDS_19), dtype=torch.int64)
        self.add_state("counts", zero, dist_reduce_fx="sum")
        self.add_state("published", zero.clone(), dist_reduce_fx="sum")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Count hits at every threshold."""
        probability = estimate[:, 1]
        self.counts += mf.threshold_counts(probability, label[:, 0], valid)
        self.published += mf.threshold_counts(mf.published_squash(probability), label[:, 0], valid)

    def compute(self) -> dict[str, float]:
        """Both protocols and the IoU."""
        return {
            "maxF@pooled19": float(mf.max_f(self.counts)),
            "maxF@published": float(mf.max_f(self.published)),
            "IoU@0.5": float(mf.iou_per_threshold(self.counts)[9]),
        }


@dataclass(frozen=True)
class Saliency(Task):
    """Salient or not, read from an 8-bit PNG (>= 128 is salient).

    Attributes:
        ignore: the value that means unknown, if any.
    """

    weight: float = field(default=5.0, kw_only=True)
    ignore: int | None = None

    kind: ClassVar[str] = "saliency"
    label_type: ClassVar[type[LabelMap]] = SaliencyMap
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
    headline: ClassVar[str] = "maxF@pooled19"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "probability"
    spread_unit: ClassVar[str] = "probability"

    def __post_init__(self) -> None:
        check_ignore(self.ignore)

    @property
    def channels(self) -> int:
        """Two logits: not salient, salient."""
        return 2

    @property
    def label_dtype(self) -> torch.dtype:
        """Yes or no."""
        return torch.bool

    def read(self, path: Path) -> tuple[LabelMap, ValidMap]:
        """True where salient."""
        label, valid = read_binary(path, self.ignore)
        return label.as_subclass(SaliencyMap), valid.as_subclass(ValidMap)

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """255 x probability as an 8-bit PNG."""
        return write_binary(stem, value[0].as_subclass(Tensor).float(), valid, self.ignore)

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """Cross entropy balanced per image."""
        return losses.balanced_cross_entropy(raw, label, valid)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Probabilities of both answers."""
        return raw.softmax(dim=1)

    def value(self, estimate: Float[Tensor, "n a h w"]) -> Shaped[Tensor, "n c h w"]:
        """The probability of being salient."""
        return estimate[:, 1:]

    def spread(self, draws: Float[Tensor, "s n a h w"]) -> Float[Tensor, "n h w"]:
        """Standard deviation of the probability."""
        return draws[:, :, 1].std(dim=0, correction=0)

    def meter(self) -> Meter:
        """Pooled maxF."""
        return SaliencyMeter()

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """How much of it is set."""
        return describe_binary(value.as_subclass(Tensor), valid)

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """Files that say 1 where 255 was meant."""
        return doubts_of_binary(figures)

    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """White where salient."""
        return draw_probability(value[0].as_subclass(Tensor).float(), valid)
