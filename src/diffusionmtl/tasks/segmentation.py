"""Semantic segmentation: one class per pixel. Human parts are a segmentation with other classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl import colour, files, losses
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.metrics import functional as mf
from diffusionmtl.tasks.base import Meter, Task, drawn_grey_where_invalid
from diffusionmtl.tasks.charts import ClassCounts, Counts
from diffusionmtl.tasks.joint import JointClasses

# So many classes that differ are named.
_NAMED = 3


class ClassMap(LabelMap):
    """Class indices [1 H W], integers."""


class SegmentationMeter(Meter):
    """mIoU pooled over the data set and pixel accuracy, in percent.

    A class that occurs neither in a label nor in a prediction has no IoU and is left out of `mIoU@pooled`;
    `mIoU@published` counts it as 0, as the published code does.
    """

    confusion: Tensor

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("confusion", torch.zeros(len(classes), len(classes), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Count which class was taken for which."""
        self.confusion += mf.confusion_matrix(estimate.argmax(dim=1), label[:, 0].long(), valid, len(self.classes))

    def compute(self) -> dict[str, float]:
        """Overall figures, then the IoU of each class."""
        iou = mf.iou_per_class(self.confusion)
        return {
            "mIoU@pooled": float(mf.mean_iou(self.confusion)),
            "mIoU@published": float(mf.mean_iou(self.confusion, absent="zero")),
            "pixelAcc@pooled": float(mf.pixel_accuracy(self.confusion)),
            **{f"IoU@pooled/{name}": float(value) for name, value in zip(self.classes, iou, strict=True)},
        }

    def statistics(self) -> Float64[Tensor, "s"]:
        """Per class the pixels labelled and predicted so, labelled so, predicted so."""
        return torch.cat([self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)]).double()

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """`mIoU@pooled`."""
        both, labelled, predicted = statistics.chunk(3, dim=1)
        return (100 * both / (labelled + predicted - both)).nanmean(dim=1)


@dataclass(frozen=True)
class SemanticSegmentation(JointClasses):
    """A class index per pixel, read from an 8- or 16-bit PNG, palette PNG or integer `.npy`.

    Attributes:
        classes: class names; index i of a label file is classes[i].
        ignore: the index that means unknown.
    """

    classes: tuple[str, ...] = ()
    weight: float = field(default=1.0, kw_only=True)
    ignore: int = 255

    kind: ClassVar[str] = "segmentation"
    label_type: ClassVar[type[LabelMap]] = ClassMap
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
    headline: ClassVar[str] = "mIoU@pooled"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "class"
    spread_unit: ClassVar[str] = "probability moved"
    rightness: ClassVar[str] = "the class of the label"

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or len(self.classes) < 2:
            raise ValueError(f"classes must list at least two class names, e.g. [background, {self.name}]")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a class name stands twice")
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))

    @property
    def channels(self) -> int:
        """One logit per class."""
        return len(self.classes)

    @property
    def label_dtype(self) -> torch.dtype:
        """Class indices, in as few bytes as the classes allow."""
        return torch.uint8 if self.channels <= 256 else torch.int32

    def meaning(self) -> tuple[object, ...]:
        """The classes, in their order."""
        return (self.kind, self.classes)

    def unlike(self, other: Task) -> str:
        """The first few classes that differ, if there are as many."""
        if not isinstance(other, SemanticSegmentation) or self.channels != other.channels:
            return super().unlike(other)
        pairs = enumerate(zip(self.classes, other.classes, strict=True))
        odd = [f"'{mine}' as class {index}, here '{theirs}'" for index, (mine, theirs) in pairs if mine != theirs]
        more = f", and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        return f"other classes: {', '.join(odd[:_NAMED])}{more}"

    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        """Class indices uint8 (int32 beyond 256 classes) [1 H W]."""
        index = files.read_numbers(path, max_pixels)
        if index.ndim == 3 and index.shape[2] == 1:
            index = index[..., 0]
        if index.ndim != 2 or index.dtype.kind not in "biu":
            raise UserError(
                f"{path}: a segmentation needs one class index per pixel, found {index.dtype} of shape "
                f"{'x'.join(map(str, index.shape))}; save indices as a grey or palette PNG, not the colours of classes"
            )
        # At the size of the file: as int64 a large picture would take more than a gigabyte.
        index = index.view(np.uint8) if index.dtype == np.bool_ else index
        valid = index != self.ignore
        self._check(path, index, valid)
        small = np.uint8 if self.label_dtype == torch.uint8 else np.int32
        label = index.astype(small)
        label[~valid] = 0
        return torch.from_numpy(label)[None].as_subclass(ClassMap), torch.from_numpy(valid)[None].as_subclass(ValidMap)

    def _check(self, path: Path, index: np.ndarray, valid: np.ndarray) -> None:
        wrong = valid & ((index < 0) | (index >= self.channels))
        if wrong.any():
            values = ", ".join(map(str, np.unique(index[wrong])[:5]))
            raise UserError(
                f"{path}: class index {values} but task '{self.name}' has {self.channels} classes "
                f"(0 to {self.channels - 1}, {self.ignore} = ignore); add the class or set ignore in dataset.yaml"
            )

    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """A palette PNG of class indices (`.npy` beyond 256 classes), `ignore` where not valid."""
        index = value[0].as_subclass(Tensor).cpu().numpy().astype(np.int64)
        if valid is not None:
            index = np.where(valid.cpu().numpy(), index, self.ignore)
        if self.channels > 256 or not 0 <= self.ignore <= 255:
            return [files.write_array(stem.with_name(f"{stem.name}.npy"), index.astype(np.int32))]
        colours = np.zeros((256, 3), dtype=np.uint8)
        colours[: self.channels] = colour.palette(self.channels)
        colours[self.ignore] = colour.GREY
        path = stem.with_name(f"{stem.name}.png")
        files.write_picture(path, index.astype(np.uint8), palette=colours)
        return [path]

    def beside(self, other: Task) -> Task:
        """With an `ignore` that is no class, where another data set takes for a class what is unknown in this one."""
        differs = isinstance(other, SemanticSegmentation) and self.ignore != other.ignore
        if not differs or not 0 <= self.ignore < self.channels:
            return self
        return replace(self, ignore=max(255, self.channels))

    def read_prediction(self, path: Path) -> Float[Tensor, "a h w"]:
        """1 for the predicted class, 0 for the others."""
        index, valid = self.read(path)
        if not bool(valid.all()):
            raise UserError(
                f"{path}: {int((~valid).sum())} pixels hold {self.ignore}, which means unknown: a prediction names a "
                "class for every pixel"
            )
        return F.one_hot(index.as_subclass(Tensor)[0].long(), self.channels).permute(2, 0, 1).float()

    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """Cross entropy."""
        return losses.cross_entropy(raw, label, valid)

    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Class probabilities."""
        return raw.softmax(dim=1)

    def agreement(self, raw: Float[Tensor, "n c h w"], estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n"]:
        """Cross entropy with the teacher's probabilities."""
        return losses.soft_cross_entropy(raw, estimate)

    def value(self, estimate: Float[Tensor, "n a h w"]) -> Shaped[Tensor, "n c h w"]:
        """The most probable class."""
        return estimate.argmax(dim=1, keepdim=True)

    def spread(self, draws: Float[Tensor, "s n a h w"]) -> Float[Tensor, "n h w"]:
        """Mean total variation distance of the draws to their mean: the probability mass that moves, in [0, 1]."""
        return 0.5 * (draws - draws.mean(dim=0)).abs().sum(dim=2).mean(dim=0)

    def confidence(
        self, estimate: Float[Tensor, "n a h w"], spread: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n h w"]:
        """The probability of the most probable class."""
        return estimate.amax(dim=1)

    def is_right(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Bool[Tensor, "n h w"]:
        """Where the class is the same."""
        return value[:, 0].long() == label[:, 0].long()

    @property
    def error_unit(self) -> str:
        """Wrong or not; the mean is the share of wrong pixels."""
        return "wrong"

    def error(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Float[Tensor, "n h w"]:
        """1 for another class, else 0."""
        return (~self.is_right(value, label)).float()

    def log_odds(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n k h w"]:
        """Those of each class."""
        return estimate.clamp(min=torch.finfo(torch.float32).tiny).log()

    def charts(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> tuple[Counts, ...]:
        """The confusion matrix."""
        seen = mf.confusion_matrix(estimate.argmax(dim=1), label[:, 0].long(), valid, self.channels)
        return (ClassCounts(seen.cpu().numpy(), self.classes),)

    def meter(self) -> Meter:
        """Pooled IoU."""
        return SegmentationMeter(self.classes)

    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Each class in its colour."""
        index = value[0].as_subclass(Tensor).cpu().numpy().astype(np.int64)
        return drawn_grey_where_invalid(colour.palette(self.channels)[index], valid)

    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Class names and their colours."""
        rows = colour.palette(self.channels)
        return [(name, (int(r), int(g), int(b))) for name, (r, g, b) in zip(self.classes, rows, strict=True)]

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """Share of the valid pixels that each present class has."""
        seen = value[0].as_subclass(Tensor)[valid].long()
        counts = torch.bincount(seen, minlength=self.channels).double() / max(seen.numel(), 1)
        return {name: float(share) for name, share in zip(self.classes, counts, strict=True) if share > 0}

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """Classes that never occur."""
        used = [name for name in self.classes if figures.get(name)]
        unused = [name for name in self.classes if name not in used]
        if not figures or not unused:
            return []
        if len(used) == 1:
            hint = (
                f"a mask of 0 and 255 needs kind: saliency, or must be saved as 0 and 1 ({self.ignore} means unknown)"
            )
            return [f"every known pixel is {used[0]}; {hint}"]
        return [f"class{'es' if len(unused) > 1 else ''} never used: {', '.join(unused)}"]
