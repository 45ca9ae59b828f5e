"""Targets: YAML, JSON, CSV and plain lists."""

import json
from pathlib import Path

import yaml

from diffusionmtl.commands.cell import read_record
from diffusionmtl.commands.finished import FOLDER, Finished
from diffusionmtl.config import Settings, settings_from_flat
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.data.partition import Partition
from diffusionmtl.data.published_files import read_names
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import read_calibration
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.log import read_log, read_metrics
from diffusionmtl.report.provenance import read_partition
from diffusionmtl.runfolder import RunFolder
from tests.fuzz.target import TEXT, YAML, Target
from tests.toy import ToyDataset

_TOY = ToyDataset(4)
_TAGS = (b"!!python/name:os.system", b"!!binary |", b"!!timestamp x", b"!!bool x", b"!!int ''")
_YAML_WORDS = (
    *TEXT,
    *_TAGS,
    *b"&a |*a|[|{|? |<<: |2001-99-99|1:2:3.5|0b_|.nan|- |kind: |null".split(b"|"),
)
JSON = (
    *TEXT,
    b"[" * 5000,
    b'{"a":' * 50,
    *b'NaN|Infinity|null|"../../x"|"\\ud800"|[]|{}'.split(b"|"),
)


def described() -> list[bytes]:
    return [
        YAML.encode(),
        b"tasks:\n  a: {kind: normals, frame: opencv}\n  b:\n    kind: boundary\n    tolerance: 0.01\n",
    ]


def configured() -> list[bytes]:
    flat = Settings().flat()
    return [yaml.safe_dump(flat).encode(), b"epochs: 3\nsize: [96, 128]\ntask_weights: {depth: 1e-3}\n"]


def _read_settings(folder: Path) -> None:
    values = read_yaml(folder / "config.yaml")
    if not isinstance(values, dict):
        raise UserError("config.yaml: must name settings, one a line")
    settings_from_flat(values, "config.yaml")


def partitions() -> list[bytes]:
    return [b"# made by hand\nimage 0\tdepth\tsemseg\nimage 1\r\nimage 2\tedge\n", b"image 3\tnormals\n"]


def image_lists() -> list[bytes]:
    return [b"image 0\nimage 2\n", b"image 3\r\n"]


def calibrations() -> list[bytes]:
    tasks = {"semseg": {"temperature": 1.2, "shift": 0.0}, "depth": {"scale": 2.0, "floor": 0.1}}
    return [json.dumps({"format": 1, "weights": "ab", "samples": 4, "noise_scale": 1.0, "tasks": tasks}).encode()]


def metrics() -> list[bytes]:
    figures = {"depth": {"RMSE@pooled": 1.0, "absErr@pooled": 0.5}}
    said = {"format": 1, "data": ["rooms"], "split": "val", "samples": 1, "seed": 0, "checkpoint": "last"}
    return [json.dumps({**said, "images": {"depth": 3}, "final": figures, "initial": {}}).encode()]


def logs() -> list[bytes]:
    return [b"epoch,step,train/total,dev/total\n0,9,1.5,\n0,19,1.2,nan\n1,29,0.9,1e3\n"]


def records() -> list[bytes]:
    scoring = {"split": "val", "samples": 1, "checkpoint": "last"}
    said = {
        "folder": "runs/one",
        "asked": {"settings": {"epochs": 2}, "scoring": scoring},
        "outcome": {"state": "done"},
    }
    return [json.dumps(said).encode()]


def _read_record(folder: Path) -> None:
    cell, _ = read_record(folder / "compared/cells/one/a.json")
    if not cell.folder.resolve().is_relative_to((folder / "compared").resolve()):
        raise AssertionError(f"a run outside the comparison: {cell.folder}")


def predicted() -> list[bytes]:
    said = {"path": "/a.png", "content": "c", "settings": "s", "files": ["images/a.png", "depth/a.npy"]}
    return [json.dumps(said).encode()]


def _read_predicted(folder: Path) -> None:
    for file in Finished(folder / "out", "s").files("a", "c") or ():
        if not file.resolve().is_relative_to((folder / "out").resolve()):
            raise AssertionError(f"a file outside the folder: {file}")


TEXTS = (
    Target("dataset-yaml", "set/dataset.yaml", described, lambda at: dataset_tasks(at / "set"), _YAML_WORDS),
    Target("config-yaml", "config.yaml", configured, _read_settings, _YAML_WORDS),
    Target("partition", "labels.txt", partitions, lambda at: Partition.load(at / "labels.txt", _TOY), TEXT),
    Target("run-partition", "partition.txt", partitions, lambda at: read_partition(RunFolder(at)), TEXT),
    Target("image-list", "list.txt", image_lists, lambda at: listed_images(at / "list.txt", _TOY), TEXT),
    Target(
        "split-list",
        "split.txt",
        lambda: [b"2008_000001\n2008_000002\n"],
        lambda at: read_names(at / "split.txt"),
        TEXT,
    ),
    Target("calibration", "calibration.json", calibrations, lambda at: read_calibration(at), JSON),
    Target("metrics", "metrics.json", metrics, lambda at: read_metrics(RunFolder(at)), JSON),
    Target("log", "log/metrics.csv", logs, lambda at: read_log(RunFolder(at)), (*TEXT, b'"', b",,,")),
    Target("record", "compared/cells/one/a.json", records, _read_record, JSON),
    Target("predicted", f"out/{FOLDER}/a.json", predicted, _read_predicted, JSON),
)
