"""`diffusionmtl report`, and the page that closes the demo."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from diffusionmtl.build import build_dataset, build_training_set
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.config import DataSettings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError
from diffusionmtl.report.collect import PictureSettings, read_run, report_of_comparison, report_of_run
from diffusionmtl.report.page import write
from diffusionmtl.runfolder import RunFolder


def report(run: Path, data: DataSettings, pictures: PictureSettings | None = None) -> Path:
    """Write `report.html` into a run folder: scores, curves, pictures, errors, labels and settings.

    Data that cannot be read is left out of it, and a note says why: the page then has no pictures.

    Raises:
        UserError: no run there.
    """
    (training, lost), (unseen, lost_too) = _data(data, "train"), _data(data, "val")
    page = report_of_run(
        run,
        training,
        unseen,
        pictures=replace(pictures or PictureSettings(), data=data.data),
        notes=(*lost, *lost_too),
        progress=progress_bar("drawing"),
        surveying=progress_bar("holding answers against labels"),
    )
    write(page, RunFolder(run).report)
    return RunFolder(run).report


def compare_report(runs: Mapping[str, Path], path: Path, title: str, command: str, facts: Mapping[str, str]) -> Path:
    """Write one page about several runs on the same data; the first is what the others are measured against."""
    data = read_run(next(iter(runs.values()))).settings.data
    page = report_of_comparison(
        list(runs.items()), _data(data, "train")[0], _data(data, "val")[0], title=title, command=command, facts=facts
    )
    write(page, path)
    return path


def _data(settings: DataSettings, split: str) -> tuple[DenseDataset | None, tuple[str, ...]]:
    """A split, or why there is none."""
    try:
        shown = progress_bar("drawing rooms")
        found = build_training_set(settings, shown) if split == "train" else build_dataset(settings, split, shown)
    except UserError as error:
        return None, (f"No pictures of split '{split}': {error}.",)
    return found, ()
