"""What else several processes have in common with one: cross-task consistency, and the scores of held-out images."""

import pytest

from tests.training.test_processes import steps
from tests.training.test_processes import test_two_processes_train_as_one as train_as_one


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_with_cross_task_consistency_two_train_as_one(tmp_path, strategy):
    """In the first step the second process has no pair of tasks at all, in the second each has others."""
    train_as_one(tmp_path, ("xtc", "alone", strategy))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_scores_of_held_out_images_count_each_of_them_once(tmp_path, strategy):
    one, two = (steps(world, tmp_path / f"{world}.pt", "multitask", "alone", strategy)["dev"] for world in (1, 2))
    assert len(one) == 6 and one == pytest.approx(two, rel=1e-9)
