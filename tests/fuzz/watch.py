"""Inputs run one by one: how long each took, how much memory, and what a reader did not take well.

Knows nothing of the package, so that a fuzzer can import it before the package is prepared for it.
"""

import contextlib
import faulthandler
import hashlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

KEPT_BYTES = 1 << 16
CURRENT, COUNTED = "current", "count.json"
_OFTEN = 50


class Hang(BaseException):
    """A reader has computed for too long."""


@dataclass(frozen=True)
class Limits:
    """What one input may take.

    Attributes:
        seconds: of computing, or of waiting for anything but the processor. More is a crash.
        stuck: seconds of the clock after which the process is ended, wherever it is.
        memory: bytes, resident, beyond those taken before the input. More is a crash.
    """

    seconds: float = 5
    stuck: float = 120
    memory: int = 1 << 30


@dataclass
class Count:
    """What became of a target's inputs.

    Attributes:
        executions: inputs run to their end, the good files that are begun with among them.
        taken: inputs that were read; the others were refused, or crashed.
        crashes: inputs that were neither read nor refused within the limits.
        seconds: of all inputs, as limited.
        slowest: seconds of one input.
        memory_mb: most megabytes that one input took, where that can be told.
        grown_mb: megabytes by which the process has grown over all inputs.
        found: per different way to crash the file that shows it.
    """

    target: str
    executions: int = 0
    taken: int = 0
    crashes: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory_mb: float = 0.0
    grown_mb: float = 0.0
    found: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Count") -> None:
        """What another process counted of the same target."""
        for name in ("executions", "taken", "crashes", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("slowest", "memory_mb", "grown_mb"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.found = {**other.found, **self.found}


class Watch:
    """Runs a target's inputs one by one and writes down what happens.

    The input that is being run lies in `folder` as `current`, what was counted as `count.json`: up to date within 50
    inputs, and after every crash.

    Args:
        name: of the target.
        run: reads these bytes; whether they were taken. Whatever it raises is a crash.
        crashed: folder for inputs that crash.
    """

    def __init__(
        self, name: str, run: Callable[[bytes], bool], folder: Path, crashed: Path, limits: Limits | None = None
    ) -> None:
        self.folder, self.count, self.limits = folder, Count(name), limits or Limits()
        self._run, self._crashed = run, crashed / name
        self._first: int | None = None
        warnings.simplefilter("ignore")  # Pillow has one for every odd number in a TIFF
        self._rang = False  # a reader may catch what the timer raises
        self._guarded = -math.inf
        signal.signal(signal.SIGPROF, self._ring)

    def run(self, content: bytes) -> None:
        """One input."""
        (self.folder / CURRENT).write_bytes(content)
        taken, fault, spent, memory = self._measured(content)
        count = self.count
        count.executions += 1
        count.taken += taken
        count.seconds += spent
        count.slowest = max(count.slowest, spent)
        count.memory_mb = max(count.memory_mb, memory / 1e6)
        if self._rang or spent > self.limits.seconds:
            self._keep(content, "too long", f"{spent:.1f} s")
        elif fault is not None:
            self._keep(content, *fault)
        elif memory > self.limits.memory:
            self._keep(content, "too much memory", f"{memory / 1e6:.0f} MB")
        if count.executions % _OFTEN == 0 or count.executions < _OFTEN:
            self.write()

    def write(self) -> None:
        """Put the count into the folder; nothing watches over this process until the next input."""
        self._unguard()
        now = _status(b"VmRSS:")[0]
        self._first = now if self._first is None else self._first
        self.count.grown_mb = (now - self._first) / 1e6
        new = self.folder / f"{COUNTED}.new"
        new.write_text(json.dumps(asdict(self.count)))
        new.replace(self.folder / COUNTED)

    def _measured(self, content: bytes) -> tuple[bool, tuple[str, str] | None, float, int]:
        """Whether it was taken, where something was raised and what it says, seconds, bytes."""
        taken, fault, self._rang = False, None, False
        _forget_peak()
        (resident, peak), clock = _status(b"VmRSS:", b"VmHWM:"), _Clock()
        self._guard()
        signal.setitimer(signal.ITIMER_PROF, self.limits.seconds)
        try:
            try:
                taken = self._run(content)
            finally:  # the timer may go off in here too
                signal.setitimer(signal.ITIMER_PROF, 0)
        except KeyboardInterrupt:
            self._unguard()
            raise
        except BaseException as error:
            fault = _signature(error), str(error)[:200]  # not the error, which holds on to what the reader held
        spent, (now,) = clock.spent(), _status(b"VmHWM:")
        # Where peaks cannot be forgotten, an input is told from those before it only if it took more than they did.
        return taken, fault, spent, max(now - resident, 0) if now > peak else 0

    def _guard(self) -> None:
        """End this process if it does not come back.

        Every guard is a thread, and takes longer to make than most inputs to read, so one lasts for a second of them.
        """
        now = time.monotonic()
        if now - self._guarded > 1:
            self._guarded = now
            faulthandler.dump_traceback_later(self.limits.stuck, exit=True, file=sys.__stderr__ or sys.stderr)

    def _unguard(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._guarded = -math.inf

    def _ring(self, *_: object) -> None:
        self._rang = True
        raise Hang

    def _keep(self, content: bytes, way: str, said: str) -> None:
        self.count.crashes += 1
        if way not in self.count.found:
            self.count.found[way] = kept(self._crashed, content)
            print(f"{self.count.target}: {way} ({said}) -> {self.count.found[way]}", file=sys.stderr, flush=True)
        self.write()


def kept(folder: Path, content: bytes) -> str:
    """Keep an input in a folder; its path, or why there is none."""
    if len(content) > KEPT_BYTES:
        return "not kept: too large"
    path = folder / f"{hashlib.sha256(content).hexdigest()[:12]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return "/".join(path.parts[-2:])


def bound_memory(beyond: int) -> None:
    """Let this process have no more address space than it has now and so many bytes."""
    size = _status(b"VmSize:")[0] + beyond
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))


class _Clock:
    """Seconds since it was made, without those in which other processes had the processor."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), _queued(), time.process_time()

    def spent(self) -> float:
        began, queued, computed = self._began
        waited = _queued()
        if queued is None or waited is None:
            return time.process_time() - computed
        # Two clocks that are read one after the other: never less than what was computed.
        return max(time.perf_counter() - began - (waited - queued), time.process_time() - computed)


def _queued() -> float | None:
    """Seconds for which this process was ready and had no processor; None where the system does not tell."""
    try:
        return int(_read("/proc/self/schedstat").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def _signature(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/diffusionmtl/" in frame.filename]
    where = " < ".join(f"{Path(f.filename).name}:{f.name}" for f in ([frames[-1], *ours[-1:]] if frames else []))
    return f"{type(error).__name__} in {where}"


def _status(*words: bytes) -> list[int]:
    """Bytes, as Linux tells them of this process; 0 elsewhere."""
    try:
        said = _read("/proc/self/status")
        return [int(said[said.index(word) + len(word) :].split(maxsplit=1)[0]) * 1024 for word in words]
    except (OSError, ValueError):
        return [0] * len(words)


def _read(path: str) -> bytes:
    # Several times per input: what makes files comfortable would take longer than many a reader.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)
