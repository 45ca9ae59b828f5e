"""What commands share that hand their images to the workers of a Ray cluster."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from diffusionmtl.commands.finished import FOLDER
from diffusionmtl.errors import UserError
from diffusionmtl.scale.pool import Answer, Cluster, work

_UNFINISHED = re.compile(r"\..+\.\d+\.part")


@dataclass(frozen=True)
class Shared:
    """What the calling process and each of its workers have to see alike: on one machine, or on a disk that all share.

    Attributes:
        run: the run, by its whole path.
        out: the folder for the answers, likewise.
        identity: differs where anything differs that answers depend on beside their images.
        token: a file that only who sees this very `out` can see.
    """

    run: Path
    out: Path
    identity: str
    token: Path

    def check(self, identity: str) -> None:
        """Called by a worker with the identity that it found.

        Raises:
            UserError: it sees something else.
        """
        if identity != self.identity:
            raise UserError(
                f"{self.run}: the run there is another one, or its data are; put both on a disk that all machines share"
            )
        if not self.token.is_file():
            raise UserError(f"--out {self.out}: is another folder there; choose one on a disk that all machines share")


@contextmanager
def shared(run: Path, out: Path, identity: str) -> Iterator[Shared]:
    """As long as workers write into `out`, which exists; what dead ones left half written is gone before and after."""
    run, out = run.absolute(), out.absolute()
    token = out / FOLDER / f".{uuid4().hex}.{os.getpid()}.part"
    token.parent.mkdir(exist_ok=True)
    _sweep(out)
    token.touch()
    try:
        yield Shared(run, out, identity, token)
    finally:
        _sweep(out)


def gathered(
    make: Callable[[], Answer],
    inputs: Sequence[Any],
    cluster: Cluster,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[int, Any], dict[int, str]]:
    """By number of an input: the answers, and what was wrong with the others.

    Raises:
        UserError, OSError: as `scale.pool.work`.
    """
    answers: dict[int, Any] = {}
    faults: dict[int, str] = {}
    for done, outcome in enumerate(work(make, inputs, cluster), start=1):
        if outcome.fault is None:
            answers[outcome.number] = outcome.value
        else:
            faults[outcome.number] = outcome.fault
        if progress is not None:
            progress(done, len(inputs))
    return answers, faults


def _sweep(out: Path) -> None:
    for path in out.rglob(".*.part"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
