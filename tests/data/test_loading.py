"""From a partition to batches: each image once, the same bits however it is read, a place for every task."""

import itertools
import signal
from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusionmtl.data.base import read_sample
from diffusionmtl.data.collate import collate
from diffusionmtl.data.evaluation import HELD_BATCHES, evaluation_batches, evaluation_labels
from diffusionmtl.data.loading import BatchLoader, VisibleDataset, loader
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.data.sampling import EpochSampler
from diffusionmtl.data.transforms import Augmentation, fit
from diffusionmtl.errors import UserError
from diffusionmtl.seeds import derive_seed
from diffusionmtl.types import Batch
from tests.toy import TASK_NAMES, TASKS, ToyDataset

SMALL = Augmentation((16, 20), crop_by="semseg")


def visible(toy: ToyDataset, mode: str = "one", augmentation: Augmentation | None = SMALL, seed: int = 0):
    return VisibleDataset(toy, make_partition(mode, toy, seed=0), augmentation, seed)


def bits(batch: Batch) -> list:
    """Everything in a batch, comparable."""
    tensors = [batch.image, batch.pairs_per_image]
    for labels in batch.labels.values():
        tensors += [labels.value, labels.valid, labels.rows]
    return [batch.names, batch.indices, list(batch.labels), *[(x.dtype, x.shape, x.tolist()) for x in tensors]]


def all_bits(batches: Iterable[Batch]) -> list:
    return [bits(batch) for batch in batches]


class TestVisibleDataset:
    def test_images_without_a_visible_label_are_left_out_and_named(self):
        toy = ToyDataset(4, annotated={1: [], 2: ["depth"]})
        view = visible(toy)
        assert view.indices == (0, 2, 3)
        assert view.unlabelled == ("image 1",)
        assert len(view) == 3

    def test_only_some_names(self):
        toy = ToyDataset(4, annotated={1: []})
        view = VisibleDataset(toy, make_partition("full", toy, 0), None, 0, names=["image 3", "image 1"])
        assert view.indices == (3,)
        assert view.unlabelled == ("image 1",)

    def test_nothing_to_train_on(self):
        with pytest.raises(UserError, match="none of 2 images has a visible label"):
            visible(ToyDataset(2, annotated={0: [], 1: []}))

    def test_a_sample_depends_on_seed_epoch_and_index_alone(self):
        toy = ToyDataset(6)
        view, again = visible(toy), visible(toy)
        expected = {key: view[key].image for key in itertools.product(range(2), range(6))}
        for key in reversed(list(expected)):
            assert torch.equal(again[key].image, expected[key])
        assert not torch.equal(expected[0, 3], expected[1, 3])
        assert not torch.equal(visible(toy, seed=1)[0, 3].image, expected[0, 3])

    def test_without_augmentation_a_sample_is_as_it_is(self):
        toy = ToyDataset(2)
        assert torch.equal(visible(toy, augmentation=None)[5, 1].image, toy.image(1))


class TestCollate:
    def test_every_task_has_its_place(self):
        toy = ToyDataset(3)
        seen = [{"depth"}, {"depth", "normals"}, set()]
        batch = collate([read_sample(toy, i, seen[i]) for i in range(3)], TASKS)
        assert tuple(batch.labels) == TASK_NAMES
        assert batch.pairs_per_image.tolist() == [1, 2, 0]
        assert batch.names == toy.names
        assert batch.indices == (0, 1, 2)
        assert {task: labels.rows.tolist() for task, labels in batch.labels.items()} == {
            "semseg": [],
            "depth": [0, 1],
            "normals": [1],
            "saliency": [],
            "edge": [],
        }
        assert torch.equal(batch.labels["depth"].value[1], toy.label(1, "depth")[0].as_subclass(Tensor))
        assert batch.labels["depth"].valid.shape == (2, 24, 32)

    @pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
    def test_no_label_has_the_shape_and_type_of_a_label(self, task):
        toy = ToyDataset(2)
        some = collate([read_sample(toy, 0, {task.name})], TASKS).labels[task.name]
        none = collate([read_sample(toy, 0, set())], TASKS).labels[task.name]
        assert none.value.shape == (0, *some.value.shape[1:])
        assert none.value.dtype == some.value.dtype == toy.label(0, task.name)[0].dtype
        assert none.valid.shape == (0, *some.valid.shape[1:])
        assert none.valid.dtype == some.valid.dtype == torch.bool
        assert none.rows.dtype == some.rows.dtype == torch.int64
        # What an objective does first must work on nothing at all.
        logits = torch.zeros(0, task.channels, *none.value.shape[-2:])
        assert task.loss(logits, none.value, none.valid).shape == (0,)

    def test_labels_are_plain_tensors(self):
        toy = ToyDataset(1)
        batch = collate([read_sample(toy, 0, set(TASK_NAMES))], TASKS)
        assert all(type(x) is Tensor for labels in batch.labels.values() for x in (labels.value, labels.valid))

    def test_different_sizes_are_named(self):
        toy = ToyDataset(2, sizes=((8, 8), (8, 9)))
        with pytest.raises(UserError, match=r"'image 0' \(8x8\) and 'image 1' \(8x9\) differ in size.*--size"):
            collate([read_sample(toy, i, set()) for i in range(2)], TASKS)

    def test_a_kind_that_miscounts_its_channels_is_told(self):
        sample = read_sample(ToyDataset(1), 0, {"depth"})
        sample.labels["depth"] = sample.labels["depth"].expand(3, -1, -1)
        with pytest.raises(ValueError, match="does kind 'depth' set label_channels"):
            collate([sample], TASKS)


class TestEpochSampler:
    @given(
        n=st.integers(1, 40),
        batch=st.integers(1, 5),
        world=st.integers(1, 4),
        drop=st.booleans(),
        shuffle=st.booleans(),
        epoch=st.integers(0, 3),
    )
    def test_each_image_once_and_as_many_batches_on_every_process(
        self, n: int, batch: int, world: int, drop: bool, shuffle: bool, epoch: int
    ):
        if drop and n < batch * world:
            return
        indices = [7 * i for i in range(n)]
        ranks = []
        for rank in range(world):
            sampler = EpochSampler(indices, batch, 3, shuffle=shuffle, drop_last=drop, rank=rank, world=world)
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
            assert len(ranks[-1]) == len(sampler) == sampler.batches_per_epoch
        keys = Counter(key for batches in ranks for batch_of_keys in batches for key in batch_of_keys)
        assert all(e == epoch for e, _ in keys)
        assert {i for _, i in keys} <= set(indices)
        for together in zip(*ranks, strict=True):
            assert len({len(b) for b in together}) == 1
        if drop:
            assert set(keys.values()) == {1}
            assert sum(keys.values()) == n // (batch * world) * batch * world
        else:
            assert len(keys) == n
            assert n <= sum(keys.values()) < n + world

    @given(n=st.integers(8, 40), half=st.integers(1, 4), drop=st.booleans())
    def test_two_processes_share_the_batches_of_one(self, n: int, half: int, drop: bool):
        indices = range(n)
        one = list(EpochSampler(indices, 2 * half, 5, drop_last=drop))
        left, right = (list(EpochSampler(indices, half, 5, drop_last=drop, rank=r, world=2)) for r in (0, 1))
        for whole, a, b in zip(one, left, right, strict=True):
            assert (a + b)[: len(whole)] == whole

    def test_without_dropping_one_process_repeats_nothing(self):
        batches = list(EpochSampler(range(7), 3, 0, drop_last=False))
        assert [len(b) for b in batches] == [3, 3, 1]
        assert sorted(i for b in batches for _, i in b) == list(range(7))

    def test_orders_differ_by_epoch_and_seed_only(self):
        def order(seed: int, epoch: int) -> list[int]:
            sampler = EpochSampler(range(30), 5, seed)
            sampler.go_to(epoch)
            return [i for b in sampler for _, i in b]

        assert order(0, 0) == order(0, 0)
        assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9

    def test_every_image_comes_everywhere(self):
        first = Counter()
        for epoch in range(200):
            sampler = EpochSampler(range(5), 1, 0)
            sampler.go_to(epoch)
            first[next(iter(sampler))[0][1]] += 1
        assert set(first) == set(range(5))
        assert min(first.values()) > 20

    @pytest.mark.parametrize("start", [0, 1, 4, 5])
    def test_going_on_in_the_middle(self, start: int):
        whole, resumed = (EpochSampler(range(11), 2, 0) for _ in range(2))
        whole.set_epoch(3)
        resumed.go_to(3, start)
        resumed.set_epoch(3)
        assert list(resumed) == list(whole)[start:]
        assert len(resumed) == 5 - start
        resumed.set_epoch(4)
        assert len(list(resumed)) == 5

    def test_there_is_no_such_batch(self):
        with pytest.raises(ValueError, match="batch 6 of an epoch of 5"):
            EpochSampler(range(11), 2, 0).go_to(0, 6)

    def test_too_few_images_for_a_batch(self):
        with pytest.raises(UserError, match="8 images at once, but only 7 have a label"):
            EpochSampler(range(7), 4, 0, world=2)
        with pytest.raises(ValueError, match="not possible"):
            EpochSampler(range(7), 0, 0)

    def test_seeds_for_different_purposes_differ(self):
        seeds = {derive_seed(*parts) for parts in itertools.product(("order", "augment"), range(20), range(20))}
        assert len(seeds) == 800
        assert all(0 <= seed < 2**63 for seed in seeds)
        assert derive_seed("a", 1, 11) != derive_seed("a", 11, 1)


class Interrupted(ToyDataset):
    """Answers with the pid's reaction to Ctrl-C in blue."""

    def image(self, index: int) -> Tensor:
        image = super().image(index)
        image[2] = int(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
        return image


class TestLoader:
    def make(self, workers: int = 0, toy: ToyDataset | None = None, **kwargs) -> BatchLoader:
        view = visible(toy or ToyDataset(10), "random", **kwargs)
        return loader(view, EpochSampler(view.indices, 3, seed=0), workers)

    def test_the_same_bits_for_any_number_of_workers_and_epochs_apart(self):
        alone, helped = self.make(0), self.make(2)
        epochs = []
        for epoch in range(2):
            alone.sampler.set_epoch(epoch)
            helped.sampler.set_epoch(epoch)
            epochs.append(all_bits(alone))
            assert all_bits(helped) == epochs[-1]
            assert len(epochs[-1]) == len(alone) == 3
        assert epochs[0] != epochs[1]

    def test_going_on_elsewhere_gives_the_rest(self):
        whole = self.make(0)
        whole.sampler.set_epoch(4)
        expected = all_bits(whole)
        resumed = self.make(2)
        resumed.sampler.go_to(4, 2)
        assert all_bits(resumed) == expected[2:]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_its_state_is_what_it_gave_not_what_was_read_ahead(self, workers: int):
        first = self.make(workers)
        first.sampler.set_epoch(1)
        batches = iter(first)
        expected = [bits(next(batches)), bits(next(batches))]
        state = first.state_dict()
        expected += all_bits(batches)
        assert state == {"epoch": 1, "batch": 2}
        second = self.make(0)
        second.load_state_dict(state)
        second.sampler.set_epoch(1)
        assert all_bits(second) == expected[2:]
        # At the end of an epoch the next one is due.
        second.load_state_dict(first.state_dict())
        assert second.state_dict()["epoch"] == 2

    def test_the_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        list(self.make(0))
        list(self.make(2))
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_mistake_in_a_file_is_one_line(self, workers: int):
        toy = ToyDataset(10)
        view = visible(toy, "full")
        toy.broken = frozenset({(4, "depth")})
        with pytest.raises(UserError) as caught:
            list(loader(view, EpochSampler(view.indices, 5, seed=0), workers))
        assert str(caught.value) == "toy/depth/image 4.png: truncated; save it again"

    def test_workers_leave_interrupts_to_the_main_process(self):
        handler = signal.getsignal(signal.SIGINT)
        view = visible(Interrupted(4), "full", augmentation=None)
        batch = next(iter(loader(view, EpochSampler(view.indices, 4, seed=0), 1)))
        assert (batch.image[:, 2] == 1).all()
        assert signal.getsignal(signal.SIGINT) is handler


class TestEvaluation:
    SIZES = ((24, 32), (40, 30), (12, 16))

    def test_every_image_once_unpadded_among_its_like(self):
        toy = ToyDataset(11, sizes=self.SIZES)
        batches = list(evaluation_batches(toy, range(11), None, 2))
        assert sorted(i for b in batches for i in b.indices) == list(range(11))
        for batch in batches:
            assert len(batch.indices) <= 2
            for name, index, image, size in zip(batch.names, batch.indices, batch.image, batch.sizes, strict=True):
                assert name == toy.names[index]
                assert torch.equal(image, toy.image(index))
                assert size == toy.sizes[index % 3] == tuple(image.shape[1:])

    def test_fitted_images_of_one_shape_share_a_batch(self):
        toy = ToyDataset(6, sizes=self.SIZES)
        batches = list(evaluation_batches(toy, [5, 0, 1, 3], (18, 24), 4))
        assert [b.indices for b in batches] == [(5, 0, 3), (1,)]
        assert batches[0].image.shape == (3, 3, 18, 24)
        assert batches[0].sizes == ((12, 16), (24, 32), (24, 32))
        assert torch.equal(batches[0].image[1], fit(toy.image(0), (18, 24)))

    def test_no_more_than_so_many_wait(self):
        toy = ToyDataset(200, sizes=[(4, 4 + i) for i in range(100)])
        reads, waiting, most = iter(range(200)), 0, 0

        def counted() -> Iterable[int]:
            nonlocal waiting, most
            for index in reads:
                waiting += 1
                most = max(most, waiting)
                yield index

        for batch in evaluation_batches(toy, counted(), None, 2):
            waiting -= len(batch.indices)
        assert waiting == 0
        assert most == 2 * HELD_BATCHES

    def test_labels_come_at_their_own_resolution_and_only_where_annotated(self):
        toy = ToyDataset(2, sizes=((24, 32),), annotated={1: ["normals", "depth"]})
        labels = evaluation_labels(toy, 1)
        assert list(labels) == ["depth", "normals"]
        assert labels["normals"].value.shape == (1, 3, 24, 32)
        assert labels["normals"].valid.shape == (1, 24, 32)
        assert labels["normals"].rows.tolist() == [0]
        assert toy.opened == [(1, "depth"), (1, "normals")]


def test_a_partition_for_other_images_shows_nothing():
    with pytest.raises(UserError, match="no visible label|none of 2 images"):
        VisibleDataset(ToyDataset(2), Partition({"other": frozenset({"depth"})}, ""), None, 0)
