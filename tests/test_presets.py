"""Configurations that come with the package: found by name, every word known, networks of the size in print."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from diffusionmtl.arguments import Parser, add_settings, parsed
from diffusionmtl.build import build_network, with_weights
from diffusionmtl.cli import main
from diffusionmtl.config import GROUPS, Settings, changed, settings_from_flat, settings_from_parsed
from diffusionmtl.data.cityscapes import cityscapes_tasks
from diffusionmtl.errors import UserError
from diffusionmtl.models.cost import network_cost
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import FOLDER, config_file, preset_names
from diffusionmtl.tasks.published import nyud_tasks, pascal_context_tasks
from tests.data import miniatures as m
from tests.scripts import loaded

ROOT = Path(__file__).resolve().parents[1]
TASKS = {"pascal": pascal_context_tasks(), "nyud": nyud_tasks(), "cityscapes": cityscapes_tasks()}
PUBLISHED = [name for name in preset_names() if name.split("/")[0] in TASKS]


def settings_of(*words: str) -> Settings:
    parser = Parser(prog="x", default_env=False)
    for kind in GROUPS.values():
        add_settings(parser, kind)
    return settings_from_parsed(parsed(parser, list(words)).as_dict())


def network_of(name: str):
    """On the meta device: shapes without numbers."""
    return network_by(settings_of("--config", name), name.split("/")[0])


def network_by(settings: Settings, folder: str):
    tasks = [t for t in TASKS[folder] if not settings.data.tasks or t.name in settings.data.tasks]
    with torch.device("meta"):
        return build_network(
            with_weights(tasks, settings.train.task_weights), changed(settings, pretrained=False).network
        )


def test_there_is_one_per_cell_of_the_tables():
    cells = {
        f"{folder}/{labels}/{method}"
        for folder, tasks in TASKS.items()
        for labels in ("one", "random")
        for method in ("multitask", "xtc", "prediction", "feature", *(f"singletask-{task.name}" for task in tasks))
    }
    assert set(PUBLISHED) - cells == {f"nyud/{labels}/feature-hitts-weights" for labels in ("one", "random")}
    assert cells <= set(PUBLISHED)


def test_the_files_are_what_the_program_writes():
    module = loaded("tools/published_configs.py")
    written = dict(module.all_configs())
    assert {f"{name}.yaml" for name in PUBLISHED} == set(written)
    for path, text in written.items():
        assert (FOLDER / path).read_text(encoding="utf-8") == text, f"{path}: run tools/published_configs.py"


@pytest.mark.parametrize("name", preset_names())
def test_every_word_is_known_and_means_the_same_from_python(name):
    from_python = settings_from_flat(read_yaml(config_file(name)), name)
    assert settings_of("--config", name) == from_python != Settings()


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_says_where_it_comes_from(name):
    text = config_file(name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(yaml.safe_load(text)) and all("  # " in line for line in lines)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_network_can_be_built(name):
    network = network_of(name)
    settings = settings_of("--config", name)
    assert {task.name for task in network.tasks} == set(settings.train.task_weights)
    assert (network.refiner is not None) == (settings.network.method in ("feature", "prediction"))
    side = settings.network.grid_stride * settings.network.token_stride
    assert all(length % side == 0 for length in settings.data.size)


def test_one_label_and_random_label_differ_in_the_labels_alone():
    for name in PUBLISHED:
        if "/one/" in name:
            one, random = (settings_of("--config", word) for word in (name, name.replace("/one/", "/random/")))
            assert changed(one, labels="random") == random


@pytest.mark.parametrize("method", ["multitask", "prediction", "xtc"])
def test_a_comparison_trains_other_methods_as_their_own_files_do(method):
    base, own = (settings_of("--config", f"pascal/one/{name}") for name in ("feature", method))
    network, mine = (network_by(settings, "pascal") for settings in (changed(base, method=method), own))
    assert [tuple(p.shape) for p in network.parameters()] == [tuple(p.shape) for p in mine.parameters()]


def test_networks_are_as_large_as_in_print():
    def parameters(name: str) -> int:
        return sum(p.numel() for p in network_of(f"pascal/one/{name}").parameters())

    assert parameters("feature") == 132_913_284
    assert parameters("multitask") / 1e6 == pytest.approx(157.2, abs=0.05)
    assert sum(parameters(f"singletask-{t.name}") for t in TASKS["pascal"]) / 1e6 == pytest.approx(219.6, abs=0.05)
    assert network_cost(network_of("pascal/one/feature"), (512, 512)).total.gmac == pytest.approx(675.3, abs=0.1)


def test_the_published_optimiser():
    train = settings_of("--config", "pascal/one/feature").train
    assert (train.optimizer, train.lr, train.weight_decay, train.schedule) == ("adam", 2e-5, 1e-6, "poly")
    assert (train.epochs, train.batch, train.clip, train.initial_weight) == (100, 6, 10.0, 0.5)


class TestNames:
    def test_with_or_without_ending_and_folder(self):
        expected = FOLDER / "pascal" / "one" / "feature.yaml"
        names = ("pascal/one/feature", "pascal/one/feature.yaml", "configs/pascal/one/feature.yaml", str(expected))
        assert {config_file(name).resolve() for name in names} == {expected.resolve()}

    def test_a_file_on_disk_goes_first(self, tmp_path, monkeypatch):
        (tmp_path / "pascal" / "one").mkdir(parents=True)
        mine = tmp_path / "pascal" / "one" / "feature"
        mine.write_text("epochs: 3\n")
        monkeypatch.chdir(tmp_path)
        assert config_file("pascal/one/feature").resolve() == mine
        assert settings_of("--config", "pascal/one/feature").train.epochs == 3

    def test_the_nearest_is_named(self):
        with pytest.raises(
            UserError, match="no such file.*Did you mean 'pascal/one/feature'.*cityscapes/one"
        ) as caught:
            config_file("pascal/one/featur")
        assert "\n" not in str(caught.value)

    def test_nothing_outside_the_folder(self):
        with pytest.raises(UserError, match="no such file"):
            config_file("../nothing")

    def test_the_command_line_overrides(self):
        settings = settings_of("--config", "nyud/random/feature", "--epochs", "7", "--labels", "x.pth", "--reproduce")
        assert (settings.train.epochs, settings.data.labels, settings.data.reproduce) == (7, "x.pth", True)
        assert settings.data.size == (288, 384)


@pytest.mark.parametrize("benchmark", ["pascal", "nyud", "cityscapes"])
def test_a_person_with_the_data_can_start(benchmark, tmp_path, capsys):
    """On a miniature copy, as far as the description of the network."""
    writers = {"pascal": m.pascal_context, "nyud": m.nyud_arrays, "cityscapes": m.cityscapes_arrays}
    root = writers[benchmark](tmp_path / "data")
    words = ["--config", f"{benchmark}/one/feature", "--root", str(root), "--width", "16", "--describe"]
    assert main(["train", *words]) == 0
    assert "signal embedding" in capsys.readouterr().out


@pytest.mark.slow
def test_the_wheel_holds_them(tmp_path):
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", "tests")
    )
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "out")], cwd=source, check=True
    )
    (wheel,) = (tmp_path / "out").glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("diffusionmtl/configs/")}
    assert {f"diffusionmtl/configs/{name}.yaml" for name in preset_names()} == inside
