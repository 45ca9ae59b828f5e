"""From settings to objects: what the settings say, and what they cannot say of this data."""

import pytest
import torch

from diffusionmtl.build import build_training_data
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.partition import make_partition
from diffusionmtl.files import write_picture
from diffusionmtl.tasks import task_kinds


@pytest.mark.parametrize("kind", ["saliency", "boundary", "depth"])
def test_a_crop_is_chosen_by_classes_or_not_at_all(tmp_path, kind):
    """A task called `semseg` need not be a segmentation: its label then says nothing about a crop."""
    (tmp_path / "dataset.yaml").write_text(f"tasks: {{semseg: {{kind: {kind}}}}}")
    noise = torch.randint(1, 255, (24, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    for name in "ab":
        write_picture(tmp_path / f"train/images/{name}.png", noise)
        write_picture(tmp_path / f"train/semseg/{name}.png", noise)
    dataset = FolderDataset.open(tmp_path, "train")
    assert isinstance(dataset.tasks[0], task_kinds()[kind])
    settings = changed(Settings(), size=(16, 16), batch=2, holdout=0.0)
    (batch,) = build_training_data(settings, dataset, make_partition("full", dataset, 0)).train
    assert batch.image.shape == (2, 3, 16, 16)
    assert batch.labels["semseg"].rows.tolist() == [0, 1]
