"""The labels that a run held out of training, found again."""

from diffusionmtl.config import Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import MAX_BYTES, Partition, by_people, hold_out, listed
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_bytes
from diffusionmtl.runfolder import RunFolder


def held_out_labels(run: RunFolder, dataset: DenseDataset, settings: Settings) -> dict[int, frozenset[str]]:
    """By index of an image, the labels of people that training held out.

    Of a run that did not write down which images these are they are drawn again, among those that there were: with
    images that came to the data later others would be drawn, that training learnt from.

    Args:
        run: whose labels.
        dataset: its training data, maybe with more images since.
        settings: of the run.

    Raises:
        UserError: the data lacks an image or a label that the run saw, or the note of the run is damaged.
    """
    people = by_people(Partition.load(run.partition, dataset), dataset)
    if run.held_out.is_file():
        apart = _noted(run)
    else:
        then = people.only(listed(run.partition, dataset))
        apart = set(hold_out(then, settings.data.holdout, settings.train.seed)[1])
    return {index: people.visible[name] for index, name in enumerate(dataset.names) if name in apart}


def _noted(run: RunFolder) -> set[str]:
    try:
        return set(read_bytes(run.held_out, MAX_BYTES, "a list of images").decode("utf-8").split("\n"))
    except UnicodeDecodeError:
        raise UserError(
            f"{run.held_out}: not a text file in UTF-8; copy it anew from where the run came from"
        ) from None
