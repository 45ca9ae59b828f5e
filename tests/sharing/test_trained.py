"""A run that was really trained, from pretrained weights, and shared."""

import torch

import diffusionmtl as dm
from diffusionmtl.commands.share import share
from diffusionmtl.models.backbone import timm_backbone
from diffusionmtl.report.started import read_started
from tests.runs import tiny, trained


def test_training_warns_and_the_shared_run_says_it_too(tmp_path, capsys):
    torch.save(timm_backbone("test_efficientnet").body.state_dict(), tmp_path / "w.pth")
    settings = tiny(method="multitask", epochs=1, rooms=9, holdout=0.0, backbone_weights=str(tmp_path / "w.pth"))
    run = trained(settings, tmp_path / "run")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("warning:")] == [
        "warning: the licence of the pretrained weights w.pth is not known; find out before you pass on what is "
        "trained from them"
    ]
    started = read_started(run)
    assert started is not None
    assert started.backbone is not None
    assert started.backbone.name == "w.pth"
    share(run.root, tmp_path / "run.zip")
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours, theirs = (dm.load(place)(picture)["depth"].value for place in (run.root, tmp_path / "run.zip"))
    assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))
