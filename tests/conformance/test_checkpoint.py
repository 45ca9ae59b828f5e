"""Published checkpoints: every key accounted for, sizes read off the shapes, nothing run."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import scaled_linear_schedule
from diffusionmtl.errors import UserError
from diffusionmtl.models.backbone import timm_backbone
from diffusionmtl.models.published import (
    OURS_ALONE,
    PublishedCheckpoint,
    load_published,
    our_name,
    published_name,
    published_settings,
    published_tasks,
    read_published,
    tasks_in_words,
)
from diffusionmtl.tasks import Boundary, SemanticSegmentation
from diffusionmtl.tasks.published import pascal_context_tasks, published_task
from tests.conformance.recordings import Recording, network_of
from tests.conformance.resnet import thin_backbone

CHANNELS = (4, 8, 12, 16)
CONSTANTS_PER_CHECKPOINT = 12


@pytest.fixture(scope="module")
def model() -> dict[str, torch.Tensor]:
    """Weights of a network of two tasks under their published names, with constants by another route than ours."""
    network = tiny_network(("semseg", "edge"), {"semseg": 5, "edge": 1}, width=16, hidden=12)
    named = {published_name(key): value.clone() for key, value in network.state_dict().items() if key not in OURS_ALONE}
    return {**named, **constants(np.array([0.001, 0.01]))}


def tiny_network(names, channels, width, hidden):
    tasks = [published_task(name, channels[name]) for name in names]
    settings = NetworkSettings(width=width, hidden=hidden, form="published")
    return build_network(tasks, settings, seed=3, backbone=thin_backbone(CHANNELS))


def constants(betas: np.ndarray) -> dict[str, torch.Tensor]:
    power = np.cumprod(1 - betas)
    before = np.append(1.0, power[:-1])
    variance = betas * (1 - before) / (1 - power)
    values = {
        "betas": betas,
        "alphas_cumprod": power,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": power**0.5,
        "sqrt_one_minus_alphas_cumprod": (1 - power) ** 0.5,
        "log_one_minus_alphas_cumprod": np.log(1 - power),
        "sqrt_recip_alphas_cumprod": power**-0.5,
        "sqrt_recipm1_alphas_cumprod": (1 / power - 1) ** 0.5,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * before**0.5 / (1 - power),
        "posterior_mean_coef2": (1 - before) * (1 - betas) ** 0.5 / (1 - power),
    }
    return {f"diffusion_model.{name}": torch.tensor(value).float() for name, value in values.items()}


def loaded(path: Path, given=()):
    checkpoint = read_published(path)
    tasks = published_tasks(checkpoint, given)
    network = build_network(tasks, published_settings(checkpoint), backbone=thin_backbone(CHANNELS))
    load_published(network, checkpoint)
    return network


def test_a_training_checkpoint_with_optimiser_state_and_ddp_prefix(tmp_path, model):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], lr=2e-5)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=100, power=0.9)
    weight.sum().backward()
    optimizer.step()
    scheduler.step()
    content = {
        "model": {f"module.{key}": value for key, value in model.items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 7,
        "iter_count": 5999,
    }
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    checkpoint = read_published(tmp_path / "checkpoint.pth.tar")
    assert (checkpoint.epoch, checkpoint.iteration) == (7, 5999)
    network = loaded(tmp_path / "checkpoint.pth.tar")
    ours = network.state_dict()
    weights = {our_name(key): value for key, value in model.items() if our_name(key)}
    assert len(weights) == len(model) - CONSTANTS_PER_CHECKPOINT
    for key, value in weights.items():
        assert torch.equal(ours[key], value), key


def test_a_bare_state_dict(tmp_path, model):
    torch.save(model, tmp_path / "model.pth")
    assert [task.name for task in loaded(tmp_path / "model.pth").tasks] == ["semseg", "edge"]


def test_settings_read_off_shapes_and_names(tmp_path, model):
    torch.save(model, tmp_path / "model.pth")
    settings = published_settings(read_published(tmp_path / "model.pth"))
    assert (settings.width, settings.hidden, settings.decoder_blocks, settings.blocks) == (16, 12, 2, 4)
    assert (settings.steps, settings.noise_start, settings.noise_end) == (2, 0.001, 0.01)
    assert (settings.method, settings.form, settings.backbone) == ("feature", "published", "resnet18")


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_any_number_of_steps(tmp_path, model, steps):
    betas = np.linspace(0.001**0.5, 0.01**0.5, steps) ** 2
    torch.save({**model, **constants(betas)}, tmp_path / "model.pth")
    schedule = loaded(tmp_path / "model.pth").refiner.schedule
    np.testing.assert_allclose(schedule.betas, scaled_linear_schedule(steps).betas, rtol=1e-12)


def test_another_schedule_is_refused(tmp_path, model):
    torch.save({**model, **constants(np.array([0.001, 0.002, 0.01]))}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"noise schedule is not the published one: diffusion_model\.betas"):
        loaded(tmp_path / "model.pth")


def test_missing_unknown_and_misshapen_keys_are_listed_together(tmp_path, model):
    wrong = dict(model)
    del wrong["diffusion_model.denoiser.crossblocks.2.attn.kv.weight"]
    wrong["teacher.weight"] = torch.zeros(2)
    wrong["preliminary_dec.edge.0.bn1.bias"] = torch.zeros(3)
    torch.save(wrong, tmp_path / "model.pth")
    with pytest.raises(UserError) as caught:
        loaded(tmp_path / "model.pth")
    said = str(caught.value)
    assert "1 missing: diffusion_model.denoiser.crossblocks.2.attn.kv.weight" in said
    assert "1 unknown: teacher.weight" in said
    assert "1 of another shape: preliminary_dec.edge.0.bn1.bias [3] instead of [16]" in said
    assert "\n" not in said


def test_a_long_list_is_counted(tmp_path, model):
    torch.save({**model, **{f"extra.{i}": torch.zeros(1) for i in range(30)}}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"30 unknown: extra\.0, .*extra\.9 and 20 more"):
        loaded(tmp_path / "model.pth")


@pytest.mark.parametrize("key", ["backbone_embed.weight", "diffusion_model.betas", "preliminary_head.semseg.0.bias"])
def test_each_missing_key_is_named(tmp_path, model, key):
    torch.save({name: value for name, value in model.items() if name != key}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=key.replace(".", r"\.")):
        loaded(tmp_path / "model.pth")


def test_not_a_published_checkpoint(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="not a checkpoint of the published network"):
        loaded(tmp_path / "model.pth")


def test_an_unknown_task_needs_a_word(tmp_path, model):
    renamed = {key.replace(".edge.", ".lanes."): value for key, value in model.items()}
    torch.save(renamed, tmp_path / "model.pth")
    with pytest.raises(UserError, match="task 'lanes' with 1 output channels is; say so with --tasks lanes=KIND"):
        loaded(tmp_path / "model.pth")
    network = loaded(tmp_path / "model.pth", [Boundary("lanes")])
    assert network.tasks[1] == Boundary("lanes")
    with pytest.raises(UserError, match="'lanes' with 1 output channels"):
        loaded(tmp_path / "model.pth", [SemanticSegmentation("lanes", ("a", "b"))])
    with pytest.raises(UserError, match="has no task 'depth'"):
        published_tasks(read_published(tmp_path / "model.pth"), [Boundary("depth")])


def test_tasks_in_words(tmp_path, model):
    renamed = {key.replace(".edge.", ".lanes."): value for key, value in model.items()}
    torch.save(renamed, tmp_path / "model.pth")
    checkpoint = read_published(tmp_path / "model.pth")
    assert tasks_in_words(checkpoint, ["lanes=boundary"]) == (Boundary("lanes"),)
    (semseg,) = tasks_in_words(checkpoint, ["semseg=segmentation"])
    assert semseg.channels == 5
    for word, complaint in {"lanes": "NAME=KIND", "x=depth": "one of semseg, lanes", "lanes=lines": "kind"}.items():
        with pytest.raises(UserError, match=complaint):
            tasks_in_words(checkpoint, [word])


def test_order_of_tasks(tmp_path, model):
    """A torch file keeps it; a safetensors file sorts its keys, so there it is the published one or the one given."""
    tensors = {key: model[key] for key in sorted(model, key=lambda key: "semseg" in key)}
    torch.save(tensors, tmp_path / "model.pth")
    assert [task.name for task in published_tasks(read_published(tmp_path / "model.pth"))] == ["edge", "semseg"]
    checkpoint = PublishedCheckpoint(tmp_path / "model.safetensors", tensors, ordered=False)
    assert [task.name for task in published_tasks(checkpoint)] == ["semseg", "edge"]
    given = [Boundary("edge"), SemanticSegmentation("semseg", tuple("abcde"))]
    assert published_tasks(checkpoint, given) == tuple(given)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": model, "best": Payload()}, "model.pth")
    with pytest.raises(UserError, match="reading it could run code"):
        read_published(Path("model.pth"))
    Path("old.pth").write_bytes(pickle.dumps({"model": Payload()}, protocol=2))
    with pytest.raises(UserError):
        read_published(Path("old.pth"))
    assert not Path("was-run").exists()


def test_what_is_not_a_weight_is_named(tmp_path, model):
    torch.save({**model, "note": "hello"}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="1 entries are not weights: note"):
        read_published(tmp_path / "model.pth")


def test_a_tensor_that_claims_more_than_it_holds(tmp_path, model):
    huge = {**model, "backbone_embed.weight": torch.zeros(1).expand(1 << 40, 40, 3, 3)}
    torch.save(huge, tmp_path / "model.pth")
    with pytest.raises(UserError, match="claims to be .* and does not hold as many numbers"):
        read_published(tmp_path / "model.pth")


def test_a_weight_with_and_without_prefix(tmp_path, model):
    torch.save({**model, "module.backbone_embed.bias": torch.zeros(16)}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="twice"):
        read_published(tmp_path / "model.pth")


def test_names_translate_both_ways(recording: Recording):
    network = network_of(recording)
    for key in network.state_dict():
        if key not in OURS_ALONE:
            assert our_name(published_name(key)) == key
    assert our_name("diffusion_model.betas") is None
    assert all(published_name(key) is None for key in OURS_ALONE)


def test_the_full_size_network_has_the_published_keys_and_shapes(conformance_dir):
    with (conformance_dir / "official_state_dict.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    with torch.device("meta"):
        tensors = {row["key"]: torch.empty(shape_of(row["shape"])) for row in rows}
    betas = {key: value for key, value in constants(np.array([0.001, 0.01])).items()}
    checkpoint = PublishedCheckpoint(Path("official"), {**tensors, **betas})
    settings = published_settings(checkpoint)
    assert published_tasks(checkpoint) == pascal_context_tasks()
    with torch.device("meta"):
        network = build_network(published_tasks(checkpoint), settings)
    load_published(network, checkpoint)
    assert sum(p.numel() for p in network.parameters()) == 132_913_284
    parameters = {published_name(name) for name, _ in network.named_parameters()}
    assert parameters == {row["key"] for row in rows if row["kind"] == "param"}


def shape_of(text: str) -> tuple[int, ...]:
    return () if text == "scalar" else tuple(int(side) for side in text.split("x"))


def test_the_stand_in_for_thin_backbones_is_the_one_that_is_shipped():
    shipped, stand_in = timm_backbone("resnet18").body.eval(), thin_backbone((64, 128, 256, 512)).body.eval()
    stand_in.load_state_dict(shipped.state_dict())
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(shipped(image), stand_in(image), strict=True):
            torch.testing.assert_close(ours, theirs)
