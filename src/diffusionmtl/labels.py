"""Label maps as tensor types that know how they behave when the picture is flipped, cut, padded, resized or zoomed.

torchvision's transforms look up what to do with a value by its type, and let a type they do not know pass through
untouched: an image would be flipped and its depth would not. So every label is a `LabelMap`: the operations below
follow its class's own rule, and any other torchvision operation on it is an error.
"""

from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tvf

# Not typing.Self: what checks shapes in tests looks at functions one by one and cannot know which class they are in.
Label = TypeVar("Label", bound="LabelMap")


class LabelMap(tv_tensors.TVTensor):
    """A label map [C H W]. A task kind derives from it and overrides the rules in which its labels differ."""

    fill: ClassVar[float] = 0.0

    def like(self: Label, data: Tensor) -> Label:
        """`data` as a label map of this class."""
        return data.as_subclass(type(self))

    def plain(self) -> Tensor:
        """The same numbers as an ordinary tensor."""
        return self.as_subclass(Tensor)

    def flipped(self: Label) -> Label:
        """Mirrored left to right."""
        return self.like(self.plain().flip(-1))

    def cropped(self: Label, top: int, left: int, height: int, width: int) -> Label:
        """The window [top, top + height) x [left, left + width), which must lie inside."""
        return self.like(self.plain()[..., top : top + height, left : left + width])

    def padded(self: Label, left: int, top: int, right: int, bottom: int) -> Label:
        """Surrounded by `fill`; the validity map, padded alike, says that it means nothing."""
        return self.like(F.pad(self.plain(), (left, right, top, bottom), value=self.fill))

    def resized(self: Label, height: int, width: int) -> Label:
        """The same scene sampled more finely or coarsely: nearest neighbour, never blended."""
        return self.like(nearest_resize(self.plain(), height, width))

    def zoomed(self: Label, scale: float) -> Label:
        """The values as they would be had the camera zoomed in by `scale`; the sampling is done by `resized`."""
        return self

    def as_published(self) -> "LabelMap":
        """The same label with the rules that published code has for it, where those differ: for reproductions."""
        return self


class ValidMap(LabelMap):
    """Where a label means something, bool [1 H W]. Padding is False."""


def nearest_resize(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest-neighbour resize of [..., H, W] of any dtype, sampling at pixel centres."""
    rows = _centres(x.shape[-2], height, x.device)
    columns = _centres(x.shape[-1], width, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def _centres(old: int, new: int, device: torch.device) -> Tensor:
    at = (torch.arange(new, dtype=torch.float64, device=device) + 0.5) * (old / new)
    return at.floor().long().clamp_(0, old - 1)


def zoom(inpt: Any, scale: float) -> Any:
    """Tell a label map that its picture was enlarged by `scale` and will be cut: depth comes nearer."""
    return inpt.zoomed(scale) if isinstance(inpt, LabelMap) else inpt


@tvf.register_kernel(tvf.horizontal_flip, LabelMap)
def _flip(label: LabelMap) -> LabelMap:
    return label.flipped()


@tvf.register_kernel(tvf.crop, LabelMap)
def _crop(label: LabelMap, top: int, left: int, height: int, width: int) -> LabelMap:
    return label.cropped(top, left, height, width)


@tvf.register_kernel(tvf.pad, LabelMap)
def _pad(label: LabelMap, padding: list[int], fill: Any = None, padding_mode: str = "constant") -> LabelMap:
    left, top, right, bottom = padding
    return label.padded(left, top, right, bottom)


@tvf.register_kernel(tvf.resize, LabelMap)
def _resize(label: LabelMap, size: list[int], **_: Any) -> LabelMap:
    return label.resized(*size)


# Every torchvision operation that lacks a rule above, by name; `tests/test_labels.py` asks torchvision for its whole
# list and fails when a new release adds one that is neither here nor above.
OPERATIONS_WITHOUT_RULE = (
    "adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation adjust_sharpness affine autocontrast "
    "center_crop elastic equalize erase five_crop gaussian_blur gaussian_noise grayscale_to_rgb invert jpeg normalize "
    "permute_channels perspective posterize resized_crop rgb_to_grayscale rotate solarize ten_crop to_dtype "
    "uniform_temporal_subsample vertical_flip"
).split()


def _refuse(name: str) -> None:
    def kernel(label: LabelMap, *_: Any, **__: Any) -> LabelMap:
        raise TypeError(f"{type(label).__name__} has no rule for {name}: write one or keep it to the image")

    tvf.register_kernel(getattr(tvf, name), LabelMap)(kernel)


for _name in OPERATIONS_WITHOUT_RULE:
    _refuse(_name)
