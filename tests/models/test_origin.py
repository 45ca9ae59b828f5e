"""What is known of pretrained weights, and what their licence asks."""

import json
import warnings

import pytest
import torch

import diffusionmtl as dm
from diffusionmtl.config import NetworkSettings
from diffusionmtl.models import backbone
from diffusionmtl.models.backbone import published_weights, timm_backbone
from diffusionmtl.models.origin import Origin, backbone_origin
from diffusionmtl.report.started import read_started, save_started, started_now
from diffusionmtl.runfolder import RunFolder

TASKS = [dm.Depth("depth")]


@pytest.mark.parametrize("licence", ["apache-2.0", "mit", "MIT", "bsd-3-clause", "cc-by-4.0"])
def test_permissive_licences_ask_for_nothing(licence):
    assert Origin("w", licence).caution() is None


@pytest.mark.parametrize(
    "licence,word",
    [
        ("cc-by-nc-4.0", "commercial"),
        ("cc-by-nc-sa-4.0", "commercial"),
        ("fair-noncommercial-research-license", "commercial"),
        ("dinov3-license", "terms of its own"),
        ("apple-amlr", "terms of its own"),
        ("gpl-3.0", "terms of its own"),
        (None, "not known"),
        ("unknown", "not known"),
        ("other", "not known"),
    ],
)
def test_others_are_cautioned_against(licence, word):
    said = Origin("w", licence).caution()
    assert said is not None
    assert word in said
    assert "w" in said.split()


def test_random_weights_have_no_origin():
    assert backbone_origin(NetworkSettings()) is None


def test_what_timm_knows():
    assert published_weights("resnet18") == ("timm/resnet18.a1_in1k", "apache-2.0")
    assert published_weights("convnextv2_atto.fcmae") == ("timm/convnextv2_atto.fcmae", "cc-by-nc-4.0")
    assert published_weights("no such network") == ("no such network", None)
    assert backbone_origin(NetworkSettings(pretrained=True)) == Origin("timm/resnet18.a1_in1k", "apache-2.0")


def test_a_file_is_known_by_its_digest_and_by_the_note_beside_it(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"abc")
    settings = NetworkSettings(backbone_weights=str(tmp_path / "w.pth"), pretrained=True)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert backbone_origin(settings) == Origin("w.pth", None, digest)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"license": "cc-by-nc-4.0"}}))
    assert backbone_origin(settings) == Origin("w.pth", "cc-by-nc-4.0", digest)
    for other in ("{", "[]", '{"pretrained_cfg": {"license": 3}}', "[" * 100_000):
        (tmp_path / "config.json").write_text(other)
        assert backbone_origin(settings) == Origin("w.pth", None, digest)
    with pytest.raises(dm.UserError, match="no such file"):
        backbone_origin(NetworkSettings(backbone_weights=str(tmp_path / "none.pth")))


def test_create_warns_in_python(tmp_path):
    torch.save(timm_backbone("test_resnet").body.state_dict(), tmp_path / "w.pth")
    words = dict(backbone="test_resnet", backbone_weights=str(tmp_path / "w.pth"), width=16)
    with pytest.warns(UserWarning, match=r"licence of the pretrained weights w\.pth is not known"):
        dm.create("multitask", TASKS, **words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dm.create("multitask", TASKS, backbone="test_resnet", width=16)


def test_a_fetched_backbone_is_not_built_twice_to_know_its_licence(monkeypatch):
    monkeypatch.setattr(backbone.timm, "create_model", lambda *args, **words: pytest.fail("built"))
    assert backbone_origin(NetworkSettings(pretrained=True))


def test_a_run_remembers(tmp_path):
    run = RunFolder(tmp_path / "first")
    run.root.mkdir()
    assert read_started(run) is None
    origin = Origin("w.pth", "cc-by-nc-4.0", "ab" * 32)
    started = started_now(origin, None)
    save_started(run, started)
    assert read_started(run) == started
    assert "torch" in started.versions
    second = started_now(None, run.root)
    assert (second.backbone, second.run) == (origin, "first")
    assert started_now(None, tmp_path / "none.safetensors").backbone is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"backbone_weights": 3, "started_from": null}', "[" * 100_000])
def test_a_damaged_note_is_named(text, tmp_path):
    run = RunFolder(tmp_path)
    run.provenance.write_text(text)
    with pytest.raises(dm.UserError, match=r"provenance\.json: not what a run notes"):
        read_started(run)
