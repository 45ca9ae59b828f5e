"""Make a folder of images and labels as one finds them, with the common mistakes, to see what is said of each.

python examples/messy_folder.py messy
diffusionmtl data inspect messy
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

IMAGES = 12
HEIGHT, WIDTH = 48, 64
CLASSES = ["wall", "floor", "chair"]


def make(root: Path) -> None:
    """Write `root`: twelve images for training, two for validation, and labels that somebody exported in a hurry."""
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("val", 2)):
        for index in range(count):
            _scene(root / split, f"{index:04d}", rng)
    _describe(root)
    _spoil(root / "train")


def _scene(folder: Path, name: str, rng: np.random.Generator) -> None:
    """A wall, a floor and a chair; segmentation for even images, depth for odd ones."""
    horizon, left = int(rng.integers(16, 30)), int(rng.integers(8, 40))
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[horizon:] = 1
    label[horizon - 8 : horizon + 10, left : left + 14] = 2
    colours = np.array([[200, 190, 170], [120, 90, 60], [60, 80, 150]])[label]
    photo = np.clip(colours + rng.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    _save(photo, folder / "images" / f"{name}.jpg")
    if int(name) % 2 == 0:
        _save(label, folder / "semseg" / f"{name}.png")
    else:
        metres = np.where(label == 0, 4.0, 4.0 - 2.5 * np.linspace(0, 1, HEIGHT)[:, None])
        _save((metres * 1000).astype(np.uint16), folder / "depth" / f"{name}.png")


def _describe(root: Path) -> None:
    semseg = {"kind": "segmentation", "classes": CLASSES, "ignore": 255}
    text = yaml.safe_dump({"tasks": {"semseg": semseg, "depth": {"kind": "depth", "scale": 1.0}}}, sort_keys=False)
    (root / "dataset.yaml").write_text(text)


def _spoil(train: Path) -> None:
    """What goes wrong with real folders, each mistake once."""
    # Depth in millimetres, but `scale: 1.0` says metres: already so in `_describe`.
    label = np.array(Image.open(train / "semseg" / "0002.png"))
    label[0, :8] = 7  # a class that has no name
    _save(label, train / "semseg" / "0002.png")
    (train / "semseg" / "0004.png").rename(train / "semseg" / "0004_mask.png")  # belongs to no image
    damaged = train / "images" / "0006.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])  # the copy broke off
    turned = np.array(Image.open(train / "semseg" / "0008.png")).T
    _save(turned, train / "semseg" / "0008.png")  # upright, while its image lies
    (train / "images" / "Thumbs.db").write_bytes(b"left behind by a file browser")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a deliberately messy folder.")
    parser.add_argument("out", type=Path, help="folder to make; must not exist")
    out = parser.parse_args().out
    if out.exists():
        parser.error(f"{out} exists; name a new folder")
    make(out)
    print(out)
