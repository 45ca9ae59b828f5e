"""Random scale, crop, flip and colour: drawn once, then replayed on the image and on every label by its own rule.

The crop is cut before anything is resized, so that only what is kept is computed.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from diffusionmtl.data.colour_jitter import ColourChange, ColourRanges, change_colour, draw_colour
from diffusionmtl.labels import LabelMap, zoom
from diffusionmtl.types import Sample

IMAGENET_MEAN = (124, 116, 104)

CropLabel = tuple[Tensor, Tensor]
"""A label of classes [1 H W] and where it is valid [1 H W]."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training sample. The defaults are the published ones for PASCAL-Context.

    Attributes:
        size: H, W that every sample comes out with.
        fit: first resize the whole picture so that it just fits inside `size`. That is a change of resolution, not of
            the view: depth stays. Otherwise pictures keep their own resolution.
        scale: range of the random zoom, drawn uniformly. The picture is s times as large: things look s times nearer.
        crop_by: name of a segmentation task. Where its label may be seen, a crop in which nothing is labelled or one
            class covers more than `max_class_share` of what is labelled is drawn again.
        max_class_share: see `crop_by`.
        crop_tries: the last of so many draws is taken as it is.
        flip: probability of a mirror image.
        colour: photometric distortion, or None for none.
        pad: where a picture smaller than `size` goes. Around it lies `fill`, and no label is valid.
        fill: R, G, B; the mean colour of ImageNet by default, which is 0 after normalisation.
        published: do as the published code does where that is a mistake: the crop is drawn by the label of `crop_by`
            even where it is hidden, depth and disparity are divided by the drawn zoom, boundaries are shrunk by nearest
            neighbour, and a label of which nothing is left still counts as one.
    """

    size: tuple[int, int]
    fit: bool = False
    scale: tuple[float, float] = (0.5, 2.0)
    crop_by: str | None = None
    max_class_share: float = 0.75
    crop_tries: int = 10
    flip: float = 0.5
    colour: ColourRanges | None = field(default_factory=ColourRanges)
    pad: Literal["centre", "top-left"] = "centre"
    fill: tuple[int, int, int] = IMAGENET_MEAN
    published: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 < self.scale[0] <= self.scale[1] or self.crop_tries < 1:
            raise ValueError("size and crop_tries must be at least 1, and scale a range of positive factors")


@dataclass(frozen=True)
class Geometry:
    """One draw of everything but colour, enough to replay it.

    Attributes:
        window: top, left, height, width of the crop in pixels of the original.
        resized: H, W to which the crop is resized.
        zoom: how many times nearer things look.
        flip: mirrored left to right, after the resize.
        padding: left, top, right, bottom, after the flip.
    """

    window: tuple[int, int, int, int]
    resized: tuple[int, int]
    zoom: float
    flip: bool
    padding: tuple[int, int, int, int]


def augment(
    sample: Sample, settings: Augmentation, generator: torch.Generator, leaked: CropLabel | None = None
) -> Sample:
    """A random version of a sample, of size `settings.size`. What is drawn depends on what the sample shows, alone.

    Args:
        leaked: the label of `settings.crop_by` that the sample does not show, to draw the crop by. Published code does.
    """
    geometry = draw_geometry(sample, settings, generator, leaked)
    colour = ColourChange() if settings.colour is None else draw_colour(settings.colour, generator)
    shown = as_published(sample) if settings.published else sample
    return replay(shown, geometry, colour, settings.fill)


def as_published(sample: Sample) -> Sample:
    """The same sample, its labels with the rules of published code."""
    labels = {task: label.as_published() for task, label in sample.labels.items() if isinstance(label, LabelMap)}
    return replace(sample, labels={**sample.labels, **labels})


def draw_geometry(
    sample: Sample, settings: Augmentation, generator: torch.Generator, leaked: CropLabel | None = None
) -> Geometry:
    """Draw scale, crop and flip; `leaked` as in `augment`."""
    height, width = sample.image.shape[-2:]
    u_scale, u_flip = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    grown = settings.scale[0] + (settings.scale[1] - settings.scale[0]) * u_scale
    fit = _fit_factor((height, width), settings.size) if settings.fit else 1.0
    rows, high = _extent(height, settings.size[0], fit * grown)
    columns, wide = _extent(width, settings.size[1], fit * grown)
    seen = leaked
    if settings.crop_by is not None and settings.crop_by in sample.labels:
        seen = sample.labels[settings.crop_by], sample.valid[settings.crop_by]
    top, left = _draw_corner((height, width), (rows, columns), seen, settings, generator)
    down, right = settings.size[0] - high, settings.size[1] - wide
    over, before = (down // 2, right // 2) if settings.pad == "centre" else (0, 0)
    # Whole pixels round the drawn factor; depth follows what happened to the picture.
    happened = ((high / rows) * (wide / columns)) ** 0.5 / fit
    return Geometry(
        window=(top, left, rows, columns),
        resized=(high, wide),
        zoom=grown if settings.published else happened,
        flip=u_flip < settings.flip,
        padding=(before, over, right - before, down - over),
    )


def _extent(old: int, new: int, factor: float) -> tuple[int, int]:
    """How many of `old` pixels make `new` ones when enlarged by `factor`, and how many they make if that is fewer."""
    taken = max(1, round(new / factor))
    return (taken, new) if taken <= old else (old, min(new, max(1, round(old * factor))))


def _draw_corner(
    picture: tuple[int, int],
    window: tuple[int, int],
    seen: CropLabel | None,
    settings: Augmentation,
    generator: torch.Generator,
) -> tuple[int, int]:
    """Top and left of a crop."""
    free = [old - new + 1 for old, new in zip(picture, window, strict=True)]
    tries = settings.crop_tries if seen is not None and free != [1, 1] else 1
    top = left = 0
    for attempt in range(tries):
        u = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        top, left = (int(x * n) for x, n in zip(u, free, strict=True))
        if seen is None or attempt == tries - 1 or _varied(seen, (top, left, *window), settings.max_class_share):
            break
    return top, left


def _varied(seen: CropLabel, window: tuple[int, int, int, int], max_class_share: float) -> bool:
    top, left, rows, columns = window
    inside = (0, slice(top, top + rows), slice(left, left + columns))
    label, valid = (part.as_subclass(Tensor)[inside] for part in seen)
    counts = torch.bincount(label[valid])
    return int(counts.max()) <= max_class_share * int(counts.sum()) if len(counts) else False


def replay(
    sample: Sample, geometry: Geometry, colour: ColourChange, fill: tuple[int, int, int] = IMAGENET_MEAN
) -> Sample:
    """Do to a sample what was drawn; colour before padding, so that the padding keeps its own."""
    image = change_colour(_reframe(sample.image, geometry), colour)
    return replace(
        sample,
        image=tvf.pad(image, list(geometry.padding), fill=list(fill)),
        labels=_replay_labels(sample.labels, geometry),
        valid=_replay_labels(sample.valid, geometry),
    )


def settle_silent(sample: Sample, foreground_only: Set[str], published: bool) -> Sample:
    """What becomes of labels that say nothing about what is left of the picture.

    A label that is valid nowhere is absent, so that its image's other tasks keep their share of the objective.
    Published code counts it as one of its image's labels.

    Args:
        foreground_only: segmentation tasks whose label is unknown in a picture that shows class 0 alone.
        published: keep what is valid nowhere.
    """
    valid = dict(sample.valid)
    for task in foreground_only & sample.labels.keys():
        shown = sample.labels[task].as_subclass(Tensor)[valid[task].as_subclass(Tensor)]
        if not shown.any():
            valid[task] = torch.zeros_like(valid[task])
    kept = [task for task in sample.labels if published or valid[task].as_subclass(Tensor).any()]
    return replace(sample, labels={t: sample.labels[t] for t in kept}, valid={t: valid[t] for t in kept})


def _replay_labels(labels: Mapping[str, Tensor], geometry: Geometry) -> dict[str, Tensor]:
    return {
        task: tvf.pad(zoom(_reframe(label, geometry), geometry.zoom), list(geometry.padding))
        for task, label in labels.items()
    }


def _reframe(x: Tensor, geometry: Geometry) -> Tensor:
    x = tvf.crop(x, *geometry.window)
    x = tvf.resize(x, list(geometry.resized), antialias=True)
    return tvf.horizontal_flip(x) if geometry.flip else x


def _fit_factor(old: tuple[int, int], new: tuple[int, int]) -> float:
    return min(new[0] / old[0], new[1] / old[1])


def fitted_size(old: tuple[int, int], new: tuple[int, int]) -> tuple[int, int]:
    """H, W of a picture of size `old` once it just fits inside `new`; smaller pictures grow."""
    factor = _fit_factor(old, new)
    height, width = (min(n, max(1, round(o * factor))) for o, n in zip(old, new, strict=True))
    return height, width


def fit(image: UInt8[Tensor, "3 h w"], size: tuple[int, int]) -> UInt8[Tensor, "3 H W"]:
    """Resize a whole picture so that it just fits inside `size`, keeping its proportions; nothing is padded."""
    return tvf.resize(image, list(fitted_size((image.shape[-2], image.shape[-1]), size)), antialias=True)
