"""A small folder to train on and tiny settings, as files."""

import shutil
from pathlib import Path

import pytest
import yaml

from diffusionmtl.data.export import export_folder
from tests.runs import TINY
from tests.toy import ToyDataset


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory):
    """Eight toy pictures with every label for training, two for validation."""
    root = tmp_path_factory.mktemp("good") / "toys"
    export_folder(root, {"train": ToyDataset(8), "val": ToyDataset(2)})
    return root


@pytest.fixture
def folder(good_folder, tmp_path):
    return Path(shutil.copytree(good_folder, tmp_path / "toys"))


@pytest.fixture
def settings(tmp_path):
    """A YAML file of tiny settings, in the words of the command line."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items() if k != "data"}))
    return path
