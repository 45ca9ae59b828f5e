"""The labels that a run held out of training, found again."""

from pathlib import Path

from diffusionmtl.config import Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import Partition, by_people, hold_out, listed


def held_out_labels(partition: Path, dataset: DenseDataset, settings: Settings) -> dict[int, frozenset[str]]:
    """By index of an image, the labels of people that training held out.

    Which images these are follows from how many there were and in which order. So images that came to the data later
    are left out before it is drawn again: with them others would be drawn, that training learnt from.

    Args:
        partition: `partition.txt` of the run.
        dataset: its training data, maybe with more images since.
        settings: of the run.

    Raises:
        UserError: the data lacks an image or a label that the run saw.
    """
    people = by_people(Partition.load(partition, dataset), dataset)
    then = people.only(listed(partition, dataset))
    apart = set(hold_out(then, settings.data.holdout, settings.train.seed)[1])
    return {index: people.visible[name] for index, name in enumerate(dataset.names) if name in apart}
