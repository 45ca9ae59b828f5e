"""Depth in metres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped, UInt8
from torch import Tensor

from diffusionmtl import colour, files, losses
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.metrics import functional as mf
from diffusionmtl.tasks import joint
from diffusionmtl.tasks.base import Meter, Task, all_valid, drawn_grey_where_invalid
from diffusionmtl.tasks.charts import Counts, ValueCounts, value_counts

_NEAR, _FAR = 0.05, 100.0
_RATIO = 1.25


class DepthMap(LabelMap):
    """Metres along the optical axis [1 H W]."""

    def zoomed(self, scale: float) -> "DepthMap":
        """A zoom by s shows things as if they were s times nearer."""
        return self.like(self.plain() / scale)


class DepthMeter(Meter):
    """Absolute and relative error and RMSE, pooled over all valid pixels of the data set, in metres."""

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(7, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Add the errors of valid pixels."""
        self.sums += mf.depth_sums(estimate[:, 0], label[:, 0], valid)

    def compute(self) -> dict[str, float]:
        """All figures from the sums."""
        summary = mf.depth_summary(self.sums)
        return {
            "absErr@pooled": float(summary.abs_err),
            "relErr@pooled": float(summary.abs_rel),
            "rmse@pooled": float(summary.rmse),
            "delta1.25@pooled": float(summary.delta_1_25),
        }

    def statistics(self) -> Float64[Tensor, "s"]:
        """Pixels and the sum of their absolute errors."""
        return self.sums[:2].clone()

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """`absErr@pooled`."""
        return statistics[:, 1] / statistics[:, 0]


@dataclass(frozen=True)
class Depth(Task):
    """Metres per pixel, read from a 16-bit PNG (value x scale) or a `.npy` in metres.

    Attributes:
        scale: metres per unit of an integer file.
        limit: labels beyond this many metres are an error, most likely a wrong unit.
    """

    weight: float = field(default=1.0, kw_only=True)
    scale: float = 0.001
    limit: float = 1000.0

    kind: ClassVar[str] = "depth"
    label_type: ClassVar[type[LabelMap]] = DepthMap
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".png", ".tif", ".tiff")
    headline: ClassVar[str] = "absErr@pooled"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "m"
    spread_unit: ClassVar[str] = "m"
    rightness: ClassVar[str] = "less than 1.25 times too much or too little"
    nearness: ClassVar[float] = -1.0  # times the value grows towards the viewer

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.limit > 0:
            raise ValueError("scale and limit must be positive numbers")

    @property
    def channels(self) -> int:
        """One number, metres."""
        return 1

    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        """Metres float32; 0, NaN, infinity and below are unknown."""
        raw = files.read_numbers(path, max_pixels)
        if raw.ndim == 3 and raw.shape[2] == 1:
            raw = raw[..., 0]
        if raw.ndim != 2:
            raise UserError(
                f"{path}: {self.kind} needs one number per pixel, found shape {'x'.join(map(str, raw.shape))}; "
                "save a 16-bit grey PNG or a .npy [H W]"
            )
        with np.errstate(over="ignore"):  # beyond float32 is infinity, and that is unknown
            metres = raw.astype(np.float32)
        if raw.dtype.kind in "iu" and path.suffix.lower() != ".npy":
            metres *= self.scale
        valid = np.isfinite(metres) & (metres > 0)
        furthest = metres.max(where=valid, initial=0)
        if furthest > self.limit:
            raise UserError(
                f"{path}: {self.kind} of {furthest:.6g} {self.unit} in task '{self.name}' (limit "
                f"{self.limit:g} {self.unit}): wrong unit? Set scale ({self.unit} per unit of a PNG), save .npy in "
                f"{self.unit}, or raise limit in dataset.yaml"
            )
        metres[~valid] = 0
        label = torch.from_numpy(metres)[None]
        return label.as_subclass(self.label_type), torch.from_numpy(valid)[None].as_subclass(ValidMap)

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """`.npy` in metres and a 16-bit PNG in units of `scale`, saturating; 0 where not valid."""
        metres = value[0].as_subclass(Tensor).float().cpu().numpy()
        if valid is not None:
            metres = np.where(valid.cpu().numpy(), metres, 0).astype(np.float32)
        units = np.clip(np.rint(metres / self.scale), 0, 65535).astype(np.uint16)
        picture = stem.with_name(f"{stem.name}.png")
        files.write_picture(picture, units)
        return [files.write_array(stem.with_name(f"{stem.name}.npy"), metres), picture]

    def beside(self, other: Task) -> Task:
        """With the higher `limit` of both."""
        return replace(self, limit=other.limit) if isinstance(other, Depth) and other.limit > self.limit else self

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """L1 in metres."""
        return losses.absolute_error(raw, label, valid)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Metres, never behind the camera."""
        return raw.clamp(min=1e-9)

    def joint(
        self, raw: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "n j h w"]:
        """As a share of the largest valid one of the map."""
        return joint.over_largest(self.activate(raw), valid)

    def joint_label(self, label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n j h w"]:
        """Likewise."""
        return joint.over_largest(label, valid)

    def confidence(
        self, estimate: Float[Tensor, "n a h w"], spread: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n h w"]:
        """1 where the draws agree, falling to 0 where their spread is a quarter of the value."""
        value = estimate[:, 0]
        if spread is None:
            return torch.ones_like(value)
        return (1 - spread / value / (_RATIO - 1)).clamp(min=0)

    def extent(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n h w"]:
        """The value itself: what is far is misjudged by more."""
        return estimate[:, 0]

    def is_right(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Bool[Tensor, "n h w"]:
        """Where the ratio of both is below 1.25, whichever is larger."""
        one, other = value[:, 0], label[:, 0]
        return torch.maximum(one / other, other / one) < _RATIO

    def charts(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> tuple[Counts, ...]:
        """Predicted beside labelled values."""
        return (ValueCounts(value_counts(estimate[:, 0], label[:, 0], valid), self.unit, _RATIO),)

    def meter(self) -> Meter:
        """Pooled errors."""
        return DepthMeter()

    def limits(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> tuple[float, float] | None:
        """The 1st and 99th percentile of the valid depths."""
        seen = value[0].as_subclass(Tensor)[valid].float().cpu().numpy()
        if seen.size == 0:
            return None
        low, high = np.percentile(seen, [1, 99])
        return float(low), float(high)

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """Range, mean and median in metres."""
        figures = super().describe(value, valid)
        return figures and {**figures, "median": float(value[0].as_subclass(Tensor)[valid].median())}

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """Metres that look like another unit."""
        hint = "wrong unit? .npy must be metres, and PNG value x scale"
        if figures.get("max", 0.0) > _FAR:
            return [f"depth up to {figures['max']:.4g} m: {hint}"]
        if figures.get("median", _NEAR) < _NEAR:
            return [f"median depth of {figures['median']:.4g} m: {hint}"]
        return []

    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Near is bright, far is dark."""
        limits = limits or self.limits(value, all_valid(value) if valid is None else valid) or (0.0, 1.0)
        low, high = sorted(self.nearness * limit for limit in limits)
        near = self.nearness * value[0].as_subclass(Tensor).float().cpu().numpy()
        return drawn_grey_where_invalid(colour.ramp(near, low, high), valid)
