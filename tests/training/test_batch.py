"""A batch of one image is refused only where batch normalisation would have a single number."""

import pytest

from diffusionmtl.errors import UserError
from tests.runs import tiny, trained


def test_one_image_of_one_cell_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--batch 1 at --size 32 32: the backbone's last map is one cell"):
        trained(tiny(batch=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_image_of_several_cells_is_trained(tmp_path):
    run = trained(tiny(batch=1, size=(32, 64), rooms=3, holdout=0.0, epochs=1), tmp_path / "run")
    assert (run.checkpoints / "last.safetensors").is_file()
