"""Draw the pictures of the docs: `python docs/draw_images.py`, from the root of the repository."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import make_partition
from diffusionmtl.data.rooms.dataset import RoomsDataset

HERE = Path(__file__).parent / "images"
CELL = (96, 128)
GAP, HEAD, LEFT = 4, 22, 4
ABOVE = (19,)
BELOW = (9, 2, 8)
TITLES = {"semseg": "segmentation", "edge": "boundaries", "human_parts": "human parts", "normals": "surface normals"}


def cells(dataset: DenseDataset, index: int, visible: Set[str]) -> list[np.ndarray]:
    """The image and a picture of every task, grey where its label is absent."""
    row = [dataset.image(index).permute(1, 2, 0).numpy()]
    for task in dataset.tasks:
        label, valid = (x.as_subclass(Tensor) for x in dataset.label(index, task.name))
        known = valid[0] if task.name in visible else torch.zeros_like(valid[0])
        row.append(task.draw(label, known))
    return row


def sheet(blocks: Mapping[str, Sequence[Sequence[np.ndarray]]], titles: Sequence[str]) -> Image.Image:
    """Blocks of rows under a line of text each, and a title over every column."""
    height, width = CELL
    rows = sum(map(len, blocks.values()))
    size = (
        2 * LEFT + len(titles) * (width + GAP) - GAP,
        HEAD * (1 + len(blocks)) + rows * (height + GAP) + LEFT,
    )
    page = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        pen.text((LEFT + column * (width + GAP) + width / 2, HEAD / 2 + 2), title, "#555555", font, anchor="mm")
    top = HEAD
    for text, block in blocks.items():
        pen.text((LEFT, top + HEAD / 2), text, "black", font, anchor="lm")
        top += HEAD
        for row in block:
            for column, picture in enumerate(row):
                page.paste(Image.fromarray(picture), (LEFT + column * (width + GAP), top))
            top += height + GAP
    return page


def main(folder: Path | None = None) -> None:
    """Write `rooms.webp`, into `docs/images` if no folder is given."""
    folder = folder or HERE
    dataset = RoomsDataset.open("train", 24, CELL)
    partition = make_partition("one", dataset, 0)
    everything = {task.name for task in dataset.tasks}
    blocks = {
        "An image has these labels ...": [cells(dataset, i, everything) for i in ABOVE],
        "... but training sees one of them per image; grey is absent:": [
            cells(dataset, i, partition.visible[dataset.names[i]]) for i in BELOW
        ],
    }
    titles = ["image", *(TITLES.get(task.name, task.name) for task in dataset.tasks)]
    folder.mkdir(parents=True, exist_ok=True)
    # 128 colours look the same at this size, and are a fifth of the bytes: the source archive is to stay below 1 MB.
    few = sheet(blocks, titles).quantize(128, kmeans=1).convert("RGB")
    few.save(folder / "rooms.webp", lossless=True, quality=100, method=6)


if __name__ == "__main__":
    main()
