"""The fuzzer finds what it is for, readers that hang, take too much, crash or end their process, and counts rightly."""

import gc
import json
import signal
import subprocess
import sys
import time
import weakref
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from diffusionmtl.errors import UserError
from tests.fuzz import watch
from tests.fuzz.target import Target, attempt, each
from tests.fuzz.watch import Count, Limits, Watch
from tests.scripts import loaded

QUICK, SMALL = Limits(seconds=0.2), Limits(memory=1 << 26)


@pytest.fixture(autouse=True)
def _the_handler_of_the_timer_is_given_back():
    before = signal.getsignal(signal.SIGPROF)
    yield
    signal.signal(signal.SIGPROF, before)


@pytest.fixture
def watched(tmp_path):
    """Runs inputs through a reader."""

    def make(run, limits=SMALL) -> Watch:
        (tmp_path / "scratch").mkdir()
        return Watch("target", run, tmp_path / "scratch", tmp_path / "crashed", limits)

    return make


def for_ever(_: bytes) -> bool:
    while True:
        pass


def for_ever_and_deaf(content: bytes) -> bool:
    try:
        return for_ever(content)
    except BaseException:
        return True


@pytest.mark.parametrize("reader", [for_ever, for_ever_and_deaf])
def test_a_reader_that_computes_for_ever(watched, tmp_path, reader):
    found = watched(reader, QUICK)
    found.run(b"x")
    assert (found.count.executions, found.count.crashes) == (1, 1)
    (kept,) = (tmp_path / "crashed").glob("target/*.bin")
    assert found.count.found == {"too long": f"target/{kept.name}"} and kept.read_bytes() == b"x"


@pytest.mark.skipif(watch._queued() is None, reason="this system does not tell waiting from being kept waiting")
def test_a_reader_that_waits(watched):
    found = watched(lambda _: time.sleep(0.3) or True, QUICK)
    found.run(b"x")
    assert list(found.count.found) == ["too long"]


def test_a_reader_that_never_comes_back_takes_its_process_along(tmp_path):
    """Not one input later either, for which the guard of the first still stands."""
    script = (
        "import sys, time; from pathlib import Path; from tests.fuzz.watch import Limits, Watch\n"
        "at = Path(sys.argv[1])\n"
        "watch = Watch('a', lambda c: bool(c) or time.sleep(60), at, at / 'b', Limits(stuck=1))\n"
        "watch.run(b'quick'); watch.run(b'')"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1 and "Timeout" in ended.stderr and "time.sleep" not in ended.stderr.splitlines()[0]
    assert (tmp_path / watch.CURRENT).read_bytes() == b""
    assert json.loads((tmp_path / watch.COUNTED).read_text())["executions"] == 1


def test_an_error_holds_on_to_nothing(watched):
    """Pictures of readers that refuse are gone before the next input, without waiting for the garbage collector."""
    alive = []

    class Large:
        pass

    def refuse(_: bytes) -> bool:
        picture = Large()
        alive.append(weakref.ref(picture))
        each(lambda: _refused(), lambda: _refused())
        return bool(picture)

    def _refused() -> None:
        raise UserError("a.png: too large")

    found = watched(refuse)
    gc.disable()
    try:
        found.run(b"x")
        assert found.count.crashes == 1 and alive[0]() is None
    finally:
        gc.enable()


def test_too_much_memory_is_blamed_on_the_input_that_took_it(watched):
    found = watched(lambda content: bool(np.ones(int(content), np.uint8).sum()))
    for size in (b"10", b"200_000_000", b"20"):
        found.run(size)
    assert (found.count.executions, found.count.taken, found.count.crashes) == (3, 3, 1)
    assert list(found.count.found) == ["too much memory"]
    assert 190 < found.count.memory_mb < 300


def test_crashes_of_one_kind_are_all_counted_and_kept_once(watched, tmp_path):
    found = watched(lambda content: [1][len(content)] > 0)
    for content in (b"", b"a", b"b"):
        found.run(content)
    assert (found.count.executions, found.count.taken, found.count.crashes) == (3, 1, 2)
    assert len(list((tmp_path / "crashed").rglob("*.bin"))) == len(found.count.found) == 1
    assert json.loads((tmp_path / "scratch" / watch.COUNTED).read_text()) == asdict(found.count)


@pytest.mark.parametrize("reason", [MemoryError(), RuntimeError("can't allocate memory: you tried 9 bytes")])
def test_a_file_refused_for_want_of_memory_alone(tmp_path, reason):
    def read(_: Path) -> None:
        try:
            raise reason
        except Exception as error:
            raise UserError("a.png: cannot be read") from error

    with pytest.raises(AssertionError, match="want of memory"):
        attempt(Target("a", "a.png", lambda: [], read), tmp_path, b"")


@pytest.fixture
def tool():
    return loaded("tools/fuzz.py")


def test_a_target_whose_process_ended_is_begun_again(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "REGRESSIONS", tmp_path)
    begun = []

    def run(words, **_):
        said = dict(word.split("=") for word in words if "=" in word)
        folder, first = Path(words[words.index("--child") + 1]), not begun
        begun.append((said["--begun"], said["--executions"]))
        (folder / watch.CURRENT).write_bytes(b"the last")
        (folder / watch.COUNTED).write_text(json.dumps(asdict(Count("npy", executions=40 if first else 60, taken=7))))
        return subprocess.CompletedProcess(words, -11 if first else 0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    count = tool.apart("npy", Namespace(executions=100, seconds=600.0, seed=0, engine="own"))
    assert begun == [("0", "100"), ("1", "60")]
    assert (count.executions, count.taken, count.crashes) == (100, 14, 1)
    (kept,) = tmp_path.rglob("*.bin")
    assert kept.read_bytes() == b"the last" and list(count.found) == ["the process ended with -11"]


def test_a_process_that_atheris_has_filled_is_begun_again_and_is_no_crash(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "REGRESSIONS", tmp_path)
    begun = []

    def run(words, **_):
        folder = Path(words[words.index("--child") + 1])
        (folder / watch.CURRENT).write_bytes(b"the last")
        (folder / watch.COUNTED).write_text(json.dumps(asdict(Count("npy", executions=50))))
        begun.append(words)
        return subprocess.CompletedProcess(words, tool.FULL if len(begun) == 1 else 0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    count = tool.apart("npy", Namespace(executions=100, seconds=600.0, seed=0, engine="atheris"))
    assert len(begun) == 2 and (count.executions, count.crashes) == (100, 0) and not list(tmp_path.rglob("*.bin"))


def test_a_process_that_never_began_is_no_crash_of_a_reader(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "REGRESSIONS", tmp_path)
    monkeypatch.setattr(tool.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1))
    with pytest.raises(SystemExit, match="before it ran anything"):
        tool.apart("npy", Namespace(executions=100, seconds=600.0, seed=0, engine="own"))
    assert not list(tmp_path.rglob("*.bin"))
