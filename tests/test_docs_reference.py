"""What the documentation says of commands, settings, metrics, names and the network is what the code says."""

import argparse
import importlib
import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

import pytest
import torch

import diffusionmtl
from diffusionmtl.cli import COMMANDS
from diffusionmtl.commands.evaluate import figure_arrow
from diffusionmtl.config import GROUPS
from diffusionmtl.metrics.boundary import BSDS
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals
from diffusionmtl.tasks.disparity import Disparity
from tests.scripts import loaded

DOCS = Path(__file__).resolve().parents[1] / "docs"
KINDS = (
    SemanticSegmentation("semseg", classes=("wall", "floor")),
    Depth("depth"),
    Disparity("disparity"),
    SurfaceNormals("normals"),
    Saliency("saliency"),
    Boundary("edge"),
)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return loaded("docs/extension/reference.py")


def test_every_command_has_its_section_and_example(reference):
    text = reference.commands_text()
    for words, (*_, description, example) in COMMANDS.items():
        assert f"\n## {words}\n\n{description}" in f"\n{text}"
        assert f"$ {example}" in text


def test_every_setting_is_on_the_page_with_its_range(reference):
    text = reference.settings_text()
    for kind in GROUPS.values():
        for field in fields(kind):
            assert f"| `{field.name}` |" in text
    assert "| `holdout` | number, 0 or more and at most 0.9 | `0.05` |" in text
    assert "| `lr` | number, more than 0 | `0.002` |" in text
    assert "| `steps` | whole number, 1 or more and at most 10000 | `2` |" in text


def test_an_option_without_help_stops_the_build(reference):
    parser = argparse.ArgumentParser(description="Does it.", epilog="Example: diffusionmtl it")
    parser.add_argument("--loud", type=int)
    with pytest.raises(reference.Unexplained, match="diffusionmtl it: --loud has no help"):
        list(reference._command("it", parser))


def test_a_command_without_example_stops_the_build(reference):
    with pytest.raises(reference.Unexplained, match="diffusionmtl it has no description or no example"):
        list(reference._command("it", argparse.ArgumentParser(description="Does it.")))


def test_a_setting_without_a_line_stops_the_build(reference):
    @dataclass(frozen=True)
    class Settings:
        """Something.

        Attributes:
            said: explained.
        """

        said: int = 1
        unsaid: int = 2

    with pytest.raises(reference.Unexplained, match="Settings.unsaid"):
        list(reference._group("Some", Settings))


def test_markers_are_filled_and_other_text_stays(reference):
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    filled = reference.filled(page)
    assert "<!-- generated" not in filled and filled.startswith(page.split("<!-- generated")[0])
    assert reference.filled("# Any page\n") == "# Any page\n"
    markers = {
        name for name in reference.GENERATED if any(f"generated: {name}" in p.read_text() for p in DOCS.glob("*.md"))
    }
    assert markers == set(reference.GENERATED)


def test_every_figure_of_every_kind_is_explained():
    assert figure_arrow("myFigure@mine") == ""
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    for task in KINDS:
        for meter in task.meters():
            estimate = (
                torch.rand(1, task.channels, 12, 12).softmax(1) if task.channels > 1 else torch.rand(1, 1, 12, 12)
            )
            label = torch.rand(1, task.label_channels, 12, 12)
            if not task.label_dtype.is_floating_point:
                label = (label > 0.5).to(task.label_dtype)
            meter.update(task.activate(estimate), label, torch.ones(1, 12, 12, dtype=torch.bool))
            for figure in meter.compute():
                assert f"`{figure.split('/')[0]}" in page, figure
                assert figure_arrow(figure), "the table of `evaluate` says of each which way it is better"
        assert figure_arrow(task.headline) == ("↑" if task.higher_is_better else "↓")
    assert BSDS.name in page


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference.rst").read_text(encoding="utf-8")
    documented = {line.split()[-1] for line in text.splitlines() if line.startswith(".. auto")}
    assert set(diffusionmtl.__all__) <= documented
    for name in documented - set(diffusionmtl.__all__):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_figure_of_the_network_is_that_of_the_code():
    assert loaded("docs/draw_network.py").network_svg() == (DOCS / "images" / "network.svg").read_text(encoding="utf-8")
