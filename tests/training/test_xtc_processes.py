"""Cross-task consistency over several processes: views, drawn classes and statistics are those of one process."""

import pytest

from tests.training.test_processes import test_two_processes_train_as_one as train_as_one


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(tmp_path, strategy):
    """In the first step the second process has no pair of tasks at all, in the second each has others."""
    train_as_one(tmp_path, ("xtc", "alone", strategy))
