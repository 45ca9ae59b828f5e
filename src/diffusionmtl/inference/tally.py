"""One task's meter over the images of an evaluation, shared out to other processes where an image takes long."""

import pickle
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import torch
from torch import Tensor

from diffusionmtl.inference.per_image import PerImage
from diffusionmtl.tasks import Meter, Task
from diffusionmtl.types import TaskLabels

# Images that wait for another process; each holds an estimate and a label in memory.
_WAITING = 64


class Tally:
    """The meter of one task, and what each image added to it.

    Args:
        task: whose meter.
        pool: processes that score images of a slow meter; the figures have the same bits without.
    """

    def __init__(self, task: Task, pool: Executor | None = None) -> None:
        self.images: list[int] = []
        self._task = task
        self._meter = task.meter()
        self._statistics: list[Tensor] = []
        self._pool = pool if self._meter.slow else None
        self._waiting: deque[Future[bytes]] = deque()

    def add(self, index: int, estimate: Tensor, labels: TaskLabels) -> None:
        """Score one image, n = 1."""
        self.images.append(index)
        estimate = estimate.cpu().float()
        if self._pool is None:
            self._take(_scored(self._task, estimate, labels))
            return
        # A pickled view would bring the whole batch; tensors would travel as handles, of which there are only so many.
        self._waiting.append(self._pool.submit(_scored_elsewhere, pickle.dumps((self._task, estimate.clone(), labels))))
        if len(self._waiting) > _WAITING:
            self._take(pickle.loads(self._waiting.popleft().result()))

    def figures(self) -> dict[str, float]:
        """`Meter.compute` of all images."""
        self._finish()
        return self._meter.compute()

    def per_image(self) -> PerImage:
        """What each image added."""
        self._finish()
        return PerImage(tuple(self.images), torch.stack(self._statistics).numpy())

    def _finish(self) -> None:
        while self._waiting:
            self._take(pickle.loads(self._waiting.popleft().result()))

    def _take(self, scored: Meter) -> None:
        self._statistics.append(scored.statistics())
        # torchmetrics puts what comes in before what is there.
        scored.merge_state(self._meter)
        self._meter = scored


def _scored(task: Task, estimate: Tensor, labels: TaskLabels) -> Meter:
    meter = task.meter()
    meter.update(estimate, labels.value, labels.valid)
    return meter


def _scored_elsewhere(image: bytes) -> bytes:
    return pickle.dumps(_scored(*pickle.loads(image)))


@contextmanager
def scoring_pool(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """So many processes with one thread each; None for one job. What waits when an error passes is dropped."""
    if jobs == 1:
        yield None
        return
    # A forked process would inherit threads that torch may have started.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
