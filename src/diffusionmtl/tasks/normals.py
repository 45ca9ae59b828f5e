"""Surface normals: unit vectors in the camera's frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped, UInt8
from torch import Tensor

from diffusionmtl import files, losses
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.maps import unit
from diffusionmtl.metrics import functional as mf
from diffusionmtl.tasks.base import Meter, Task, drawn_grey_where_invalid
from diffusionmtl.tasks.charts import Counts, ErrorCounts, error_counts

_NEARBY = 22.5
_MARKS = (11.25, 22.5, 30.0)
_BIN = 0.25
_PIECE = 1 << 16


class NormalMap(LabelMap):
    """Unit vectors [3 H W]: x right, y up, z to the viewer."""

    def flipped(self) -> "NormalMap":
        """In a mirror, right is left: x changes sign."""
        return self.like(self.plain().flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None])


def _unit_vectors(raw: Shaped[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3 n"], Bool[np.ndarray, "n"]]:
    """Of length 1, and which mean something."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite, and that is unknown
        x, y, z = vectors = np.ascontiguousarray(raw.T, dtype=np.float32)
        valid = np.ones(len(raw), dtype=bool)
        if raw.dtype.kind == "u":  # signed numbers are components already
            valid = (x != 0) | (y != 0) | (z != 0)
            vectors = vectors / np.float32(np.iinfo(raw.dtype).max) * 2 - 1
            x, y, z = vectors
        length = np.sqrt(x * x + y * y + z * z)
        valid &= np.isfinite(length) & (length >= 0.5)
    vectors[:, ~valid] = 0
    return vectors / np.where(valid, length, 1), valid


class NormalsMeter(Meter):
    """Angular errors in degrees, pooled over all valid pixels of the data set."""

    total: Tensor
    histogram: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("histogram", torch.zeros(mf.ANGLE_BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Add the angles between prediction and label."""
        total, histogram = mf.angular_sums(mf.angular_error_degrees(estimate, label), valid)
        self.total += total
        self.histogram += histogram

    def compute(self) -> dict[str, float]:
        """Mean, median, root of the mean square and the shares below 11.25, 22.5 and 30 degrees."""
        summary = mf.angular_summary(self.total, self.histogram)
        return {
            "mErr@pooled": float(summary.mean),
            "medErr@pooled": float(summary.median),
            "rmse@pooled": float(summary.rmse),
            "<11.25@pooled": float(summary.below_11_25),
            "<22.5@pooled": float(summary.below_22_5),
            "<30@pooled": float(summary.below_30),
        }

    def statistics(self) -> Float64[Tensor, "s"]:
        """Pixels and the sum of their angular errors."""
        return torch.stack([self.histogram.sum().double(), self.total])

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """`mErr@pooled`."""
        return statistics[:, 1] / statistics[:, 0]


@dataclass(frozen=True)
class SurfaceNormals(Task):
    """Unit normals, read from a `.npy` [H W 3] or an RGB PNG with n = v / 255 * 2 - 1.

    Attributes:
        frame: the frame of the FILES: opengl (x right, y up, z to the viewer) or opencv (x right, y down, z forward).
            Inside the package and in metrics it is always opengl.
    """

    weight: float = field(default=10.0, kw_only=True)
    frame: Literal["opengl", "opencv"] = "opengl"

    kind: ClassVar[str] = "normals"
    label_type: ClassVar[type[LabelMap]] = NormalMap
    label_channels: ClassVar[int] = 3
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
    headline: ClassVar[str] = "mErr@pooled"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "unit vector"
    spread_unit: ClassVar[str] = "degrees"
    rightness: ClassVar[str] = "less than 22.5 degrees off"

    def __post_init__(self) -> None:
        if self.frame not in ("opengl", "opencv"):
            raise ValueError(f"frame must be opengl or opencv, not '{self.frame}'")

    @property
    def channels(self) -> int:
        """x, y, z."""
        return 3

    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        """Unit vectors float32; vectors shorter than 0.5 are unknown."""
        raw = files.read_numbers(path, max_pixels)
        if raw.ndim != 3 or raw.shape[2] != 3:
            raise UserError(
                f"{path}: normals need three numbers per pixel, found shape {'x'.join(map(str, raw.shape))}; "
                "save an RGB PNG or a .npy [H W 3]"
            )
        pixels = raw.reshape(-1, 3)
        label, valid = np.empty((3, len(pixels)), dtype=np.float32), np.empty(len(pixels), dtype=bool)
        for first in range(0, len(pixels), _PIECE):  # several times as large as a label on the way
            piece = slice(first, first + _PIECE)
            vectors, valid[piece] = _unit_vectors(pixels[piece])
            label[:, piece] = vectors
        if self.frame == "opencv":
            label[1:] *= -1
        size = raw.shape[:2]
        return (
            torch.from_numpy(label.reshape(3, *size)).as_subclass(NormalMap),
            torch.from_numpy(valid.reshape(1, *size)).as_subclass(ValidMap),
        )

    def _turn(self, vectors: np.ndarray) -> np.ndarray:
        if self.frame == "opengl":
            return vectors
        return vectors * np.array([1, -1, -1], dtype=np.float32)

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """An RGB PNG in the task's frame; (0, 0, 0) where not valid."""
        vectors = self._turn(value.as_subclass(Tensor).float().cpu().permute(1, 2, 0).numpy())
        pixels = np.rint((np.clip(vectors, -1, 1) + 1) * 127.5).astype(np.uint8)
        if valid is not None:
            pixels = np.where(valid.cpu().numpy()[..., None], pixels, 0).astype(np.uint8)
        path = stem.with_name(f"{stem.name}.png")
        files.write_picture(path, pixels)
        return [path]

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """L1 between unit vectors, summed over components."""
        return losses.normal_absolute_error(raw, label, valid)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Unit vectors."""
        return unit(raw)

    def mirrored(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n a h w"]:
        """In a mirror, right is left: x changes sign."""
        return estimate.flip(-1) * estimate.new_tensor([-1.0, 1.0, 1.0])[:, None, None]

    def joint(
        self, raw: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "n j h w"]:
        """Components moved from [-1, 1] to [0, 1]: nothing known, which is 0, is then no direction."""
        return (self.activate(raw) + 1) / 2

    def joint_label(self, label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n j h w"]:
        """Likewise."""
        return (label + 1) / 2

    def value(self, estimate: Float[Tensor, "n a h w"]) -> Shaped[Tensor, "n c h w"]:
        """The mean direction, of length 1 again."""
        return unit(estimate)

    def spread(self, draws: Float[Tensor, "s n a h w"]) -> Float[Tensor, "n h w"]:
        """Mean angle of the draws to their mean direction, in degrees."""
        mean = unit(draws.mean(dim=0))
        return torch.stack([mf.angular_error_degrees(draw, mean) for draw in draws]).mean(dim=0)

    def confidence(
        self, estimate: Float[Tensor, "n a h w"], spread: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n h w"]:
        """1 where the draws agree, falling to 0 where they are 22.5 degrees from their mean."""
        if spread is None:
            return torch.ones_like(estimate[:, 0])
        return (1 - spread / _NEARBY).clamp(min=0)

    def is_right(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Bool[Tensor, "n h w"]:
        """Where the angle is below 22.5 degrees."""
        return mf.angular_error_degrees(value.as_subclass(Tensor), label.as_subclass(Tensor)) < _NEARBY

    def error(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Float[Tensor, "n h w"]:
        """The angle between both."""
        return mf.angular_error_degrees(value.as_subclass(Tensor), label.as_subclass(Tensor).float())

    def charts(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> tuple[Counts, ...]:
        """How large the angles between prediction and label are."""
        counts = error_counts(mf.angular_error_degrees(estimate, label.float()), valid, _BIN, round(180 / _BIN))
        return (ErrorCounts(counts, self.error_unit, _BIN, _MARKS),)

    def meter(self) -> Meter:
        """Pooled angles."""
        return NormalsMeter()

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """The mean vector."""
        seen = value.as_subclass(Tensor)[:, valid].double()
        means = seen.mean(dim=1).tolist() if seen.numel() else []
        return dict(zip(("mean x", "mean y", "mean z"), means, strict=False))

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """What a camera sees faces it."""
        if figures.get("mean z", 1.0) < 0:
            other = "opencv" if self.frame == "opengl" else "opengl"
            return [f"normals face away from the camera (mean z {figures['mean z']:.2f}): set frame: {other}?"]
        return []

    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The usual picture: x, y, z in [-1, 1] as red, green, blue."""
        vectors = value.as_subclass(Tensor).float().cpu().permute(1, 2, 0).numpy()
        picture = np.rint((np.clip(vectors, -1, 1) + 1) * 127.5).astype(np.uint8)
        return drawn_grey_where_invalid(picture, valid)
