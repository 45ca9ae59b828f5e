"""Training from shards, read by several processes with workers of their own: every sample once an epoch."""

import pytest

from diffusionmtl.build import build_dataset, build_training_data
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.pack import Split, pack
from diffusionmtl.data.partition import make_partition
from tests.toy import TASK_NAMES, ToyDataset

LABELS = {n: [task for at, task in enumerate(TASK_NAMES) if at == n % 6 or n == 7] for n in range(24)}
IMAGES = [f"image {n}" for n in range(24) if LABELS[n]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """24 images in shards of 5, of which four have no label at all."""
    root = tmp_path_factory.mktemp("packed") / "out"
    pack(root, {"train": Split(ToyDataset(24, sizes=((16, 24),), annotated=LABELS))}, "shards", shard_size=5)
    assert len(list((root / "train").glob("*.tar"))) == 5
    return root


def loader(root, rank: int, world: int, workers: int):
    settings = changed(
        Settings(), data=(str(root),), size=(16, 24), batch=4 // world, workers=workers, labels="as-found", holdout=0.0
    )
    dataset = build_dataset(settings.data, "train")
    found = build_training_data(settings, dataset, make_partition("as-found", dataset, 0)).train
    found.sampler.divide(rank, world)
    return found


def epoch(found, number: int) -> list[list[str]]:
    found.sampler.set_epoch(number)
    return [list(batch.names) for batch in found]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_once_an_epoch_whoever_reads_it(shards, workers):
    ranks = [loader(shards, rank, 2, workers) for rank in range(2)]
    orders = []
    for number in range(2):
        mine, theirs = (epoch(found, number) for found in ranks)
        assert len(mine) == len(theirs) == 5 and {len(batch) for batch in (*mine, *theirs)} == {2}
        orders.append([name for pair in zip(mine, theirs, strict=True) for batch in pair for name in batch])
        assert sorted(orders[-1]) == sorted(IMAGES)
    assert orders[0] != orders[1]
    alone = loader(shards, 0, 1, 0)
    assert orders == [[name for batch in epoch(alone, number) for name in batch] for number in range(2)]


def test_gone_on_with_in_the_middle_by_another_number_of_processes(shards):
    ranks = [loader(shards, rank, 2, 2) for rank in range(2)]
    for found in ranks:
        found.sampler.set_epoch(3)
    readers = [iter(found) for found in ranks]
    seen = [name for _ in range(2) for reader in readers for name in next(reader).names]
    states = [found.state_dict() for found in ranks]
    assert states[0] == states[1] == {"epoch": 3, "batch": 2}
    alone = loader(shards, 0, 1, 2)
    alone.load_state_dict(states[0])
    rest = epoch(alone, 3)
    assert len(rest) == 3 and sorted([*seen, *(name for batch in rest for name in batch)]) == sorted(IMAGES)


def test_an_absent_key_is_a_missing_label(shards):
    seen = {}
    for batch in loader(shards, 0, 1, 0):
        for task, labels in batch.labels.items():
            for row in labels.rows.tolist():
                seen.setdefault(batch.names[row], set()).add(task)
    assert seen == {f"image {n}": set(LABELS[n]) for n in range(24) if LABELS[n]}
