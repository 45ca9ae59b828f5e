"""The rounds of the experiment of label efficiency, one after another or several at once."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from benchmarks.label_rounds import EXIT_STOPPED, Plan, Round, work  # noqa: E402
from diffusionmtl.errors import UserError  # noqa: E402
from diffusionmtl.training.run import Stopped  # noqa: E402

_SCRIPT = Path(__file__).with_name("label_rounds.py")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_LOOK_EVERY = 0.2


def worked_through(rounds: Sequence[Round], plan: Plan, out: Path, jobs: int) -> Iterator[Round]:
    """Every round that is not done yet, as soon as it is.

    Args:
        rounds: each after the one before it.
        jobs: 1 works in this process, with all its threads; more start a process with one thread per round.

    Raises:
        UserError: a round failed.
        Stopped, KeyboardInterrupt: interrupted; what is unfinished can be continued.
    """
    with _only_one(out) as lock:
        waiting = [one for one in rounds if not one.done(out)]
        if jobs > 1:
            yield from _several(waiting, out, jobs, lock)
        else:
            for one in waiting:
                work(one, plan, out)
                yield one


@contextmanager
def _only_one(out: Path) -> Iterator[int]:
    """Wait until nobody works in this folder. Processes keep what they were handed, so also until theirs have ended."""
    with (out / ".lock").open("w") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{out}: an earlier call is still at work here; waiting for it to end", flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def _several(waiting: list[Round], out: Path, jobs: int, lock: int) -> Iterator[Round]:
    running: dict[subprocess.Popen[bytes], Round] = {}
    try:
        while waiting or running:
            ready = [one for one in waiting if one.before is None or one.before.done(out)]
            for one in ready[: jobs - len(running)]:
                waiting.remove(one)
                running[_started(one, out, lock)] = one
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                _let_go(process)
                yield _ended(running.pop(process), process.returncode, out)
            if not ended:
                time.sleep(_LOOK_EVERY)
    finally:
        for process in running:
            _let_go(process)
        for process in running:
            process.wait()


def _started(one: Round, out: Path, lock: int) -> subprocess.Popen[bytes]:
    """It is kept from the terminal's Ctrl-C, and stops by itself when its stdin closes, whatever becomes of us."""
    log = _log(one, out)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, str(_SCRIPT), str(out), str(one.seed), one.way, str(one.number)],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
            pass_fds=() if fcntl is None else (lock,),
        )


def _log(one: Round, out: Path) -> Path:
    return one.folder(out) / "log.txt"


def _let_go(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _ended(one: Round, status: int, out: Path) -> Round:
    if status == EXIT_STOPPED:
        raise Stopped
    if status != 0 or not one.done(out):
        log = _log(one, out)
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise UserError(f"{log}: seed {one.seed}, {one.way}, round {one.number} ended with status {status}: {said[0]}")
    return one
