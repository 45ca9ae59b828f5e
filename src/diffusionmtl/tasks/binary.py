"""What the two kinds of yes-or-no label share: files, findings, pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from diffusionmtl import colour, files
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks.base import Task, drawn_grey_where_invalid

THRESHOLD = 128
_SURE = 1e-7  # what float32 can tell from certainty
UNKNOWN = 100  # in files that must be able to say so, of a task that has no `ignore` of its own


def read_binary(
    path: Path, ignore: int | None, max_pixels: int = files.MAX_PIXELS
) -> tuple[Bool[Tensor, "1 h w"], Bool[Tensor, "1 h w"]]:
    """A yes-or-no label and its validity from an 8-bit picture (>= 128 is yes) or a boolean `.npy`.

    A 16-bit picture is read by its upper 8 bits.

    Raises:
        UserError: the file is unreadable or has more than one number per pixel that differ.
    """
    is_picture = path.suffix.lower() != ".npy"
    raw = files.read_numbers(path, max_pixels)
    if raw.ndim == 3 and (raw == raw[..., :1]).all():
        raw = raw[..., 0]
    if raw.ndim != 2 or raw.dtype.kind not in "bui":
        raise UserError(
            f"{path}: a yes-or-no label needs one whole number per pixel, found {raw.dtype} of shape "
            f"{'x'.join(map(str, raw.shape))}; save an 8-bit grey PNG with values >= 128 for yes"
        )
    if is_picture and raw.dtype != np.uint8:
        raw = raw >> 8
    yes = raw if raw.dtype == bool else raw >= THRESHOLD
    valid = np.ones(raw.shape, dtype=bool) if ignore is None else raw != ignore
    return torch.from_numpy(yes & valid)[None], torch.from_numpy(valid)[None]


def read_probability(path: Path) -> Float[Tensor, "h w"]:
    """Probabilities of yes, from a picture of 8 or 16 bits (all bits set is 1) or a `.npy` of numbers in [0, 1].

    Raises:
        UserError: the file is unreadable, has more than one number per pixel that differ, or numbers outside [0, 1].
    """
    raw = files.read_numbers(path)
    if raw.ndim == 3 and (raw == raw[..., :1]).all():
        raw = raw[..., 0]
    if raw.ndim != 2:
        raise UserError(
            f"{path}: a yes-or-no prediction needs one number per pixel, found shape {'x'.join(map(str, raw.shape))}; "
            "save probabilities as an 8-bit grey PNG, or as a .npy [H W]"
        )
    if raw.dtype.kind == "i" and path.suffix.lower() != ".npy":  # Pillow's word for 16 bits
        raw = raw.astype(np.uint16)
    with np.errstate(over="ignore"):
        probability = raw.astype(np.float32)
    if raw.dtype.kind == "u":
        probability /= np.float32(np.iinfo(raw.dtype).max)
    wrong = probability[~((probability >= 0) & (probability <= 1))]
    if wrong.size:
        raise UserError(
            f"{path}: {wrong[0]:.6g} is no probability, expected numbers from 0 to 1; "
            "apply the sigmoid or softmax before saving"
        )
    return torch.from_numpy(probability)


def write_binary(
    stem: Path, probability: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"] | None, ignore: int | None
) -> list[Path]:
    """255 x probability as an 8-bit PNG, so that `read_binary` cuts it at one half; `ignore` where not valid.

    Raises:
        UserError: some pixels are not valid and the task has no `ignore` value to say so.
    """
    pixels = np.rint(probability.cpu().numpy() * 255).astype(np.uint8)
    path = stem.with_name(f"{stem.name}.png")
    if ignore is not None:
        # A probability may land on the value that means unknown: the nearest one on the same side of one half.
        pixels = np.where(pixels == ignore, ignore + (1 if ignore in (0, THRESHOLD) else -1), pixels).astype(np.uint8)
    if valid is not None and not valid.all():
        if ignore is None:
            raise UserError(f"{path}: some pixels are unknown; give the task an ignore value in dataset.yaml, e.g. 100")
        pixels = np.where(valid.cpu().numpy(), pixels, ignore).astype(np.uint8)
    files.write_picture(path, pixels)
    return [path]


@dataclass(frozen=True)
class BinaryTask(Task):
    """A task whose labels say yes or no, whatever the network has to output for it.

    Attributes:
        ignore: the value that means unknown, if any.
    """

    ignore: int | None = field(default=None, kw_only=True)

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "probability"
    spread_unit: ClassVar[str] = "probability"
    rightness: ClassVar[str] = "yes or no as in the label, and what is called yes by itself"

    def __post_init__(self) -> None:
        if self.ignore is not None and not 0 <= self.ignore <= 255:
            raise ValueError(f"ignore must lie between 0 and 255, not {self.ignore}")

    @property
    def label_dtype(self) -> torch.dtype:
        """Yes or no."""
        return torch.bool

    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        """True where the label says yes."""
        label, valid = read_binary(path, self.ignore, max_pixels)
        return label.as_subclass(self.label_type), valid.as_subclass(ValidMap)

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """255 x probability as an 8-bit PNG."""
        return write_binary(stem, value[0].as_subclass(Tensor).float(), valid, self.ignore)

    def with_unknown(self) -> Task:
        """With an `ignore` value."""
        return self if self.ignore is not None else replace(self, ignore=UNKNOWN)

    def beside(self, other: Task) -> Task:
        """With the `ignore` value of the other if it has none of its own."""
        if not isinstance(other, BinaryTask) or self.ignore is not None:
            return self
        return replace(self, ignore=other.ignore)

    def read_prediction(self, path: Path) -> Float[Tensor, "a h w"]:
        """The probability of yes, from an 8- or 16-bit picture or a `.npy` of numbers in [0, 1]."""
        return read_probability(path)[None]

    def confidence(
        self, estimate: Float[Tensor, "n a h w"], spread: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n h w"]:
        """The probability of the answer: of yes or of no."""
        yes = self.value(estimate)[:, 0]
        return torch.maximum(yes, 1 - yes)

    def is_right(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Bool[Tensor, "n h w"]:
        """Where both say yes or both say no."""
        return self.says_yes(value) == label[:, 0].bool()

    def says_yes(self, value: Shaped[Tensor, "n c h w"]) -> Bool[Tensor, "n h w"]:
        """From a probability of one half on."""
        return value[:, 0] >= 0.5

    def log_odds(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n k h w"]:
        """Those of yes. `error` is the distance of its probability to the label, 0 or 1."""
        return self.value(estimate).float().logit(eps=_SURE)

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """The share of the valid pixels that says yes."""
        seen = value.as_subclass(Tensor)[0][valid]
        return {"set": float(seen.double().mean())} if seen.numel() else {}

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """Files that say 1 where 255 was meant; a task without a single no."""
        if figures.get("set", 0.5) == 0:
            return [f"no pixel is set: values below {THRESHOLD} mean no, so 0 and 1 must be saved as 0 and 255"]
        if figures.get("set", 0.5) == 1:
            return ["every pixel is set"]
        return []

    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """White for yes, black for no."""
        probability = value[0].as_subclass(Tensor).float().cpu().numpy()
        return drawn_grey_where_invalid(colour.ramp(probability, 0.0, 1.0, "grey"), valid)
