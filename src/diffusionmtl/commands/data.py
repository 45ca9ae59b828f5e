"""`diffusionmtl data ...`: look at, split and draw data."""

import json
from pathlib import Path

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.output import check_claimable, claim_folder, progress_bar
from diffusionmtl.commands.train import partition_summary
from diffusionmtl.config import DataSettings
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.folder import FolderDataset, dataset_splits
from diffusionmtl.data.inspect import inspect
from diffusionmtl.data.partition import make_partition
from diffusionmtl.data.rooms.dataset import RoomsDataset, export_rooms
from diffusionmtl.data.sheet import contact_sheet
from diffusionmtl.errors import UserError
from diffusionmtl.files import MAX_PIXELS, write_bytes_atomically

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


def inspect_folder(
    root: Path,
    everything: bool = False,
    json_file: Path | None = None,
    sheet: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[str, bool]:
    """Look at every split of a partly labelled folder.

    Returns:
        What was found, to be printed, and whether training would accept the data.

    Raises:
        UserError: there is no data set, or the output cannot be written.
    """
    dataset_tasks(root)
    splits = {split: FolderDataset.open(root, split, max_pixels) for split in dataset_splits(root)}
    if not splits:
        raise UserError(f"{root}: no split with images; expected {root}/train/images/*.jpg")
    found = inspect(splits, None if everything else SAMPLED_FILES, progress_bar("looking", "files"))
    if json_file is not None:
        write_bytes_atomically(json_file, json.dumps(found.as_dict(), indent=2).encode())
    if sheet is not None:
        contact_sheet(next(iter(splits.values())), SHEET_IMAGES, sheet)
    return found.text(), found.sound


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
