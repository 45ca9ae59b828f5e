"""Cross-task consistency as a part of training (XTC, CVPR 2022): a second view, and what its predictions owe there."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from diffusionmtl.models.network import Network
from diffusionmtl.models.xtc import FINER, JointSpace, Pairs, consistency, joint_labels
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task
from diffusionmtl.training.extra import Extra, ParameterGroup, Seen
from diffusionmtl.training.views import scale_cropped
from diffusionmtl.transfer import sent
from diffusionmtl.types import Batch, TaskLabels

FEATURE_WEIGHT = 0.5


class CrossTaskConsistency(Extra):
    """Makes predictions of unlabelled tasks agree with the labels of others.

    With B images, the labelled tasks T_n and the others U_n of image n, and the joint space m of a pair (s, t):

        weight / B * sum_n sum_{s in U_n, t in T_n} a_nt [d(m(y_s), m(y_t)) + 0.5 * (d(m(y_s), f) + d(m(y_t), f))]

    where y_s is predicted, y_t is the label, a its weight (1, or less for a label that is itself a prediction), d is
    1 - cosine and f the feature that all decoders share, which gets no gradient from here. A fully labelled image has
    all ordered pairs of different tasks.

    Args:
        tasks: the task set.
        space: the mapping network over these tasks.
        weight: lambda.
        table_lr: factor on the learning rate of the tables that tell the pairs apart.
        second_view: judge an enlarged cut of the batch, as published, instead of the batch itself.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        space: JointSpace,
        weight: float = 1.0,
        table_lr: float = 1.0,
        second_view: bool = True,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.space = space
        self.weight = weight
        self.table_lr = table_lr
        self.second_view = second_view

    def images(self, batch: Batch, seed: int) -> Batch | None:
        """The second view."""
        return scale_cropped(batch, self.tasks, _each(batch, seed, "view")) if self.second_view else None

    def synchronise(self) -> None:
        """The mapping network's statistics are those of all processes."""
        self.space.synchronise()

    def terms(self, network: Network, seen: Seen) -> Mapping[str, Float[Tensor, ""]]:
        """`agreement` of predictions with labels, and how both keep to the `feature`."""
        feature = seen.output.shared
        assert feature is not None
        images = len(seen.view.image)
        grid = (FINER * feature.shape[-2], FINER * feature.shape[-1])
        labels = joint_labels(self.tasks, seen.view.labels, images, seen.output.canvas, grid)
        generators = _each(seen.view, seen.seed, "classes")
        found = consistency(self.space, self.tasks, seen.output.final, labels, feature, generators)
        share = self.weight / images
        between, to_feature = found.between, found.to_feature
        counts = pair_weights(self.tasks, seen.view.labels, images, found.pairs)
        if counts is not None:
            counts = sent(counts.to(between.dtype), between.device)
            between, to_feature = counts * between, counts * to_feature
        return {
            "agreement": share * between.sum(),
            "feature": share * FEATURE_WEIGHT * to_feature.sum(),
        }

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """The tables have a rate of their own; decay would pull their scales to 0."""
        tables = self.space.tables()
        apart = {id(table) for table in tables}
        return [
            ParameterGroup([p for p in self.parameters() if id(p) not in apart]),
            ParameterGroup(tables, lr=self.table_lr, decay=False),
        ]


def _each(batch: Batch, seed: int, purpose: str) -> list[torch.Generator]:
    """A generator per image, the same whichever process holds the image."""
    return [torch.Generator().manual_seed(derive_seed(seed, purpose, index)) for index in batch.indices]


def pair_weights(
    tasks: Sequence[Task], labels: Mapping[str, TaskLabels], images: int, pairs: Pairs
) -> Float64[Tensor, "p"] | None:
    """How much each pair counts: as much as its label, which may be a prediction; None where all count 1."""
    if all(given.weight is None for given in labels.values()):
        return None
    weights = torch.ones(images, len(tasks), dtype=torch.float64)
    for number, task in enumerate(tasks):
        given = labels[task.name]
        if given.weight is not None:
            weights[given.rows, number] = given.weight
    return weights[pairs.image, pairs.target]


def cross_task_consistency(
    tasks: Sequence[Task], feature: int, width: int, weight: float, table_lr: float, second_view: bool, seed: int
) -> CrossTaskConsistency:
    """With fresh weights, the same for the same seed; the global random state is left as it was.

    Args:
        tasks: the task set.
        feature: channels of the network's shared feature.
        width: of the mapping network.
        weight, table_lr, second_view: see `CrossTaskConsistency`.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "cross-task consistency"))
        space = JointSpace({task.name: task.joint_channels for task in tasks}, feature, width)
    return CrossTaskConsistency(tasks, space, weight, table_lr, second_view)
