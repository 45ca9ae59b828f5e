"""Cells worked on one after another, or several at once as processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from diffusionmtl.commands.cell import DONE, EXIT_STOPPED, FAILED, Cell, Outcome, outcome_of, run_cell, save_outcome
from diffusionmtl.training.run import Stopped

_LOOK_EVERY = 0.2
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def work(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells and give each one with its outcome as soon as it has ended.

    Args:
        jobs: 1 works in this process, with all its threads; more start a process with one thread per cell.

    Raises:
        Stopped, KeyboardInterrupt: interrupted; every cell can be continued.
    """
    if jobs > 1:
        yield from _several(list(cells), jobs)
    else:
        for cell in cells:
            yield cell, run_cell(cell, progress=sys.stderr.isatty())


def _several(waiting: list[Cell], jobs: int) -> Iterator[tuple[Cell, Outcome]]:
    running: dict[subprocess.Popen[bytes], Cell] = {}
    with _sigterm_interrupts(), _stopped_at_the_end(running):
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                running[_started(cell)] = cell
            ended = [process for process in running if process.poll() is not None]
            if any(process.returncode == EXIT_STOPPED for process in ended):
                raise Stopped
            for process in ended:
                _let_go(process)
                yield _ended(running.pop(process), process.returncode)
            if not ended:
                time.sleep(_LOOK_EVERY)


def _started(cell: Cell) -> subprocess.Popen[bytes]:
    """A process for a cell; what it says goes into the log beside the record.

    It is kept from the terminal's Ctrl-C, which would reach it a second time through us, and it stops by itself when
    its stdin closes, which happens whatever becomes of us.
    """
    with log_of(cell).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "diffusionmtl.commands.cell", str(cell.record)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            start_new_session=True,
        )


def log_of(cell: Cell) -> Path:
    """What the process of a cell printed."""
    return cell.record.with_suffix(".log")


def _ended(cell: Cell, status: int) -> tuple[Cell, Outcome]:
    outcome = outcome_of(cell)
    if outcome.state not in (DONE, FAILED):
        outcome = replace(outcome, state=FAILED, reason=f"its process ended with status {status}; see {log_of(cell)}")
        save_outcome(cell, outcome)
    return cell, outcome


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close its stdin, which asks it to stop if it has not ended."""
    if process.stdin is not None:
        process.stdin.close()


@contextmanager
def _stopped_at_the_end(running: dict[subprocess.Popen[bytes], Cell]) -> Iterator[None]:
    """Ask whatever runs when this is left to stop, and wait for it; a second Ctrl-C ends it at once."""
    try:
        yield
    finally:
        for process in running:
            _let_go(process)
        try:
            for process in running:
                process.wait()
        except KeyboardInterrupt:
            for process in running:
                process.kill()
            raise


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
