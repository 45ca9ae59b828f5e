"""All labelled pairs of a batch are denoised together; nobody can tell from the result."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals
from tests.conformance.resnet import thin_backbone
from tests.networks import thin_network

TASKS = (SemanticSegmentation("semseg", ("a", "b", "c", "d")), Depth("depth"), SurfaceNormals("normals"))
NAMES = tuple(task.name for task in TASKS)
BATCH = 3
TOLERANCE = 1e-9

methods = pytest.mark.parametrize("method", ["feature", "prediction"])
forms = pytest.mark.parametrize("form", ["published", "correction"])
masks = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=BATCH, max_size=BATCH)


def make(method: str, form: str, tasks=TASKS, condition: str = "predictions") -> Network:
    """A float64 network in which no weight is zero, so that every path counts."""
    sizes = NetworkSettings(
        method=method, form=form, condition=condition, width=8, blocks=2, attention_heads=2, steps=3, noise_end=0.3
    )
    return thin_network(tasks, sizes)


shared = functools.cache(make)


def images(count: int = BATCH) -> Tensor:
    return torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def noise(keys=(11, 12, 13), seed: int = 0) -> SeededNoise:
    return SeededNoise(seed, keys)


def rows_of(mask) -> dict[str, Tensor]:
    columns = np.asarray(mask, dtype=bool).T
    rows = {task: torch.from_numpy(np.flatnonzero(column)) for task, column in zip(NAMES, columns, strict=True)}
    return {task: at for task, at in rows.items() if len(at)}


def assert_close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)


def score(output: dict[str, Tensor]) -> Tensor:
    """A number to which every output contributes differently."""
    terms = [(raw * torch.linspace(-1, 1, raw.numel(), dtype=raw.dtype).view_as(raw)).sum() for raw in output.values()]
    return torch.stack(terms).sum()


def gradients(network: Network, owed: Tensor) -> dict[str, Tensor | None]:
    named = dict(network.named_parameters())
    found = torch.autograd.grad(owed, list(named.values()), allow_unused=True)
    return dict(zip(named, found, strict=True))


@methods
@forms
@settings(max_examples=12)
@given(mask=masks)
def test_together_as_one_pair_at_a_time(method, form, mask):
    """Outputs and the gradient of every parameter, in training, for any mask of labels."""
    network, rows = shared(method, form).train(), rows_of(mask)
    together = network(images(), noise(), rows).final
    assert {task: len(raw) for task, raw in together.items()} == {task: len(at) for task, at in rows.items()}

    initial = network.initial(images())
    loop = {
        task: torch.cat([network.refiner(initial, {task: at[None]}, noise())[task] for at in rows[task]])
        for task in rows
    }
    for task, raw in together.items():
        assert_close(raw, loop[task])
    if not rows:
        return
    by_loop = gradients(network, score(loop))
    for name, gradient in gradients(network, score(together)).items():
        assert (gradient is None) == (by_loop[name] is None), name
        if gradient is not None:
            assert_close(gradient, by_loop[name])


@methods
@forms
@settings(max_examples=4)
@given(mask=masks)
def test_a_task_without_a_label_may_be_asked_for_no_image(method, form, mask):
    """Then its weights get a gradient of zero instead of none, and nothing else changes."""
    network, rows = shared(method, form).train(), rows_of(mask)
    everyone = {task: rows.get(task, torch.zeros(0, dtype=torch.int64)) for task in NAMES}
    some, output = network(images(), noise(), rows).final, network(images(), noise(), everyone).final
    for task in NAMES:
        assert_close(output[task], some[task]) if task in rows else assert_empty(output[task])
    if not rows:
        return
    expected = gradients(network, score(some))
    for name, gradient in gradients(network, score(output)).items():
        if gradient is not None and expected[name] is None:
            assert torch.equal(gradient, torch.zeros_like(gradient)), name
        elif gradient is not None:
            assert_close(gradient, expected[name])


def assert_empty(output: Tensor) -> None:
    assert output.numel() == 0


@methods
@forms
@settings(max_examples=8)
@given(chosen=st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_a_prediction_does_not_depend_on_its_batch(method, form, chosen):
    """Any choice of images, in any order and number: each is predicted as in the full batch."""
    network, keys = shared(method, form).eval(), (11, 12, 13, 14)
    with torch.no_grad():
        whole = network(images(4), noise(keys)).final
        some = network(images(4)[chosen], noise([keys[at] for at in chosen])).final
    for task in NAMES:
        assert_close(some[task], whole[task][chosen])


@methods
@settings(max_examples=8)
@given(mask=masks)
def test_a_prediction_does_not_depend_on_what_else_is_asked(method, mask):
    network, rows = shared(method, "correction").eval(), rows_of(mask)
    with torch.no_grad():
        whole = network(images(), noise()).final
        some = network(images(), noise(), rows).final
    assert some.keys() == rows.keys()
    for task, at in rows.items():
        assert_close(some[task], whole[task][at])


@methods
@forms
@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_a_prediction_does_not_depend_on_the_order_of_tasks(method, form, order):
    """The same weights, with those of the condition moved along with the tasks' channels."""
    network = shared(method, form).eval()
    tasks = [TASKS[at] for at in order]
    channels = torch.arange(sum(task.channels for task in TASKS)).split([task.channels for task in TASKS])
    weights = dict(network.state_dict())
    moved = torch.cat([channels[at] for at in order])
    weights["refiner.condition.conv.weight"] = weights["refiner.condition.conv.weight"][:, moved]
    other = make(method, form, tuple(tasks)).eval()
    other.load_state_dict(weights)
    with torch.no_grad():
        ours, theirs = network(images(), noise()).final, other(images(), noise()).final
    assert list(theirs) == [task.name for task in tasks]
    for task in NAMES:
        assert_close(theirs[task], ours[task])


@methods
def test_another_seed_is_another_sample(method):
    network = shared(method, "correction").eval()
    with torch.no_grad():
        one, other = (network(images(), noise(seed=seed)).final for seed in (0, 1))
    assert all((one[task] - other[task]).abs().max() > 1e-6 for task in NAMES)


def reached(network: Network, owed: Tensor) -> set[str]:
    """Names of the parameters that the gradient reaches."""
    return {name for name, gradient in gradients(network, owed).items() if gradient is not None}


def named(network: Network, *starts: str) -> set[str]:
    return {name for name, _ in network.named_parameters() if name.startswith(starts)}


SHARED_PARTS = (
    "initial.backbone.",
    "initial.fusion.",
    "refiner.condition.",
    "refiner.denoiser.time.",
    "refiner.denoiser.blocks.",
)


@methods
@forms
@pytest.mark.parametrize("task", NAMES)
def test_the_refined_prediction_of_one_task_teaches_what_made_it(method, form, task):
    """Never another task's decoder, head or embedding: the condition is made of detached predictions."""
    network = shared(method, form).train()
    output = network(images(), noise(), {task: torch.tensor([1])})
    own = {f"initial.decoders.{task}.", f"refiner.denoiser.embed.{task}.", f"refiner.denoiser.heads.{task}."}
    own |= {f"refiner.denoiser.out.{task}.", f"refiner.signal.heads.{task}."}
    if method == "prediction" or form == "correction":  # the signal starts from, or is read by, the initial head
        own.add(f"initial.heads.{task}.")
    assert reached(network, output.final[task].square().sum()) == named(network, *SHARED_PARTS, *own)


@methods
@forms
def test_an_initial_prediction_teaches_the_initial_network_alone(method, form):
    network = shared(method, form).train()
    output = network(images(), noise(), {"depth": torch.tensor([0, 2])})
    own = ("initial.backbone.", "initial.fusion.", "initial.decoders.depth.", "initial.heads.depth.")
    assert reached(network, output.initial["depth"].square().sum()) == named(network, *own)


@methods
def test_without_condition_there_are_no_weights_for_it_and_all_others_learn(method):
    network = make(method, "published", condition="none").train()
    assert not [name for name, _ in network.named_parameters() if "condition" in name]
    output = network(images(), noise())
    assert reached(network, score(output.final) + score(output.initial)) == {n for n, _ in network.named_parameters()}


def test_the_baseline_answers_with_its_initial_predictions():
    sizes = replace(NetworkSettings(), method="multitask", width=8, decoder_blocks=1)
    network = build_network(TASKS, sizes, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1))).double().eval()
    rows = rows_of([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    output = network(images(), noise(), rows)
    assert output.initial == {}
    everything = network.initial(images()).predictions
    for task, at in rows.items():
        assert_close(output.final[task], everything[task][at])
