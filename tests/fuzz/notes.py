"""Targets: what one command writes for another, and shared runs and pictures, which come from other people."""

import io
import json
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save

from diffusionmtl.commands.complete import MANIFEST
from diffusionmtl.commands.reviewed_completed import CompletedFolder
from diffusionmtl.commands.reviewed_suggested import SuggestedFolder
from diffusionmtl.commands.suggested_files import TASK_LIST
from diffusionmtl.commands.variants import choose_variants
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.errors import UserError
from diffusionmtl.models.origin import backbone_origin
from diffusionmtl.report.measured import FILE_NAME as MEASURED
from diffusionmtl.report.measured import read_measured
from diffusionmtl.report.started import began_words, read_started
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.serve.intake import read_sent
from diffusionmtl.serve.limits import Limits, Refused
from diffusionmtl.serve.review import Decisions
from diffusionmtl.sharing.archive import unpack_archive
from diffusionmtl.sharing.contents import LIST
from tests.fuzz.pictures import images, label_pictures
from tests.fuzz.target import TEXT, YAML, Target
from tests.fuzz.texts import JSON
from tests.toy import ToyDataset

_TOY = ToyDataset(4)


def archives() -> list[bytes]:
    files = {"checkpoints/last.safetensors": save({"w": torch.zeros(2)}), "config.yaml": b"epochs: 1\n"}
    listed = {name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()}
    files[LIST] = json.dumps({"format": 1, "files": listed}).encode()
    found = []
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", packing) as archive:
            for name, data in files.items():
                archive.writestr(f"run/{name}", data)
        found.append(stream.getvalue())
    return found


def _read_archive(folder: Path) -> None:
    """All of the run or nothing of it, and nothing beside it."""
    place = folder / "shared"
    shutil.rmtree(place / "out", ignore_errors=True)
    files = None
    try:
        files = unpack_archive(place / "run.zip", place / "out")
    finally:
        found = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
        if found != {"run.zip", *(f"out/{name}" for name in files or ())}:
            raise AssertionError(f"the archive left {sorted(found)}")


def suggestions() -> list[bytes]:
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(_TOY.names)]
    tasks = [
        {"id": 1, "image_id": 0, "task": "depth", "price": 1.5, "gain": 0.01, "reason": "1.2x the usual"},
        {"id": 2, "image_id": 1, "task": "semseg", "price": 2, "gain": 0, "reason": "like none"},
    ]
    return [json.dumps({"images": images, "tasks": tasks}).encode()]


def _read_suggestions(folder: Path) -> None:
    found = SuggestedFolder(folder / "suggested", _TOY, lambda image: {})
    for pair in found.pairs:
        found.note(pair)
        found.digest(pair)


def manifests() -> list[bytes]:
    tasks = {"semseg": {"level": 3, "threshold": 0.9}, "depth": {"level": None, "threshold": None}}
    return [json.dumps({"format": 1, "identity": "a", "tasks": tasks}).encode()]


def _read_completed(folder: Path) -> None:
    (folder / "completed/dataset.yaml").write_text(YAML)
    for place in ("train/images/a.png", "train/predicted/semseg/a.png", "confidence/semseg/a.png"):
        path = folder / "completed" / place
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_PICTURE)
    CompletedFolder(folder / "completed")


_PICTURE = label_pictures()[0]


def variants() -> list[bytes]:
    return [b"four-steps: {method: feature, steps: 4}\nlarge:\n  backbone: resnet18\n  size: [96, 128]\n", b"a: {}\n"]


def started() -> list[bytes]:
    backbone = {"name": "resnet18.a1_in1k", "licence": "apache-2.0", "sha256": None}
    said = {"date": "2026-01-02T03:04:05+00:00", "machine": "x86", "versions": {"torch": "2.6"}, "format": 1}
    return [json.dumps({**said, "backbone_weights": backbone, "started_from": None}).encode()]


def _read_started(folder: Path) -> None:
    found = read_started(RunFolder(folder / "run"))
    if found is not None and found.backbone is not None:
        found.backbone.caution()
    began_words(RunFolder(folder / "run"))


def measured() -> list[bytes]:
    curve = {"error": 0.5, "unit": "m", "probability": False, "oracle": [0.5, 0.2, 0.0], "chance": 0.5}
    before = {"error": 0.1, "nll": 0.7, "share": [0.5, 0.5], "stated": [0.2, 0.9], "came": [0.3, 0.8]}
    by = {"curves": {"std": [0.5, 0.3, 0.0]}, "ause": {"std": 0.2}, "before": before, "after": None}
    task = {"images": 3, "pixels": 48, **curve, **by}
    said = {"data": ["rooms"], "split": "val", "samples": 4, "ensemble": [], "weights": "ab"}
    return [json.dumps({**said, "tasks": {"depth": task}}).encode(), json.dumps({**said, "tasks": {}}).encode()]


def decisions() -> list[bytes]:
    row = {"image": "a", "task": "depth", "decision": "accept", "digest": "ab", "at": "2026-01-02T03:04:05"}
    return [json.dumps({"format": 1, "decisions": [row, {**row, "image": "b", "decision": "reject"}]}).encode()]


def _read_decisions(folder: Path) -> None:
    text = (folder / "decisions.json").read_text("utf-8", errors="replace")
    Decisions.from_text(text, "decisions.json").to_text()


def parts() -> list[bytes]:
    return [json.dumps({"2008_000001": [1, 15], "2008_000002": []}).encode()]


def _read_parts(folder: Path) -> None:
    lists = folder / "pascal/ImageSets/Context"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_text("2008_000001\n")
    PascalContext(folder / "pascal", "train", ())


def licences() -> list[bytes]:
    return [json.dumps({"pretrained_cfg": {"license": "cc-by-nc-4.0", "num_classes": 1000}}).encode()]


def _read_licence(folder: Path) -> None:
    (folder / "weights/w.safetensors").write_bytes(b"x")
    found = backbone_origin(changed(Settings(), backbone_weights=str(folder / "weights/w.safetensors")).network)
    if found is not None:
        found.caution()


def _read_sent(folder: Path) -> None:
    try:
        read_sent(folder / "sent.png", "from outside.png", Limits(pixels=4_000_000))
    except Refused as refused:
        raise UserError(str(refused)) from refused.__cause__


NOTES = (
    Target("archive", "shared/run.zip", archives, _read_archive, (*JSON, b"run/../../x", b"/abs"), form="zip"),
    Target("suggested", f"suggested/{TASK_LIST}", suggestions, _read_suggestions, JSON),
    Target("completed", f"completed/{MANIFEST}", manifests, _read_completed, JSON),
    Target("variants", "mine.yaml", variants, lambda at: choose_variants((), own=at / "mine.yaml"), TEXT),
    Target("started", "run/provenance.json", started, _read_started, JSON),
    Target("measured", MEASURED, measured, read_measured, JSON),
    Target("decisions", "decisions.json", decisions, _read_decisions, JSON),
    Target("parts", "pascal/ImageSets/Parts/train.txt", parts, _read_parts, JSON),
    Target("licence", "weights/config.json", licences, _read_licence, JSON),
    Target("sent", "sent.png", images, _read_sent, form="png"),
)
