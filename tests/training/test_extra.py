"""The hook for extra terms of the objective: what it sees, what it adds, what is trained and what is kept."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from diffusionmtl.build import build_dataset, build_network, build_training_data
from diffusionmtl.config import changed
from diffusionmtl.data.partition import make_partition
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.inference.load import load
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT
from diffusionmtl.training import run
from diffusionmtl.training.extra import Extra, ParameterGroup, forward
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.run import Stopped
from diffusionmtl.training.xtc import cross_task_consistency
from tests.runs import STEPS_PER_EPOCH, VARIANTS, Interrupt, assert_same_run, tiny, trained, with_callback

XTC = VARIANTS["xtc"]


def parts(**words):
    """Network, data and one batch of a tiny run."""
    settings = tiny(**words)
    data = build_training_data(
        settings, dataset := build_dataset(settings.data, "train"), _partition(settings, dataset)
    )
    return settings, build_network(data.tasks, settings.network), data, next(iter(data.train))


def _partition(settings, dataset):
    return make_partition(settings.data.labels, dataset, settings.data.label_seed)


class Probe(Extra):
    """A term of its own weight, and a note of everything it is shown."""

    def __init__(self, view: bool = True):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("moved", torch.zeros(()))
        self.view, self.seen = view, []

    def images(self, batch, seed):
        return replace(batch, image=batch.image.flip(-1)) if self.view else None

    def terms(self, network, seen):
        self.seen.append(seen)
        return {"probe": self.scale * sum(raw.square().mean() for raw in seen.output.final.values())}

    def parameter_groups(self):
        return [ParameterGroup([self.scale], lr=3.0, decay=False)]

    def after_step(self, network):
        self.moved = network.initial.fusion.conv.bias.detach().sum() + self.moved


@pytest.mark.parametrize("method", ["multitask", "feature"])
class TestForward:
    def test_without_a_view_the_batch_is_predicted_for_every_task(self, method):
        _, network, _, batch = parts(method=method, labels="random")
        labelled, everything = forward(network.eval(), batch, None, seed=3)
        rows = {task: labels.rows for task, labels in batch.labels.items()}
        alone = network(batch.image, SeededNoise(3, batch.indices), rows)
        for task, at in rows.items():
            assert torch.equal(labelled.rows[task], at)
            torch.testing.assert_close(labelled.final[task], alone.final[task], atol=1e-4, rtol=1e-4)
            assert everything.rows[task].tolist() == list(range(len(batch.image)))
            assert len(everything.final[task]) == len(batch.image)
        assert labelled.initial.keys() == alone.initial.keys()
        assert everything.shared.shape[0] == len(batch.image)

    def test_appended_images_are_predicted_for_every_task_and_the_batch_for_its_labels(self, method):
        _, network, _, batch = parts(method=method, labels="one")
        view = replace(batch, image=batch.image.flip(-1))
        labelled, judged = forward(network.eval(), batch, view, seed=3)
        rows = {task: labels.rows for task, labels in batch.labels.items()}
        alone = network(batch.image, SeededNoise(3, batch.indices), rows)
        keys = tuple(-1 - index for index in batch.indices)
        mirrored = network(view.image, SeededNoise(3, keys))
        for task in rows:
            torch.testing.assert_close(labelled.final[task], alone.final[task], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(judged.final[task], mirrored.final[task], atol=1e-4, rtol=1e-4)
            assert judged.rows[task].tolist() == list(range(len(batch.image)))
        torch.testing.assert_close(labelled.shared, alone.shared, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(judged.shared, mirrored.shared, atol=1e-4, rtol=1e-4)


class TestModule:
    def test_its_terms_join_the_total_and_the_log(self):
        settings, network, data, batch = parts(method="multitask")
        probe = Probe(view=False)
        plain = TrainingModule(network, data.tasks, settings.train, 2)._owed(batch, "train", 0)
        owed = TrainingModule(network, data.tasks, settings.train, 2, probe)._owed_with_extra(batch, probe)
        term = owed.extra["probe"]
        torch.testing.assert_close(owed.total, plain.total + term)
        assert owed.means().keys() == plain.means().keys() | {"extra/probe"}
        assert float(owed.means()["extra/probe"]) == pytest.approx(float(term.detach()))
        (seen,) = probe.seen
        assert seen.batch is seen.view is batch and seen.step == 0

    def test_what_it_owns_is_trained_at_its_own_rate(self):
        settings, network, data, _ = parts(method="multitask")
        probe = Probe()
        module = TrainingModule(network, data.tasks, settings.train, 2, probe)
        (group,) = [g for g in module._parameter_groups() if any(p is probe.scale for p in g["params"])]
        assert group["lr"] == pytest.approx(3 * settings.train.lr) and group["weight_decay"] == 0
        everything = {id(p) for g in module._parameter_groups() for p in g["params"]}
        assert everything == {id(p) for p in network.parameters()} | {id(probe.scale)}

    def test_by_default_everything_that_wants_a_gradient_is_trained(self):
        class Plain(Extra):
            def __init__(self):
                super().__init__()
                self.one, self.still = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)

            def terms(self, network, seen):
                return {}

        extra = Plain()
        (group,) = extra.parameter_groups()
        assert {id(p) for p in group.parameters} == {id(p) for p in extra.one.parameters()}
        assert (group.lr, group.decay) == (1.0, True)


def test_a_run_with_an_extra_of_ones_own_resumes_bit_for_bit(tmp_path, monkeypatch):
    """What it has learnt and what followed the weights is in the checkpoint, also one written within an epoch."""
    monkeypatch.setattr(run, "_extra", lambda *_: Probe())
    settings = tiny(method="multitask")
    whole = trained(settings, tmp_path / "whole")
    state = torch.load(whole.checkpoints / LAST_CHECKPOINT, weights_only=True)["state_dict"]
    assert float(state["extra.scale"]) != 2.0 and float(state["extra.moved"]) != 0.0
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(STEPS_PER_EPOCH))
        with pytest.raises(Stopped):
            trained(settings, tmp_path / "run")
    assert_same_run(trained(settings, tmp_path / "run", resume=True), whole)


class TestCrossTaskConsistency:
    def test_costs_nothing_at_test_time(self, whole):
        weights = read_network(whole("xtc").checkpoints / "last.safetensors")[0]
        settings = tiny(**XTC)
        tasks = build_dataset(settings.data, "train").tasks
        multitask = build_network(tasks, changed(settings, method="multitask").network)
        assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in multitask.state_dict().items()}
        state = torch.load(whole("xtc").checkpoints / LAST_CHECKPOINT, weights_only=True)["state_dict"]
        assert any(key.startswith("extra.space.fine") for key in state)
        assert type(load(whole("xtc").root).network).__name__ == "Network"

    def test_its_mapping_network_learns_tables_included(self, whole):
        state = torch.load(whole("xtc").checkpoints / LAST_CHECKPOINT, weights_only=True)["state_dict"]
        settings = tiny(**XTC)
        tasks = build_dataset(settings.data, "train").tasks
        fresh = cross_task_consistency(tasks, settings.network.width, settings.train.xtc_width, 1.0, 1.0, True, 0)
        still = [k for k, v in fresh.named_parameters() if torch.equal(v, state[f"extra.{k}"])]
        assert still == []
        assert bool((state["extra.space.fine.0.gamma"] != 1).any())

    def test_its_terms_are_logged(self, whole):
        log = read_log(whole("xtc")).values
        for name in ("agreement", "feature"):
            steps, values = log[f"train/extra/{name}"]
            assert steps == tuple(range(2 * STEPS_PER_EPOCH)) and min(values) > 0

    def test_weight_and_batch_scale_it(self):
        settings, network, data, batch = parts(method="xtc", labels="one")
        terms = []
        for weight in (1.0, 3.0):
            extra = cross_task_consistency(data.tasks, settings.network.width, 8, weight, 1.0, False, 0)
            module = TrainingModule(network.eval(), data.tasks, settings.train, 2, extra)
            terms.append(module._owed_with_extra(batch, extra).extra)
        for name in terms[0]:
            torch.testing.assert_close(terms[1][name], 3 * terms[0][name])
        # K - 1 pairs an image, each at a distance of at most 2; twice half of that to the feature.
        assert 0 < float(terms[0]["agreement"].detach()) < 2 * (len(data.tasks) - 1)

    @pytest.mark.parametrize("second_view", [True, False])
    @pytest.mark.parametrize("labels", ["one", "full"])
    def test_unlabelled_tasks_learn(self, second_view, labels):
        settings, network, data, batch = parts(method="xtc", labels=labels)
        extra = cross_task_consistency(data.tasks, settings.network.width, 8, 1.0, 1.0, second_view, 0)
        module = TrainingModule(network, data.tasks, settings.train, 2, extra)
        terms = module._owed_with_extra(batch, extra).extra
        torch.stack(list(terms.values())).sum().backward()
        heads = network.initial.heads
        learnt = [task.name for task in data.tasks if bool(heads[task.name].weight.grad.any())]
        assert learnt == [task.name for task in data.tasks]
        assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)

    def test_the_same_seed_draws_the_same_and_the_global_state_stays(self):
        settings, network, data, batch = parts(method="xtc")
        state = torch.get_rng_state()
        totals = []
        for seed in (0, 0, 1):
            extra = cross_task_consistency(data.tasks, settings.network.width, 8, 1.0, 1.0, True, 0)
            train = changed(settings, seed=seed).train
            owed = TrainingModule(network, data.tasks, train, 2, extra)._owed_with_extra(batch, extra)
            totals.append(float(owed.extra["agreement"].detach()))
        assert totals[0] == totals[1] != totals[2]
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("second_view", [True, False])
    def test_what_lies_under_invalid_pixels_changes_no_bit(self, second_view):
        totals = []
        for spoil in (False, True):
            settings, network, data, batch = parts(method="xtc", labels="full")
            for labels in batch.labels.values():
                labels.valid[:, :, :12] = False
                if spoil:
                    labels.value[:, :, :, :12] = torch.inf if labels.value.is_floating_point() else 1
            extra = cross_task_consistency(data.tasks, settings.network.width, 8, 1.0, 1.0, second_view, 0)
            module = TrainingModule(network, data.tasks, settings.train, 2, extra)
            total = module._owed_with_extra(batch, extra).total
            total.backward()
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            totals.append((total, gradients))
        (one, mine), (other, theirs) = totals
        assert torch.equal(one, other) and bool(torch.isfinite(one))
        assert all(torch.equal(p, q) for p, q in zip(mine, theirs, strict=True))

    def test_one_task_has_nothing_to_be_compared_with(self, tmp_path):
        with pytest.raises(UserError, match="--method xtc compares tasks with each other, here is one"):
            trained(tiny(method="xtc", tasks=("depth",)), tmp_path / "run")
        assert not (tmp_path / "run").exists()
