"""One cluster of two workers for all tests, without the network's outside."""

import os

import pytest


class Interrupted(list[int]):
    """A progress bar that keeps what it was shown, and presses Ctrl-C when two inputs are done."""

    def __call__(self, done: int, total: int) -> None:
        self.append(done)
        if done == 2:
            raise KeyboardInterrupt


@pytest.fixture
def interrupted() -> Interrupted:
    return Interrupted()


@pytest.fixture(scope="session")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    _start(ray)
    yield ray
    ray.shutdown()


def _start(ray, tries: int = 3) -> None:
    """Ray gives itself 30 seconds to come up, which a machine that runs other tests may not keep."""
    for left in reversed(range(tries)):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                object_store_memory=80_000_000,
                include_dashboard=False,
                log_to_driver=False,
            )
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise
