"""Boundaries: the thin lines between one thing and the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl import losses
from diffusionmtl.labels import LabelMap, ValidMap, nearest_resize
from diffusionmtl.metrics import boundary as mb
from diffusionmtl.tasks.base import Meter, Task
from diffusionmtl.tasks.binary import (
    check_ignore,
    describe_binary,
    doubts_of_binary,
    draw_probability,
    read_binary,
    write_binary,
)


class BoundaryMap(LabelMap):
    """True on a boundary [1 H W]."""

    def resized(self, height: int, width: int) -> "BoundaryMap":
        """Shrinking keeps every line that passes through a pixel; nearest neighbour would tear it into dots."""
        plain = self.plain()
        if height >= plain.shape[-2] and width >= plain.shape[-1]:
            return self.like(nearest_resize(plain, height, width))
        return self.like(F.adaptive_max_pool2d(plain.float(), (height, width)) > 0.5)


class BoundaryMeter(Meter):
    """odsF, oisF and AP by maximum-cardinality matching of thinned maps, in percent."""

    counts: list[Tensor]

    def __init__(self, protocol: mb.BoundaryProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.add_state("counts", [], dist_reduce_fx="cat")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Match each image's prediction with its label at every threshold."""
        for probability, truth, mask in zip(estimate[:, 0], label[:, 0].bool(), valid, strict=True):
            counts = mb.boundary_counts(
                probability.float().cpu().numpy(), truth.cpu().numpy(), mask.cpu().numpy(), self.protocol
            )
            self.counts.append(torch.as_tensor(counts)[None].to(self.device))

    def compute(self) -> dict[str, float]:
        """F at the best common threshold, at each image's own, and average precision."""
        name = self.protocol.name
        if len(self.counts) == 0:
            return {f"{figure}@{name}": float("nan") for figure in ("odsF", "oisF", "AP")}
        counts = torch.cat(self.counts) if isinstance(self.counts, list) else self.counts
        per_image = counts.cpu().numpy()
        pooled = per_image.sum(axis=0)
        return {
            f"odsF@{name}": float(mb.ods_f(pooled)),
            f"oisF@{name}": float(mb.ois_f(per_image)),
            f"AP@{name}": float(mb.average_precision(pooled)),
        }


@dataclass(frozen=True)
class Boundary(Task):
    """Boundary or not, read from an 8-bit PNG (>= 128 is boundary).

    Attributes:
        positive_weight: share of the loss that boundary pixels get.
        ignore: the value that means unknown, if any.
    """

    weight: float = field(default=50.0, kw_only=True)
    positive_weight: float = 0.95
    ignore: int | None = None

    kind: ClassVar[str] = "boundary"
    label_type: ClassVar[type[LabelMap]] = BoundaryMap
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
    headline: ClassVar[str] = "odsF@seism-0.0075"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "probability"
    spread_unit: ClassVar[str] = "probability"

    def __post_init__(self) -> None:
        if not 0 < self.positive_weight < 1:
            raise ValueError("positive_weight must lie between 0 and 1")
        check_ignore(self.ignore)

    @property
    def channels(self) -> int:
        """One logit."""
        return 1

    @property
    def label_dtype(self) -> torch.dtype:
        """Yes or no."""
        return torch.bool

    def read(self, path: Path) -> tuple[LabelMap, ValidMap]:
        """True on a boundary."""
        label, valid = read_binary(path, self.ignore)
        return label.as_subclass(BoundaryMap), valid.as_subclass(ValidMap)

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """255 x probability as an 8-bit PNG."""
        return write_binary(stem, value[0].as_subclass(Tensor).float(), valid, self.ignore)

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """Binary cross entropy with boundaries weighted up."""
        return losses.boundary_cross_entropy(raw, label, valid, self.positive_weight)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Probability of a boundary."""
        return raw.sigmoid()

    def meter(self) -> Meter:
        """Boundary F under the protocol of the published PASCAL-Context tables."""
        return BoundaryMeter(mb.SEISM_PASCAL)

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
        """White on a boundary."""
        return draw_probability(value[0].as_subclass(Tensor).float(), valid)
