"""The records that travel between the rooms: what is in them, in which shape and unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped, UInt8
from torch import Tensor

from diffusionmtl.maps import resize


@dataclass(frozen=True)
class Sample:
    """One image and whatever labels of it may be seen.

    Attributes:
        name: the image's name in its data set, unique there.
        index: its position in the data set; seeds everything random about it.
        image: RGB in [0, 255]. It stays uint8 until it is on the device: a quarter of the bytes to copy.
        labels: per visible task [C H W] in the task's unit. A task without a label has no key.
        valid: per visible task, True where the label means something. Labels are arbitrary where it is False.
        weights: how much a label counts in the objective, for the tasks where that is not 1: predicted labels.
    """

    name: str
    index: int
    image: UInt8[Tensor, "3 h w"]
    labels: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskLabels:
    """The labels of one task for just the samples of a batch that have one.

    Attributes:
        rows: which samples of the batch, ascending; n may be 0. Always on the CPU, where whoever loops over them is.
        weight: how much each label counts in the objective, on the CPU; None where all count 1.
    """

    value: Shaped[Tensor, "n c h w"]
    valid: Bool[Tensor, "n h w"]
    rows: Int[Tensor, "n"]
    weight: Float64[Tensor, "n"] | None = None

    def pin_memory(self) -> "TaskLabels":
        """The same in page-locked memory; loaders call it."""
        value, valid, rows = (x.pin_memory() for x in (self.value, self.valid, self.rows))
        return replace(self, value=value, valid=valid, rows=rows)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TaskLabels":
        """The same with its maps on another device."""
        value, valid = (x.to(device, non_blocking=non_blocking) for x in (self.value, self.valid))
        return replace(self, value=value, valid=valid)


@dataclass(frozen=True)
class Batch:
    """B samples of one size.

    Attributes:
        image: RGB in [0, 255].
        labels: per task of the whole task set, in its order, present even when no sample of the batch has a label.
        pairs_per_image: number of labelled tasks of each image, |T_n| of the objective; always on the CPU.
        indices: positions in the data set, on the CPU: they seed the noise.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    image: UInt8[Tensor, "b 3 h w"]
    labels: Mapping[str, TaskLabels]
    pairs_per_image: Int[Tensor, "b"]

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory; loaders call it."""
        labels = {task: labels.pin_memory() for task, labels in self.labels.items()}
        pairs = self.pairs_per_image.pin_memory()
        return Batch(self.names, self.indices, self.image.pin_memory(), labels, pairs)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same with its images and labels on another device."""
        return Batch(
            names=self.names,
            indices=self.indices,
            image=self.image.to(device, non_blocking=non_blocking),
            labels={task: labels.to(device, non_blocking) for task, labels in self.labels.items()},
            pairs_per_image=self.pairs_per_image,
        )


@dataclass(frozen=True)
class Canvas:
    """How an image sits in the padded picture that the network sees: at the top left.

    Attributes:
        size: H, W of the image.
        padded: H, W of the padded picture, multiples of what the strides need.
    """

    size: tuple[int, int]
    padded: tuple[int, int]

    def to_image(self, coarse: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c H W"]:
        """Enlarge coarse raw outputs bilinearly to the padded picture and cut the image out of it."""
        full = resize(coarse, self.padded)
        return full[..., : self.size[0], : self.size[1]]


@dataclass(frozen=True)
class InitialOutput:
    """What the initial network says of a batch, on the coarse grid.

    Attributes:
        features: per task, the initial feature.
        predictions: per task, raw outputs (logits; metres for depth; unnormalised normals).
        shared: the fused feature that the decoders of all tasks read.
    """

    features: Mapping[str, Float[Tensor, "b d h w"]]
    predictions: Mapping[str, Tensor]
    canvas: Canvas
    shared: Float[Tensor, "b d h w"] | None = None


@dataclass(frozen=True)
class NetworkOutput:
    """What a network says of the asked (image, task) pairs, raw and on the coarse grid.

    Attributes:
        final: per task [n C_t h w], the prediction that counts, for the rows that were asked for.
        initial: per task [n C_t h w], the prediction before refinement for the same rows; empty for a network
            without refinement.
        rows: per task, which images of the batch the n rows are; on the CPU.
        shared: the fused feature of every image, that the decoders of all tasks read.
    """

    final: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    rows: Mapping[str, Int[Tensor, "n"]]
    canvas: Canvas
    shared: Float[Tensor, "b d h w"] | None = None
