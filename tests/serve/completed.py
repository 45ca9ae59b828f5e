"""A completed data set, as small as it can be and made by hand."""

import json
from pathlib import Path

import numpy as np
import torch

from diffusionmtl.data.description import write_dataset_yaml
from diffusionmtl.data.export import export_folder
from diffusionmtl.files import write_picture
from tests.toy import TASKS, ToyDataset

PREDICTED = [("image 0", "depth"), ("image 1", "depth"), ("image 1", "semseg")]
LEVEL = 30_000


def completed_folder(root: Path) -> Path:
    """Two pictures with edges by a person and some predicted labels; the first label is the most doubtful."""
    export_folder(root, {"train": ToyDataset(2, annotated={0: ["edge", "semseg"], 1: ["edge"]})})
    write_dataset_yaml(root, TASKS)
    by_name = {task.name: task for task in TASKS}
    toys = ToyDataset(2)
    for number, (image, name) in enumerate(PREDICTED):
        label, _ = toys.label(int(image[-1]), name)
        valid = torch.ones(label.shape[-2:], dtype=torch.bool)
        by_name[name].with_unknown().write(root / "train" / "predicted" / name / image, label, valid)
        sure = np.full(label.shape[-2:], 60_000, np.uint16)
        sure[: 8 - 2 * number] = 100
        write_picture(root / "confidence" / name / f"{image}.png", sure)
    said = {name: {"level": LEVEL} for name in ("depth", "semseg")}
    (root / "completed.json").write_text(json.dumps({"tasks": said}))
    return root
