"""What accuracy costs: the rows of a comparison become points, and nothing that is beaten is called the best."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import pareto
from diffusionmtl.build import build_network
from diffusionmtl.commands.variants import choose_variants
from diffusionmtl.config import changed, settings_from_flat
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import config_file
from tests.conformance.resnet import thin_backbone
from tests.toy import TASKS

VARIANTS = Path(pareto.__file__).with_name("lite_variants.yaml")
HEAD = "method,labels,seed,depth:absErr@pooled,delta_m_vs_singletask,delta_m_vs_multitask,gmac,state"
ROWS = (
    "multitask,one,0,0.60,-4.0,0.0,1.0,done",
    "feature,one,0,0.55,1.0,5.0,4.0,done",
    "feature,one,1,0.55,1.0,7.0,4.0,done",
    "lite,one,0,0.56,0.5,4.5,0.5,done",
    "wide,one,0,0.56,0.5,3.0,40.0,done",
    "lite,random,0,0.10,9.0,99.0,0.5,done",
    "failed,one,0,,,,0.5,failed",
)


@pytest.fixture
def comparison(tmp_path):
    path = tmp_path / "comparison.csv"
    path.write_text("\n".join([HEAD, *ROWS]) + "\n")
    return path


@pytest.fixture
def ms(tmp_path):
    path = tmp_path / "ms.csv"
    path.write_text("method,ms\nfeature,90\nlite,30\nmultitask,20\n")
    return path


def test_seeds_are_one_point_and_both_costs_are_drawn(comparison, ms, tmp_path, capsys):
    out, said = tmp_path / "p.svg", tmp_path / "p.json"
    assert pareto.main([str(comparison), "--ms", str(ms), "--out", str(out), "--json", str(said)]) == 0
    assert capsys.readouterr().out == "GMAC per image: lite, feature\nms per image: multitask, lite, feature\n"
    root = ElementTree.fromstring(out.read_text(encoding="utf-8"))
    words = [text.text for text in root.iter() if text.get("class") == "word"]
    assert words == ["multitask", "feature", "lite", "wide", "multitask", "feature", "lite"]
    found = json.loads(said.read_text())
    assert found["front"]["GMAC per image"] == ["lite", "feature"]
    feature = next(point for point in found["points"] if point["name"] == "feature")
    assert feature == {"name": "feature", "delta": 6.0, "low": 5.0, "high": 7.0, "gmac": 4.0, "ms": 90.0}


def test_other_labels_and_references(comparison, tmp_path, capsys):
    words = [str(comparison), "--out", str(tmp_path / "p.svg")]
    assert pareto.main([*words, "--against", "singletask"]) == 0
    assert capsys.readouterr().out == "GMAC per image: lite, feature\n"
    assert pareto.main([*words, "--labels", "random"]) == 2
    assert "fewer than two methods" in capsys.readouterr().err


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(-3, 3)), min_size=1, max_size=8))
def test_the_front_is_those_that_nothing_beats(points):
    kept = [points[at] for at in pareto.front(points)]

    def beaten(point) -> bool:
        return any(o != point and o[0] <= point[0] and o[1] >= point[1] for o in points)

    assert kept == sorted({point for point in points if not beaten(point)})


@pytest.mark.parametrize("name", read_yaml(VARIANTS))
def test_the_variants_of_the_light_network_can_be_built(name):
    common = settings_from_flat({**read_yaml(config_file("rooms-bench")), **read_yaml(config_file("lite"))}, "x")
    (variant,) = choose_variants([name], own=VARIANTS)[:1]
    network = changed(common, **variant.changes).network
    assert network != common.network
    build_network(TASKS, network, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1)))
