"""`create`: what is wrong is said, never guessed."""

import json

import pytest
import torch
from safetensors.torch import save_file

import diffusionmtl as dm
from diffusionmtl.models.pretrained import read_network

DEPTH = [dm.Depth("depth")]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("featur", {}, r"method"),
        ("feature", {"widht": 16}, r"unknown setting 'widht'\. Did you mean 'width'\?"),
        ("feature", {"width": "wide"}, r"width"),
        ("feature", {"width": 18}, r"--width 18 is not a multiple of --attention-heads 4"),
        ("feature", {"steps": 0}, r"--steps 0: must be between 1 and 10000"),
    ],
)
def test_a_mistake_is_named(method, settings, message):
    with pytest.raises(dm.UserError, match=message) as caught:
        dm.create(method, tasks=DEPTH, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../up", "/tmp/evil", "", "a.b", "pictures", "values", "forward", "training"])
def test_a_task_that_could_be_no_folder_or_module(name):
    with pytest.raises(dm.UserError, match=r"task name '.*': "):
        dm.create("multitask", tasks=[dm.Depth(name)], width=8)


def test_a_task_that_stands_twice():
    with pytest.raises(dm.UserError, match="task name 'depth' stands twice"):
        dm.create("multitask", tasks=[*DEPTH, dm.Boundary("depth")], width=8)


def test_a_seed_is_the_weights_and_nothing_else_is_drawn_on():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (dm.create("multitask", tasks=DEPTH, seed=seed, width=8) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.initial.fusion.conv.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("description", ["{", "[]", "3", json.dumps("x"), "[" * 100_000])
def test_a_damaged_description(tmp_path, description):
    path = tmp_path / "last.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"diffusionmtl": description})
    with pytest.raises(dm.UserError, match=r"last\.safetensors: its description is damaged"):
        read_network(path)
