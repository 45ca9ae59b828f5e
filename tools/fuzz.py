"""Feeds damaged and hostile files to every reader, counts them, and keeps what a reader does not take well.

    python tools/fuzz.py --executions 50000 --seconds 600            # over all targets
    python tools/fuzz.py --target shards --target npy --json found.json

A reader may take a file or refuse it with a UserError, within 5 seconds and 1 GB. Anything else is a crash: its input
goes to tests/fuzz/regressions/TARGET/, where a test replays it. Exits 1 if there was one.

With --engine atheris (the default where it can be imported) inputs are also led by the branches they reach; each target
then runs in a process of its own. --engine own needs nothing and gives the same inputs for the same --seed.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REGRESSIONS = ROOT / "tests" / "fuzz" / "regressions"
HANG_SECONDS, STUCK_SECONDS = 5, 120
MEMORY_BYTES = 1 << 30
KEPT_BYTES = 1 << 16

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Hang(BaseException):
    """A reader has computed for too long."""


@dataclass
class Count:
    """What became of a target's inputs."""

    target: str
    executions: int = 0
    taken: int = 0
    crashes: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory_mb: float = 0.0
    found: dict[str, str] = field(default_factory=dict)


class Watch:
    """Runs a target's inputs one by one and writes down what happens."""

    def __init__(self, target, folder: Path) -> None:
        from tests.fuzz.targets import attempt

        self.target, self.folder, self.count = target, folder, Count(target.name)
        self._attempt = attempt
        self._before = _resident()
        warnings.simplefilter("ignore")  # Pillow has one for every odd number in a TIFF
        signal.signal(signal.SIGPROF, _hang)

    def run(self, content: bytes) -> None:
        """One input."""
        (self.folder / "current").write_bytes(content)
        _forget_peak()
        began = time.process_time()
        fault: BaseException | None = None
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        try:
            self.count.taken += self._attempt(self.target, self.folder / "files", content)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            fault = error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
        spent, memory = time.process_time() - began, _peak() - self._before
        self.count.executions += 1
        self.count.seconds += spent
        self.count.slowest = max(self.count.slowest, spent)
        self.count.memory_mb = max(self.count.memory_mb, memory / 1e6)
        if fault is not None:
            self._keep(content, _signature(fault))
        elif memory > MEMORY_BYTES:
            self._keep(content, f"memory of {memory / 1e6:.0f} MB")
        elif spent > HANG_SECONDS:
            self._keep(content, f"{spent:.1f} seconds")

    def _keep(self, content: bytes, why: str) -> None:
        self.count.crashes += 1
        alike = why.split(" MB")[0].rstrip("0123456789") if "memory" in why else why
        if alike in self.count.found or len(content) > KEPT_BYTES:
            self.count.found.setdefault(alike, "not kept: too large")
            return
        path = REGRESSIONS / self.target.name / f"{hashlib.sha256(content).hexdigest()[:12]}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.count.found[alike] = path.relative_to(ROOT).as_posix()
        print(f"{self.target.name}: {why} -> {path.relative_to(ROOT)}", file=sys.stderr, flush=True)


def own_engine(target, folder: Path, executions: int, seconds: float, seed: int) -> Count:
    """Good files and changed ones, the same for the same seed."""
    from tests.fuzz.mutate import mutated

    seeds, watch = target.seeds(), Watch(target, folder)
    rng = np.random.default_rng([seed, *target.name.encode()])
    end = time.monotonic() + seconds
    for number in range(executions):
        if time.monotonic() > end:
            break
        watch.run(seeds[number] if number < len(seeds) else mutated(target, seeds, rng))
    return watch.count


def atheris_engine(target, folder: Path, executions: int, seconds: float, seed: int) -> None:
    """Never returns: the last input ends the process; the count is in `folder` all along."""
    import atheris

    from tests.fuzz.mutate import mutated

    watch, seeds = Watch(target, folder), target.seeds()
    corpus, end = folder / "corpus", time.monotonic() + seconds
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def change(data: bytes, largest: int, number: int) -> bytes:
        rng = np.random.default_rng([seed, number])
        return (mutated(target, [data or b" ", *seeds], rng) if rng.random() < 0.5 else atheris.Mutate(data, largest))[
            :largest
        ]

    def one(data: bytes) -> None:
        watch.run(data)
        over = watch.count.executions >= executions or time.monotonic() > end
        if over or watch.count.executions % 50 == 0:
            (folder / "count.json").write_text(json.dumps(asdict(watch.count)))
        if over:
            os._exit(0)  # libFuzzer's own end leaves a timer behind that ends the process as if it had crashed

    words = [
        f"-atheris_runs={executions}",
        f"-max_total_time={max(1, int(seconds))}",
        f"-seed={seed + 1}",
        "-max_len=65536",
    ]
    quiet = ["-print_final_stats=0", "-verbosity=0", "-timeout=3600", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *words, *quiet, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def child(name: str, args: argparse.Namespace) -> Count:
    """A target in a process of its own, for atheris ends it, and a reader may."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        words = [f"--executions={args.executions}", f"--seconds={args.seconds}", f"--seed={args.seed}"]
        command = [sys.executable, __file__, "--child", folder, f"--target={name}", *words, f"--engine={args.engine}"]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT)
        written = Path(folder, "count.json")
        count = Count(**json.loads(written.read_text())) if written.is_file() else Count(name)
        if ended.returncode:
            last = Path(folder, "current")
            kept = REGRESSIONS / name / "process-ended.bin"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(last.read_bytes() if last.is_file() else b"")
            count.crashes += 1
            count.found[f"the process ended with {ended.returncode}"] = kept.relative_to(ROOT).as_posix()
        return count


def here(name: str, args: argparse.Namespace) -> Count:
    """A target in this process: quicker for few executions, but a reader that ends the process ends everything."""
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return own_engine(TARGETS[name], Path(folder), args.executions, args.seconds, args.seed)


def run_child(args: argparse.Namespace) -> None:
    """What `child` starts."""
    folder = Path(args.child)
    if args.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["diffusionmtl"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS

    size = _virtual() + 4 * MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    target = TARGETS[args.target[0]]
    if args.engine == "atheris":
        atheris_engine(target, folder, args.executions, args.seconds, args.seed)
    count = own_engine(target, folder, args.executions, args.seconds, args.seed)
    (folder / "count.json").write_text(json.dumps(asdict(count)))


def main() -> int:
    """See --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=30_000, help="over all targets")
    parser.add_argument("--seconds", type=float, default=600, help="over all targets, of the fuzzing itself")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--engine", choices=("auto", "atheris", "own"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-process", action="store_true", help="all targets in this process, with --engine own")
    parser.add_argument("--json", type=Path, help="write the counts to this file too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.one_process:
        args.engine = "own"
    if args.engine == "auto":
        args.engine = "atheris" if importlib.util.find_spec("atheris") else "own"
    if args.child:
        run_child(args)
        return 0
    from tests.fuzz.targets import TARGETS

    names = args.target or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    args.executions, args.seconds = -(-args.executions // len(names)), args.seconds / len(names)
    counts = []
    for name in names:
        counts.append(here(name, args) if args.one_process else child(name, args))
        print(_line(counts[-1]), flush=True)
    total = sum(count.executions for count in counts)
    crashes = sum(count.crashes for count in counts)
    print(f"{total:,} executions over {len(counts)} targets with engine {args.engine}, {crashes} crashes")
    if args.json:
        said = {"engine": args.engine, "seed": args.seed, "executions": total, "targets": [asdict(c) for c in counts]}
        args.json.write_text(json.dumps(said, indent=2) + "\n")
    return int(crashes > 0)


def _line(count: Count) -> str:
    rate = count.executions / count.seconds if count.seconds else 0.0
    return (
        f"{count.target:20} {count.executions:8,} runs {rate:8.0f}/s  {count.taken:8,} taken  slowest "
        f"{count.slowest:6.2f} s  memory +{count.memory_mb:5.0f} MB  {count.crashes} crashes"
    )


def _hang(*_: object) -> None:
    raise Hang(f"more than {HANG_SECONDS} s")


def _signature(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/diffusionmtl/" in frame.filename]
    where = " < ".join(f"{Path(f.filename).name}:{f.name}" for f in ([frames[-1], *ours[-1:]] if frames else []))
    return f"{type(error).__name__} in {where}"


def _status(word: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(word):
            return int(line.split()[1]) * 1024
    return 0


def _resident() -> int:
    return _status("VmRSS")


def _virtual() -> int:
    return _status("VmSize")


def _peak() -> int:
    return _status("VmHWM")


def _forget_peak() -> None:
    # Where it is not allowed, the peak is that of all inputs so far.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    sys.exit(main())
