"""The page on reproducing tables: its hours follow from its formula, the configurations that it names exist."""

import re
from pathlib import Path

import pytest
import torch

from diffusionmtl.build import build_network
from diffusionmtl.config import changed, settings_from_flat
from diffusionmtl.data.cityscapes import cityscapes_tasks
from diffusionmtl.data.published_partitions import KNOWN
from diffusionmtl.models.cost import network_cost
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import config_file, preset_names
from diffusionmtl.tasks.published import nyud_tasks, pascal_context_tasks

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
TASKS = {"pascal": pascal_context_tasks(), "nyud": nyud_tasks(), "cityscapes": cityscapes_tasks()}
TITLES = {"pascal": "PASCAL-Context", "nyud": "NYUD-v2", "cityscapes": "Cityscapes"}
IMAGES = {"pascal": 4998, "nyud": 795, "cityscapes": 2975}
ONCE_PER_LABEL = {"signal embedding", "transformer", "refinement heads", "signal projection", "final heads"}
ROWS = re.findall(
    r"^\| (pascal|nyud|cityscapes) \| (one|random) \| (\w+)" + r" \| ([\d.]+)" * 5 + r" \|$",
    PAGE,
    re.MULTILINE,
)


def labels_per_image(benchmark: str, labels: str) -> float:
    word = f"{TITLES[benchmark]}, {labels} label"
    return next(sum(k.counts.values()) for k in KNOWN.values() if k.title.startswith(word)) / IMAGES[benchmark]


def test_there_are_hours_for_every_benchmark_and_method():
    assert len(ROWS) == 15 and {row[0] for row in ROWS} == set(TASKS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:3]))
def test_hours_follow_from_the_formula(row):
    benchmark, labels, method, *numbers = row
    predicting, training, *hours = map(float, numbers)
    name = f"{benchmark}/{labels}/{method}"
    settings = settings_from_flat(read_yaml(config_file(name)), name)
    tasks = TASKS[benchmark]
    with torch.device("meta"):
        network = build_network(tasks, changed(settings, pretrained=False).network)
    cost = network_cost(network, settings.data.size)
    assert cost.total.gmac == pytest.approx(predicting, abs=0.06)
    share = labels_per_image(benchmark, labels) / len(tasks)
    spent = sum(part.gmac * (share if part.name in ONCE_PER_LABEL else 1) for part in cost.parts)
    assert spent == pytest.approx(training, abs=0.06)
    work = IMAGES[benchmark] * settings.train.epochs * spent * 1e9 * 2 * 3
    for said, peak in zip(hours, (35.6e12, 19.5e12, 67e12), strict=True):
        assert said == pytest.approx(work / (0.4 * peak * 3600), abs=0.06)


def test_configurations_exist():
    named = set(re.findall(r"\b(?:pascal|nyud|cityscapes)/(?:one|random)/[a-z_-]+", PAGE))
    assert len(named) >= 16 and named <= set(preset_names())
