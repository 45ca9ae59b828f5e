"""Saliency: the part of a picture that a person looks at first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from diffusionmtl import losses
from diffusionmtl.labels import LabelMap
from diffusionmtl.metrics import functional as mf
from diffusionmtl.tasks.base import Meter
from diffusionmtl.tasks.binary import BinaryTask, read_probability
from diffusionmtl.tasks.charts import AnswerCounts, Counts, answer_counts
from diffusionmtl.tasks.joint import JointClasses

Protocol = Literal["pooled19", "published"]


class SaliencyMap(LabelMap):
    """True where salient [1 H W]."""


class SaliencyMeter(Meter):
    """maxF (beta^2 = 0.3) from pooled counts at 19 thresholds, and IoU at one half, in percent.

    `maxF@published` thresholds the sigmoid of the probability, as the published meter does.

    Attributes:
        protocol: which of the two comes first.
    """

    counts: Tensor
    published: Tensor

    def __init__(self, protocol: Protocol = "pooled19") -> None:
        super().__init__()
        self.protocol = protocol
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
        figures = {"maxF@pooled19": float(mf.max_f(self.counts)), "maxF@published": float(mf.max_f(self.published))}
        first = f"maxF@{self.protocol}"
        return {first: figures.pop(first), **figures, "IoU@0.5": float(mf.iou_per_threshold(self.counts)[9])}

    def statistics(self) -> Float64[Tensor, "s"]:
        """True positives, predicted positives and positives per threshold."""
        return (self.counts if self.protocol == "pooled19" else self.published).flatten().double()

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """Of maxF in the meter's protocol."""
        counts = statistics.reshape(len(statistics), *self.counts.shape).long()
        return mf.max_f(counts)


@dataclass(frozen=True)
class Saliency(JointClasses, BinaryTask):
    """Salient or not, read from an 8-bit PNG (>= 128 is salient).

    Attributes:
        protocol: of the headline figure: pooled19, or published, which repeats a mistake of the published meter.
    """

    weight: float = field(default=5.0, kw_only=True)
    protocol: Protocol = field(default="pooled19", kw_only=True)

    kind: ClassVar[str] = "saliency"
    label_type: ClassVar[type[LabelMap]] = SaliencyMap

    def __post_init__(self) -> None:
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"protocol must be pooled19 or published, not '{self.protocol}'")
        super().__post_init__()

    @property
    def headline(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the figures, maxF in the task's protocol."""
        return f"maxF@{self.protocol}"

    @property
    def channels(self) -> int:
        """Two logits: not salient, salient."""
        return 2

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """Cross entropy balanced per image."""
        return losses.balanced_cross_entropy(raw, label, valid)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Probabilities of both answers."""
        return raw.softmax(dim=1)

    def agreement(self, raw: Float[Tensor, "n c h w"], estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n"]:
        """Cross entropy with the teacher's probabilities, halved: in the balanced loss each class weighs one half."""
        return losses.soft_cross_entropy(raw, estimate) / 2

    def read_prediction(self, path: Path) -> Float[Tensor, "a h w"]:
        """Probabilities of both answers, from a picture or `.npy` of the second."""
        salient = read_probability(path)
        return torch.stack([1 - salient, salient])

    def value(self, estimate: Float[Tensor, "n a h w"]) -> Shaped[Tensor, "n c h w"]:
        """The probability of being salient."""
        return estimate[:, 1:]

    def spread(self, draws: Float[Tensor, "s n a h w"]) -> Float[Tensor, "n h w"]:
        """Standard deviation of the probability."""
        return draws[:, :, 1].std(dim=0, correction=0)

    def charts(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> tuple[Counts, ...]:
        """How probable yes was where the label says no, and where it says yes."""
        return (AnswerCounts(answer_counts(estimate[:, 1], label[:, 0].bool(), valid)),)

    def meter(self) -> Meter:
        """Pooled maxF."""
        return SaliencyMeter(self.protocol)
