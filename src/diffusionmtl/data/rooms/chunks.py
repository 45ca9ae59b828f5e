"""Drawn rooms kept on disk, 64 to a file, so that a seed is drawn once.

Files are plain `.npy`, one per field and chunk, each written atomically: an interrupted drawing continues where it
stopped, and a larger count draws only what is missing.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusionmtl import files
from diffusionmtl.data.rooms.render import draw_room
from diffusionmtl.errors import UserError

RENDER_VERSION = 2
"""Raise it with every change that draws other pictures: rooms kept by an older version are then not used."""

CHUNK = 64
FIELDS = ("image", "semseg", "depth", "normals", "edge", "saliency", "human_parts")
_WORTH_A_PROCESS = 96

Progress = Callable[[int, int], None]
Job = tuple[int, int]
"""A chunk, and how many of its rooms are needed."""


@dataclass(frozen=True)
class RoomStore:
    """Rooms of consecutive seeds in one folder.

    Attributes:
        folder: where the files lie; must differ for another version, size or first seed.
        size: H, W.
    """

    folder: Path
    first_seed: int
    size: tuple[int, int]

    def path(self, name: str, chunk: int) -> Path:
        """The file of one field of a chunk."""
        return self.folder / f"{name}-{chunk:05d}.npy"

    def read(self, name: str, index: int) -> np.ndarray:
        """One field of one room.

        Raises:
            UserError: the file has gone or was damaged since the rooms were drawn.
        """
        path = self.path(name, index // CHUNK)
        try:
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index % CHUNK])
        except (OSError, ValueError, IndexError):
            raise UserError(f"{path}: drawn rooms are missing or damaged; start again to draw them anew") from None

    def jobs(self, count: int) -> list[Job]:
        """What is still to be drawn before the first `count` rooms are there."""
        needed = ((chunk, min(CHUNK, count - chunk * CHUNK)) for chunk in range(-(-count // CHUNK)))
        return [(chunk, length) for chunk, length in needed if self._kept(chunk) < length]

    def _kept(self, chunk: int) -> int:
        try:
            return min(len(np.load(self.path(f, chunk), mmap_mode="r", allow_pickle=False)) for f in FIELDS)
        except (OSError, ValueError):
            return 0

    def draw(self, job: Job) -> Iterator[None]:
        """Draw a chunk, yielding after each room, and write its files after the last."""
        chunk, length = job
        rooms = []
        for i in range(length):
            rooms.append(draw_room(self.first_seed + chunk * CHUNK + i, self.size))
            yield
        for name in FIELDS:
            files.write_array(self.path(name, chunk), np.stack([getattr(room, name) for room in rooms]))


def draw_missing(store: RoomStore, count: int, progress: Progress | None = None, workers: int | None = None) -> None:
    """Draw what is missing of the first `count` rooms, in several processes where that pays.

    Args:
        progress: called with the rooms there are and `count`; not at all if none is missing.
        workers: processes; by default as many as there are processors and work for.

    Raises:
        UserError: the folder cannot be written.
    """
    jobs = store.jobs(count)
    if not jobs:
        return
    missing = sum(length for _, length in jobs)
    workers = min(workers or _processors(), len(jobs), max(1, missing // _WORTH_A_PROCESS))
    ticks = _ticks(store, jobs, workers)
    try:
        for done, _ in enumerate(ticks, start=count - missing + 1):
            if progress is not None:
                progress(done, count)
        for job in store.jobs(count):  # what a process that failed has left
            for _ in store.draw(job):
                pass
    except OSError as error:
        raise UserError(
            f"{store.folder}: drawn rooms cannot be kept there ({error.strerror or error}); "
            "name another folder with the environment variable DIFFUSIONMTL_CACHE"
        ) from None
    finally:
        ticks.close()


def _ticks(store: RoomStore, jobs: Sequence[Job], workers: int) -> Generator[None, None, None]:
    """Do the jobs, yielding about once a room; all are over when it ends."""
    if workers > 1 and sys.executable:
        yield from _in_processes(store, jobs, workers)
    else:
        for job in jobs:
            yield from store.draw(job)


def _in_processes(store: RoomStore, jobs: Sequence[Job], workers: int) -> Iterator[None]:
    # Not multiprocessing: its children would run a caller's unguarded script again, and a data loader's workers may
    # not have any. These run this file and say one byte a room.
    told, tell = os.pipe()
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    head = [sys.executable, "-P", "-m", __name__, str(store.folder), str(store.first_seed), *map(str, store.size)]
    children: list[subprocess.Popen[bytes]] = []
    try:
        for share in (jobs[i::workers] for i in range(workers)):
            command = [*head, *(f"{chunk}:{length}" for chunk, length in share)]
            children.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=tell, stderr=subprocess.DEVNULL, env=environment
                )
            )
        os.close(tell)
        tell = -1
        while said := os.read(told, 4096):
            yield from (None for _ in said)
        for child in children:
            child.wait()
    finally:
        for child in children:
            child.kill()
            child.wait()
        os.close(told)
        if tell >= 0:
            os.close(tell)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _main(arguments: Sequence[str]) -> None:
    folder, first_seed, height, width, *jobs = arguments
    store = RoomStore(Path(folder), int(first_seed), (int(height), int(width)))
    for job in jobs:
        chunk, length = job.split(":")
        for _ in store.draw((int(chunk), int(length))):
            sys.stdout.buffer.write(b".")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
