"""One tiny trained and evaluated run that knows private paths, and a hub on this machine."""

import json

import pytest
import torch
import yaml

from diffusionmtl.build import build_network, describe_run
from diffusionmtl.commands.train import config_text
from diffusionmtl.inference.calibration import Calibration, digest_of, save_calibration
from diffusionmtl.metrics.calibration import Scale
from diffusionmtl.models.origin import Origin
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.report.started import save_started, started_now
from diffusionmtl.runfolder import RunFolder
from tests.runs import tiny
from tests.sharing.hub import serving
from tests.toy import TASKS

PRIVATE = "/home/jane/secret"
SHARED = {
    "README.md",
    "calibration.json",
    "checkpoints/best.safetensors",
    "checkpoints/last.safetensors",
    "config.yaml",
    "held-out.txt",
    "log/metrics.csv",
    "metrics.json",
    "partition.txt",
    "provenance.json",
}


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory):
    """A run folder as training leaves it, without the training, with everything that knows the way to it."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "kitchen")
    settings = tiny(
        data=(f"{PRIVATE}/photos", "rooms"),
        labels=f"{PRIVATE}/part.txt",
        root=f"{PRIVATE}/benchmarks",
        backbone_weights=f"{PRIVATE}/w.safetensors",
    )
    network = build_network(TASKS, tiny().network)
    for name in ("last", "best"):
        save_network(network, run.checkpoints / f"{name}.safetensors", describe_run(settings, TASKS))
        with torch.no_grad():
            next(network.parameters()).add_(1)
    run.config.write_text(config_text(settings, TASKS))
    run.partition.write_text(f"# {PRIVATE}/part.txt\n# digest x\nphotos/a\tdepth\nrooms/b\tedge\n")
    run.held_out.write_text("photos/a\n")
    run.metrics.write_text(json.dumps(METRICS))
    run.log.mkdir()
    (run.log / "metrics.csv").write_text("step,train/total\n0,1.5\n")
    (run.log / "events.out.tfevents.1.janes-laptop").write_bytes(b"jane")
    (run.checkpoints / "last.ckpt").write_bytes(b"a pickle")
    run.report.write_text(PRIVATE)
    save_started(run, started_now(Origin("w.safetensors", "cc-by-nc-4.0", "ab" * 32), None))
    calibration = Calibration(
        digest_of(run.checkpoints / "last.safetensors"), samples=4, noise_scale=1.0, tasks={"depth": Scale(2.0, 0.1)}
    )
    save_calibration(run.root, calibration, {})
    return run.root


METRICS = {
    "format": 1,
    "data": [f"{PRIVATE}/photos", "rooms"],
    "split": "val",
    "samples": 4,
    "seed": 0,
    "checkpoint": "last",
    "images": {"depth": 7, "semseg": 7},
    "final": {"depth": {"rmse@pooled": 0.5}, "semseg": {"mIoU@pooled": 0.25, "IoU@pooled/wall": 0.3}},
    "initial": {},
    "notes": [],
    "delta_m": {"reference": f"{PRIVATE}/runs/base", "final": 1.0},
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, nobody's cache and no token of whoever runs the tests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def card_head(text: str) -> dict:
    """The YAML between the first two lines of dashes."""
    return yaml.safe_load(text.split("---\n")[1])
