"""Boundaries: the thin lines between one thing and the next."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl import losses
from diffusionmtl.labels import LabelMap, nearest_resize
from diffusionmtl.metrics import boundary as mb
from diffusionmtl.tasks.base import Meter
from diffusionmtl.tasks.binary import BinaryTask


class BoundaryMap(LabelMap):
    """True on a boundary [1 H W]."""

    def resized(self, height: int, width: int) -> "BoundaryMap":
        """Shrinking keeps every line that passes through a pixel; nearest neighbour would tear it into dots."""
        plain = self.plain()
        if height >= plain.shape[-2] and width >= plain.shape[-1]:
            return self.like(nearest_resize(plain, height, width))
        return self.like(F.adaptive_max_pool2d(plain.float(), (height, width)) > 0.5)

    def as_published(self) -> LabelMap:
        """Shrunk by nearest neighbour."""
        return self.plain().as_subclass(LabelMap)


class BoundaryMeter(Meter):
    """odsF, oisF and AP by maximum-cardinality matching of thinned maps, in percent."""

    counts: list[Tensor]
    pooled: Tensor
    slow: ClassVar[bool] = True

    def __init__(self, protocol: mb.BoundaryProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.add_state("counts", [], dist_reduce_fx="cat")
        self.add_state("pooled", torch.zeros(4, len(protocol.thresholds), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Match each image's prediction with its label at every threshold; channels of a label are annotators."""
        for probability, truth, mask in zip(estimate[:, 0], label.bool(), valid, strict=True):
            counts = mb.boundary_counts(
                probability.float().cpu().numpy(), truth.cpu().numpy(), mask.cpu().numpy(), self.protocol
            )
            self.counts.append(torch.as_tensor(counts)[None].to(self.device))
            self.pooled += self.counts[-1][0]

    def compute(self) -> dict[str, float]:
        """F at the best common threshold, at each image's own, and average precision."""
        name = self.protocol.name
        if len(self.counts) == 0:
            return {f"{figure}@{name}": float("nan") for figure in ("odsF", "oisF", "AP")}
        counts = torch.cat(self.counts) if isinstance(self.counts, list) else self.counts
        per_image = counts.cpu().numpy()
        pooled = self.pooled.cpu().numpy()
        return {
            f"odsF@{name}": float(mb.ods_f(pooled)),
            f"oisF@{name}": float(mb.ois_f(per_image)),
            f"AP@{name}": float(mb.average_precision(pooled)),
        }

    def statistics(self) -> Float64[Tensor, "s"]:
        """The four counts of `boundary_counts` per threshold."""
        return self.pooled.flatten().double()

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """`odsF`."""
        counts = statistics.reshape(len(statistics), 4, -1).long().numpy()
        return torch.tensor([mb.ods_f(one) for one in counts], dtype=torch.float64)


@dataclass(frozen=True)
class Boundary(BinaryTask):
    """Boundary or not, read from an 8-bit PNG (>= 128 is boundary).

    Attributes:
        positive_weight: share of the loss that boundary pixels get.
        tolerance: how far from its label a prediction still counts as right, as a share of the image diagonal: 0.0075
            in the tables of PASCAL-Context and BSDS, 0.011 in those of NYUD.
    """

    weight: float = field(default=50.0, kw_only=True)
    positive_weight: float = 0.95
    tolerance: float = field(default=0.0075, kw_only=True)

    kind: ClassVar[str] = "boundary"
    label_type: ClassVar[type[LabelMap]] = BoundaryMap

    def __post_init__(self) -> None:
        if not 0 < self.positive_weight < 1:
            raise ValueError("positive_weight must lie between 0 and 1")
        if not 0 <= self.tolerance <= 0.1:
            raise ValueError(f"tolerance is a share of the image diagonal from 0 to 0.1, not {self.tolerance:g}")
        super().__post_init__()

    @property
    def headline(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The odsF at the task's tolerance."""
        return f"odsF@{mb.seism(self.tolerance).name}"

    @property
    def channels(self) -> int:
        """One logit."""
        return 1

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """Binary cross entropy with boundaries weighted up."""
        return losses.boundary_cross_entropy(raw, label, valid, self.positive_weight)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Probability of a boundary."""
        return raw.sigmoid()

    def agreement(self, raw: Float[Tensor, "n c h w"], estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n"]:
        """The weighted cross entropy, with the share of boundaries for which the teacher's answer would be the best."""
        return losses.soft_boundary_cross_entropy(raw, estimate, self.positive_weight)

    def meter(self) -> Meter:
        """Boundary F under the protocol of the published tables, at the task's tolerance."""
        return BoundaryMeter(mb.seism(self.tolerance))

    def meters(self) -> tuple[Meter, ...]:
        """At the tolerance of the task, then at those of the tables, then in the fast protocol."""
        protocols = {p.name: p for p in (mb.seism(self.tolerance), mb.SEISM_PASCAL, mb.SEISM_NYUD, mb.FAST)}
        return tuple(map(BoundaryMeter, protocols.values()))
