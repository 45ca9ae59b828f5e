"""What is watched while hours pass, and the data that are read meanwhile."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.soak import write_shards
from benchmarks.watch import Held, Watch, bends, drawn, held_now, read_watch, summary
from diffusionmtl.data.shards import ShardsDataset


def held(seconds: float, memory: float, files: int = 9) -> Held:
    return Held("training", seconds, int(seconds), memory, files, 3, 1)


def test_growth_is_what_the_last_two_thirds_gained():
    looks = [held(0, 1.0), held(30, 999.0), *(held(second, 500 + second / 10) for second in range(40, 121, 10))]
    found = summary(looks)
    assert found["memory, growth"] == pytest.approx(8.0)
    assert (found["memory, lowest"], found["memory, highest"]) == (504.0, 512.0)
    assert found["files, growth"] == 0.0
    assert found["done"] == 120


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_look_is_kept_and_drawn(tmp_path: Path):
    before = held_now("shards", 0.0, 0)
    watch = Watch(tmp_path / "soak.csv", every=0.01)
    open_files = [(tmp_path / str(n)).open("w") for n in range(40)]
    with watch.stage("shards"):
        watch.done = 7
    for file in open_files:
        file.close()
    looks = read_watch(tmp_path / "soak.csv")["shards"]
    assert looks[-1].done == 7 and looks[-1].memory > 1 and looks[-1].processes == 1
    assert looks[-1].files >= before.files + 40
    assert ElementTree.fromstring(drawn({"a < b": looks}, "what & how")).tag.endswith("svg")


def test_the_shards_are_a_data_set_with_a_label_for_each_image(tmp_path: Path):
    write_shards(tmp_path / "shards", 30)
    dataset = ShardsDataset.open(tmp_path / "shards", "train")
    assert len(dataset) == 30
    assert [len(dataset.annotated(index)) for index in range(30)] == [1] * 30


def test_a_line_is_drawn_by_its_bends_alone():
    flat = [(float(x), 5.0) for x in range(100)]
    assert bends(flat) == [flat[0], flat[-1]]
    peak = [*flat[:50], (50.0, 1.0), *flat[51:]]
    assert bends(peak) == [(0.0, 5.0), (49.0, 5.0), (50.0, 1.0), (51.0, 5.0), (99.0, 5.0)]
