"""Self-training: what the teacher sees, what it asks, what it follows, and what it may not depend on."""

from dataclasses import replace

import pytest
import torch

from diffusionmtl.build import build_dataset, build_network, build_training_data
from diffusionmtl.config import Settings
from diffusionmtl.data.partition import make_partition
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.seeds import derive_seed
from diffusionmtl.training.disturb import disturbed
from diffusionmtl.training.extra import Seen, forward
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.teacher import DECAY, SelfTraining, self_training
from tests.runs import tiny


def parts(**words):
    settings = tiny(**{"method": "feature", "labels": "one", **words})
    dataset = build_dataset(settings.data, "train")
    partition = make_partition(settings.data.labels, dataset, settings.data.label_seed)
    data = build_training_data(settings, dataset, partition)
    network = build_network(data.tasks, settings.network)
    return settings, network, data, next(iter(data.train))


def seen_of(network, batch, step=50):
    judged = forward(network, batch, None, 1)[1]
    return Seen(batch, batch, judged, 7, step)


def labelled_alone(seen, tasks):
    """The same, with other outputs wherever there is a label."""
    final = {task: raw.clone() for task, raw in seen.output.final.items()}
    for task, labels in seen.batch.labels.items():
        final[task][labels.rows] += 1
    return replace(seen, output=replace(seen.output, final=final))


class TestTerms:
    def test_are_what_the_formula_says(self):
        _, network, data, batch = parts()
        extra = SelfTraining(network, data.tasks, weight=2.0, initial_weight=0.5, total_steps=100)
        seen = seen_of(network, batch)
        found = extra.terms(network, seen)
        with torch.no_grad():
            taught = extra.teacher(batch.image, SeededNoise(derive_seed(7, "teacher"), batch.indices)).final
        have = {task: set(labels.rows.tolist()) for task, labels in batch.labels.items()}
        count = len(batch.image)
        for task in data.tasks:
            expected = torch.zeros(())
            for row in range(count):
                if row in have[task.name]:
                    continue
                missing = sum(row not in rows for rows in have.values())
                mine = task.activate(taught[task.name][row : row + 1])
                apart = task.agreement(seen.output.final[task.name][row : row + 1], mine)
                apart = apart + 0.5 * task.agreement(seen.output.initial[task.name][row : row + 1], mine)
                expected = expected + 2.0 * len(data.tasks) / missing / count * task.weight * apart[0]
            torch.testing.assert_close(found[task.name], expected, rtol=1e-4, atol=1e-5)

    def test_ask_nothing_where_there_is_a_label(self):
        _, network, data, batch = parts()
        extra = SelfTraining(network, data.tasks, 1.0, 0.5, 100)
        seen = seen_of(network, batch)
        one, other = (extra.terms(network, s) for s in (seen, labelled_alone(seen, data.tasks)))
        assert all(torch.equal(one[task], other[task]) for task in one)

    def test_send_no_gradient_to_the_teacher(self):
        _, network, data, batch = parts()
        extra = SelfTraining(network, data.tasks, 1.0, 0.5, 100)
        sum(extra.terms(network, seen_of(network, batch)).values()).backward()
        assert all(p.grad is None and not p.requires_grad for p in extra.parameters())
        assert any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
        assert not [p for group in extra.parameter_groups() for p in group.parameters]

    def test_come_in_slowly(self):
        _, network, data, _ = parts()
        extra = SelfTraining(network, data.tasks, 1.0, 0.5, 100)
        assert [extra.judges(step) for step in (0, 10, 11, 99)] == [False, False, True, True]
        assert [round(extra._ramp(step), 3) for step in (0, 10, 25, 40, 99)] == [0, 0, 0.5, 1, 1]


class TestTeacher:
    def test_follows_the_network(self):
        _, network, data, _ = parts()
        extra = SelfTraining(network, data.tasks, 1.0, 0.5, 100)
        before = [p.clone() for p in extra.teacher.parameters()]
        with torch.no_grad():
            for p in network.parameters():
                p += 1
        extra.after_step(network)
        for mine, theirs, old in zip(extra.teacher.parameters(), network.parameters(), before, strict=True):
            torch.testing.assert_close(mine, old + (theirs - old) * (1 - 2 / 11))
        for _ in range(3000):
            extra.moves += 1
        old = next(extra.teacher.parameters()).clone()
        extra.after_step(network)
        expected = old + (next(network.parameters()) - old) * (1 - DECAY)
        torch.testing.assert_close(next(extra.teacher.parameters()), expected)

    def test_sees_what_was_loaded_and_the_network_sees_it_disturbed(self, monkeypatch):
        settings, network, data, batch = parts()
        extra = SelfTraining(network, data.tasks, 1.0, 0.5, 1)
        shown = []
        network.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
        teacher = []
        extra.teacher.register_forward_pre_hook(lambda _, given: teacher.append(given[0]))
        module = TrainingModule(network, data.tasks, settings.train, 1, extra)
        monkeypatch.setattr(TrainingModule, "global_step", 1)  # as far along as it gets
        owed = module._owed_with_extra(batch, extra)
        assert torch.equal(teacher[0], batch.image)
        assert not torch.equal(shown[0], batch.image)
        assert set(owed.extra) == {task.name for task in data.tasks}

    def test_is_not_needed_where_every_label_is_there(self):
        _, network, data, _ = parts(labels="full")
        words = dict(weight=1.0, initial_weight=0.5, total_steps=10)
        assert self_training(network, data.tasks, data.partition, **words) is None


class TestDisturbed:
    def test_the_same_draw_gives_the_same_picture(self):
        image = torch.randint(0, 256, (3, 3, 24, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        one, other, third = (disturbed(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, other) and not torch.equal(one, third)
        assert one.dtype == torch.uint8 and one.shape == image.shape

    def test_mean_brightness_stays_about_the_same(self):
        image = torch.full((200, 3, 8, 8), 128, dtype=torch.uint8)
        found = disturbed(image, torch.Generator().manual_seed(0)).float()
        assert abs(found.mean() - 128) < 6
        assert found.mean(dim=(1, 2, 3)).std() > 10

    def test_patches_lie_inside(self):
        image = torch.randint(0, 256, (64, 3, 9, 13), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        assert disturbed(image, torch.Generator().manual_seed(5)).shape == image.shape


def test_a_teacher_has_to_be_asked_for():
    assert Settings().train.self_training == "never"


def test_xtc_and_a_teacher_exclude_each_other():
    with pytest.raises(UserError, match="--self-training always: not together with --method xtc"):
        tiny(method="xtc", self_training="always")
