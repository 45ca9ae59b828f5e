"""The gallery: a page whose code is run while the documentation is built, and shows the pictures that it draws."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image

from diffusionmtl.commands.train import train
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.rooms.dataset import export_rooms

GALLERY = "gallery"
SIZE = (96, 128)
LEARNT = dict(data=("my-data",), labels="one", size=SIZE, width=32, blocks=2, epochs=16, batch=8, holdout=0.1)
_BLOCK = re.compile(r"^<!-- picture: (?P<alt>.+?) -->\n```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def with_pictures(text: str, folder: Path) -> str:
    """A page with the picture that each of its marked blocks leaves in `picture` below that block.

    Args:
        folder: where it is run; what is there already, a trained run above all, is used again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    namespace: dict[str, object] = {"__name__": GALLERY}
    with standing_in(folder):
        prepare()

        def shown(found: re.Match[str]) -> str:
            exec(compile(found["code"], GALLERY, "exec"), namespace)  # the page is ours
            picture = namespace.pop("picture", None)
            if not isinstance(picture, Image.Image):
                raise TypeError(f"gallery, '{found['alt']}': the block leaves no image in `picture`")
            name = re.sub(r"\W+", "-", found["alt"].lower()).strip("-")[:60]
            picture.save(f"{name}.png")
            return f"{found[0]}\n\n![{found['alt']}](_build/{folder.name}/{name}.png)"

        return _BLOCK.sub(shown, text)


def prepare() -> None:
    """The folder that the page takes for granted: data, a run of a minute, a photograph."""
    if not Path("my-data").exists():
        export_rooms(Path("my-data"), {"train": 64, "val": 8}, SIZE)
    if not Path("runs/kitchen/checkpoints/last.safetensors").exists():
        threads = torch.get_num_threads()
        train(changed(Settings(), **LEARNT), Path("runs/kitchen"), progress=False)
        torch.set_num_threads(threads)
    Image.open("my-data/val/images/room-00000.png").resize((320, 240)).save("photo.jpg", quality=95)


@contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
