"""`diffusionmtl data ...`: look at, split, pack and draw data."""

import json
from pathlib import Path

from diffusionmtl.build import build_dataset, is_built_in
from diffusionmtl.commands.output import check_claimable, claim_folder, progress_bar
from diffusionmtl.commands.train import partition_summary
from diffusionmtl.config import DataSettings
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.folder import dataset_splits
from diffusionmtl.data.inspect import inspect
from diffusionmtl.data.pack import Form, Split, pack
from diffusionmtl.data.partition import make_partition
from diffusionmtl.data.published_files import SPLITS
from diffusionmtl.data.rooms.dataset import RoomsDataset, export_rooms
from diffusionmtl.data.shards import shard_splits
from diffusionmtl.data.sheet import contact_sheet
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically

SAMPLED_FILES = 200
SHEET_IMAGES = 12


def write_partition(data: DataSettings, labels: str, seed: int, out: Path) -> str:
    """Draw a partition of the training split and write it; returns a summary.

    Raises:
        UserError: the data are wrong, or the file is there already.
    """
    if out.exists():
        raise UserError(f"--out {out}: exists; choose another name or remove it")
    dataset = build_dataset(data, "train", progress_bar("drawing rooms"))
    partition = make_partition(labels, dataset, seed)
    partition.save(out)
    return f"{out}: {partition_summary(partition, dataset)}"


def inspect_data(
    data: DataSettings, everything: bool = False, json_file: Path | None = None, sheet: Path | None = None
) -> tuple[str, bool]:
    """Look at every split of a data set.

    Returns:
        What was found, to be printed, and whether training would accept the data.

    Raises:
        UserError: there is no data set, or the output cannot be written.
    """
    drawing = progress_bar("drawing rooms")
    splits = {split: build_dataset(data, split, drawing) for split in splits_of(data)}
    found = inspect(splits, None if everything else SAMPLED_FILES, progress_bar("looking", "files"))
    if json_file is not None:
        write_bytes_atomically(json_file, json.dumps(found.as_dict(), indent=2).encode())
    if sheet is not None:
        contact_sheet(next(iter(splits.values())), SHEET_IMAGES, sheet)
    return found.text(), found.sound


def splits_of(data: DataSettings) -> tuple[str, ...]:
    """The splits that all of the named data sets have, those of folders by name.

    Raises:
        UserError: a folder is no data set, or there is no split.
    """
    common: list[str] | None = None
    for name in data.data:
        here = _splits(name)
        common = list(here) if common is None else [split for split in common if split in here]
    if not common:
        raise UserError(f"--data {' '.join(data.data)}: no split that all of these have")
    return tuple(common)


def _splits(name: str) -> tuple[str, ...]:
    if is_built_in(name):
        return SPLITS
    root = Path(name)
    dataset_tasks(root)
    splits = shard_splits(root) or dataset_splits(root)
    if not splits:
        raise UserError(f"{root}: no split with images; expected {root}/train/images/*.jpg")
    return splits


def pack_data(
    data: DataSettings, labels: str, seed: int, out: Path, form: Form, shard_size: int, splits: tuple[str, ...] = ()
) -> str:
    """Write data as a partly labelled folder or as shards; returns a summary.

    Args:
        data: where it comes from.
        labels: which labels of the training split go with it, as for training; other splits keep all.
        seed: of a drawn partition.
        out: new folder, or one that the same call has begun.
        form: folder or shards.
        shard_size: images per shard.
        splits: which; all if empty.

    Raises:
        UserError: the data are wrong, or the folder is taken or cannot be written.
    """
    chosen: dict[str, Split] = {}
    summary = f"{out}:"
    for split in splits or splits_of(data):
        dataset = build_dataset(data, split, progress_bar("drawing rooms"))
        if split == "train":
            partition = make_partition(labels, dataset, seed)
            chosen[split] = Split(dataset, partition.visible)
            summary += f" train {partition_summary(partition, dataset)};"
        else:
            chosen[split] = Split(dataset)
            summary += f" {split} {len(dataset)} images with all labels;"
    pack(out, chosen, form, shard_size, progress_bar("packing"))
    return summary.rstrip(";")


def draw_rooms_folder(out: Path, train: int, val: int, size: tuple[int, int], seed: int, labels: str) -> str:
    """Draw rooms as a partly labelled folder; validation images keep all labels.

    Raises:
        UserError: the folder is taken or cannot be written.
    """
    check_claimable(out, "the rooms")
    dataset = RoomsDataset.open("train", train, size, seed, progress=progress_bar("drawing rooms"))
    partition = make_partition(labels, dataset, seed)
    claim_folder(out, "the rooms")
    counts = {"train": train, **({"val": val} if val else {})}
    export_rooms(out, counts, size, seed, {"train": partition.visible}, progress=progress_bar("writing"))
    return f"{out}: {partition_summary(partition, dataset)}"
