"""Cross-task consistency: what is predicted for one task shall agree with what is known of another (XTC, CVPR 2022).

Prediction and label of a pair of tasks are mapped into a joint space by one network that is told which pair it is, and
shall be alike there. Both shall also stay like the image's own feature, or everything could be mapped to one point.
Only training needs any of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.losses import mean_over_valid
from diffusionmtl.maps import resize
from diffusionmtl.models.synced import synchronise_layers
from diffusionmtl.tasks import Task
from diffusionmtl.transfer import picked, sent
from diffusionmtl.types import Canvas, TaskLabels

FINER = 2
"""The joint maps enter the mapping so many times finer than the grid on which tasks are predicted."""


@dataclass(frozen=True)
class Pairs:
    """P ordered pairs of tasks, each of one image: the prediction of `source` meets the label of `target`.

    They follow from which labels there are, and are kept on the CPU: nobody waits for a device to say how many.
    """

    image: Int[Tensor, "p"]
    source: Int[Tensor, "p"]
    target: Int[Tensor, "p"]

    def __len__(self) -> int:
        return len(self.image)

    def column(self, tasks: int) -> Int[Tensor, "p"]:
        """Which of the K (K - 1) ordered pairs each one is: rows of the K x K table, its diagonal left out."""
        return self.source * (tasks - 1) + self.target - (self.target > self.source).long()


def pairs_of(labelled: Bool[Tensor, "b k"]) -> Pairs:
    """Every unlabelled task of an image with every labelled one; all ordered pairs where nothing is unlabelled."""
    wanted = ~labelled | labelled.all(dim=1, keepdim=True)
    each = wanted[:, :, None] & labelled[:, None, :]
    each = each & ~torch.eye(labelled.shape[1], dtype=torch.bool, device=labelled.device)
    return Pairs(*each.nonzero().unbind(dim=1))


def distance(
    one: Float[Tensor, "p d h w"], other: Float[Tensor, "p d h w"], valid: Bool[Tensor, "p h w"]
) -> Float[Tensor, "p"]:
    """1 - cosine over channels, averaged over valid positions; 0 where there are none."""
    one, other = (x if x.dtype == torch.float64 else x.float() for x in (one, other))
    return mean_over_valid(1 - F.cosine_similarity(one, other, dim=1), valid)


class FiLM(nn.Module):
    """A 3x3 convolution whose normalised channels are scaled and shifted by what the pair's column of two tables says.

    The tables take the place of the normalisation's own scale and shift; they begin at 1 and 0.
    """

    def __init__(self, channels: int, width: int, pairs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.gamma = nn.Parameter(torch.ones(width, pairs))
        self.beta = nn.Parameter(torch.zeros(width, pairs))

    def forward(self, x: Float[Tensor, "p c h w"], column: Int[Tensor, "p"]) -> Float[Tensor, "p d h w"]:
        """`column`: of the tables, for each map."""
        gamma, beta = (table.T[column][:, :, None, None] for table in (self.gamma, self.beta))
        return F.relu(gamma * self.norm(self.conv(x)) + beta)


class JointSpace(nn.Module):
    """The mapping network: a layer per task, then an encoder that all pairs share, down to the shared feature's grid.

    Args:
        channels: per task, those of its joint form.
        feature: channels of the shared feature.
        width: inner channels; twice as many on the coarser of the two levels.

    Attributes:
        answers_others: goes through its layers without a single pair too, for they ask all processes for statistics.
    """

    def __init__(self, channels: Mapping[str, int], feature: int, width: int) -> None:
        super().__init__()
        pairs = len(channels) * (len(channels) - 1)
        self.inputs = nn.ModuleDict(
            {
                task: nn.Sequential(nn.Conv2d(count, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
                for task, count in channels.items()
            }
        )
        self.fine = nn.ModuleList([FiLM(width, width, pairs), FiLM(width, width, pairs)])
        self.coarse = nn.ModuleList([FiLM(width, 2 * width, pairs), FiLM(2 * width, 2 * width, pairs)])
        # No ReLU after it: the feature that it is to resemble has both signs.
        self.out = nn.Conv2d(2 * width, feature, 1)
        self.answers_others = False

    def synchronise(self) -> None:
        """Normalise by the maps of all processes together, however many each has."""
        synchronise_layers(self, unequal=True)
        self.answers_others = True

    def forward(self, x: Float[Tensor, "p c H W"], column: Int[Tensor, "p"]) -> Float[Tensor, "p d h w"]:
        """Maps that have been through their task's layer, each with the column of its pair."""
        for layer in self.fine:
            x = layer(x, column)
        x = F.max_pool2d(x, FINER)
        for layer in self.coarse:
            x = layer(x, column)
        return self.out(x)

    def tables(self) -> list[nn.Parameter]:
        """What differs between pairs."""
        layers = [module for module in self.modules() if isinstance(module, FiLM)]
        return [table for layer in layers for table in (layer.gamma, layer.beta)]


@dataclass(frozen=True)
class JointLabels:
    """L labels of any tasks on the joint grid.

    Attributes:
        maps: per task, the joint form of its labels; 0 where not valid.
        valid: per task, where they are.
        position: of the label of (image, task) among all labels, task after task; -1 where there is none. On the CPU.
    """

    maps: Mapping[str, Float[Tensor, "_ _ H W"]]
    valid: Mapping[str, Bool[Tensor, "_ H W"]]
    position: Int[Tensor, "b k"]


def joint_labels(
    tasks: Sequence[Task], labels: Mapping[str, TaskLabels], images: int, canvas: Canvas, grid: tuple[int, int]
) -> JointLabels:
    """Labels of a batch of so many images in their joint form, on a grid over the padded picture.

    Each gets there by its own kind's rules. What lies under an invalid pixel is cleared first.
    """
    maps, valid, start = {}, {}, 0
    position = torch.full((images, len(tasks)), -1)
    for number, task in enumerate(tasks):
        given = labels[task.name]
        value = torch.where(given.valid[:, None], given.value, given.value.new_zeros(()))
        label = _to_grid(value.as_subclass(task.label_type), canvas, grid)
        here = _to_grid(given.valid[:, None].as_subclass(ValidMap), canvas, grid)[:, 0]
        maps[task.name] = torch.where(here[:, None], task.joint_label(label, here), 0.0)
        valid[task.name] = here
        position[given.rows, number] = torch.arange(start, start + len(here))
        start += len(here)
    return JointLabels(maps, valid, position)


def _to_grid(label: LabelMap, canvas: Canvas, grid: tuple[int, int]) -> Tensor:
    down, right = canvas.padded[0] - canvas.size[0], canvas.padded[1] - canvas.size[1]
    return label.padded(0, 0, right, down).resized(*grid).plain()


@dataclass(frozen=True)
class Consistency:
    """Two distances per pair: between its prediction and its label, and of both to the image's feature (their sum)."""

    pairs: Pairs
    between: Float[Tensor, "p"]
    to_feature: Float[Tensor, "p"]


def consistency(
    space: JointSpace,
    tasks: Sequence[Task],
    predictions: Mapping[str, Tensor],
    labels: JointLabels,
    feature: Float[Tensor, "b d h w"],
    generators: Sequence[torch.Generator],
) -> Consistency:
    """How well predictions agree with the labels of other tasks: all pairs of a batch at once.

    Args:
        space: the mapping network.
        tasks: the task set, in the order of the pairs.
        predictions: per task [B C_t h w], raw and on the grid of the feature, of every image.
        labels: see `joint_labels`.
        feature: what all tasks are decoded from; no gradient reaches it from here.
        generators: of the classes that are drawn, one per image: whoever else is in the batch changes nothing.
    """
    pairs = pairs_of(labels.position >= 0)
    if not len(pairs) and not space.answers_others:
        nothing = torch.stack([p.flatten()[:1].sum() for p in space.parameters() if p.numel()]).sum() * 0
        return Consistency(pairs, nothing.expand(1)[:0], nothing.expand(1)[:0])
    at = labels.position[pairs.image, pairs.target]
    valid = picked(torch.cat([labels.valid[task.name] for task in tasks]), at)
    of_predictions, of_labels = _through_inputs(space, tasks, predictions, labels, pairs, valid, generators)
    column = sent(pairs.column(len(tasks)).repeat(2), feature.device)
    mapped = space(torch.cat([of_predictions, picked(of_labels, at)]), column)
    predicted, known = mapped.chunk(2)
    seen = F.max_pool2d(valid[:, None].float(), FINER)[:, 0] > 0
    anchor = picked(feature.detach(), pairs.image)
    to_feature = distance(predicted, anchor, seen) + distance(known, anchor, seen)
    return Consistency(pairs, distance(predicted, known, seen), to_feature)


def _through_inputs(
    space: JointSpace,
    tasks: Sequence[Task],
    predictions: Mapping[str, Tensor],
    labels: JointLabels,
    pairs: Pairs,
    valid: Bool[Tensor, "p H W"],
    generators: Sequence[torch.Generator],
) -> tuple[Float[Tensor, "p c H W"], Float[Tensor, "n c H W"]]:
    """Each pair's prediction, masked like its label, and each label, through the layer of its own task.

    In an image with a pair every task is a source or a target, so no layer is ever without a map.
    """
    of_pairs: list[Tensor] = []
    of_labels: list[Tensor] = []
    order: list[Tensor] = []
    grid = (valid.shape[-2], valid.shape[-1])
    for number, task in enumerate(tasks):
        mine, known = (pairs.source == number).nonzero()[:, 0], labels.maps[task.name]
        raw, here = picked(resize(predictions[task.name], grid), pairs.image[mine]), picked(valid, mine)
        drawing = [generators[image] for image in pairs.image[mine].tolist()]
        joint = torch.where(here[:, None], task.joint(raw, here, drawing), 0.0)
        inner = space.inputs[task.name](torch.cat([joint, known]))
        of_pairs.append(inner[: len(mine)])
        of_labels.append(inner[len(mine) :])
        order.append(mine)
    return picked(torch.cat(of_pairs), torch.cat(order).argsort()), torch.cat(of_labels)
