"""A network for one task is trained on what a network for all tasks would see of it, and on no more."""

from diffusionmtl.build import build_dataset
from diffusionmtl.config import changed
from diffusionmtl.data.partition import Partition, make_partition
from tests.runs import tiny, trained


def test_its_labels_are_drawn_among_all_tasks(tmp_path):
    settings = tiny(method="singletask", tasks=("depth",), rooms=30, holdout=0.0, batch=2, epochs=1)
    run = trained(settings, tmp_path / "run")
    every = build_dataset(changed(settings, tasks=()).data, "train")
    expected = make_partition("one", every, settings.data.label_seed).of_tasks(["depth"])
    assert 0 < expected.counts(["depth"])["depth"] < 30 / 2
    assert Partition.load(run.partition, build_dataset(settings.data, "train")).visible == expected.visible


def test_several_tasks_are_drawn_among_themselves(tmp_path):
    settings = tiny(method="multitask", tasks=("depth", "normals"), holdout=0.0, batch=2, epochs=1)
    run = trained(settings, tmp_path / "run")
    partition = Partition.load(run.partition, build_dataset(settings.data, "train"))
    assert all(len(seen) == 1 for seen in partition.visible.values())
