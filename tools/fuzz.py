"""Feeds damaged and hostile files to every reader, counts them, and keeps what a reader does not take well.

    python tools/fuzz.py --executions 50000 --seconds 600            # over all targets
    python tools/fuzz.py --target shards --target npy --json found.json

A reader may take a file or refuse it with a UserError, within 5 seconds and 1 GB. Anything else is a crash: its input
goes to tests/fuzz/regressions/TARGET/, where a test replays it. Exits 1 if there was one.

The seconds are those of computing and of waiting, without those in which other processes had the processor; a reader
that comes to no end is ended after 120 seconds of the clock. The memory is what an input adds to that of the process,
looked at after each; the address space of the process ends 4 GB beyond what it begins with, and an input that is
refused only because that was reached is a crash.

With --engine atheris (the default where it can be imported) inputs are also led by the branches they reach; each target
then runs in a process of its own. --engine own needs nothing and gives the same inputs for the same --seed. A target
whose process ended is begun again, with other inputs, until the executions or the time are spent.
"""

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.fuzz.target import Target
    from tests.fuzz.watch import Count, Watch

ROOT = Path(__file__).resolve().parents[1]
REGRESSIONS = ROOT / "tests" / "fuzz" / "regressions"
ADDRESS_SPACE = 4 << 30
BEGINNINGS = 20
# atheris 3 keeps what every comparison of arrays in instrumented code gives: its process is begun anew now and then.
LEAKED_MB, FULL = 1000, 77

os.environ.setdefault("OMP_NUM_THREADS", "1")


def watch(target: "Target", folder: Path) -> "Watch":
    """What runs and counts the inputs of a target."""
    from tests.fuzz.target import attempt
    from tests.fuzz.watch import Watch

    return Watch(target.name, lambda content: attempt(target, folder / "files", content), folder, REGRESSIONS)


def own_engine(target: "Target", folder: Path, args: argparse.Namespace) -> "Count":
    """Good files and changed ones, the same for the same seed."""
    from tests.fuzz.mutate import mutated

    seeds, watched = target.seeds(), watch(target, folder)
    rng = np.random.default_rng([args.seed, args.begun, *target.name.encode()])
    end = time.monotonic() + args.seconds
    for number in range(args.executions):
        if time.monotonic() > end:
            break
        watched.run(seeds[number] if number < len(seeds) else mutated(target, seeds, rng))
    watched.write()
    return watched.count


def atheris_engine(target: "Target", folder: Path, args: argparse.Namespace) -> None:
    """Never returns: the last input ends the process; the count is in `folder` all along."""
    import atheris

    from tests.fuzz.mutate import mutated

    watched, seeds = watch(target, folder), target.seeds()
    corpus, end = folder / "corpus", time.monotonic() + args.seconds
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def change(data: bytes, largest: int, number: int) -> bytes:
        rng = np.random.default_rng([args.seed, number])
        return (mutated(target, [data or b" ", *seeds], rng) if rng.random() < 0.5 else atheris.Mutate(data, largest))[
            :largest
        ]

    def one(data: bytes) -> None:
        watched.run(data)
        if watched.count.grown_mb > LEAKED_MB:
            watched.write()
            os._exit(FULL)
        if watched.count.executions >= args.executions or time.monotonic() > end:
            watched.write()
            os._exit(0)  # libFuzzer's own end leaves a timer behind that ends the process as if it had crashed

    words = [
        f"-atheris_runs={args.executions}",
        f"-max_total_time={max(1, int(args.seconds))}",
        f"-seed={1 + args.seed + 1000 * args.begun}",
        "-max_len=65536",
    ]
    quiet = ["-print_final_stats=0", "-verbosity=0", "-timeout=3600", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *words, *quiet, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def apart(name: str, args: argparse.Namespace) -> "Count":
    """A target in a process of its own, for atheris ends it, and a reader may; then it is begun again."""
    from tests.fuzz.watch import Count

    total, end = Count(name), time.monotonic() + args.seconds
    for begun in range(BEGINNINGS):
        left = args.executions - total.executions, end - time.monotonic()
        if begun and (left[0] <= 0 or left[1] < 1):
            break
        count, ended = begin(name, args, begun, *left)
        total.add(count)
        if not ended:
            break
    return total


def begin(name: str, args: argparse.Namespace, begun: int, executions: int, seconds: float) -> tuple["Count", bool]:
    """Run a process to its end: what it counted, and whether it ended before its time.

    Raises:
        SystemExit: it ended before it ran a single input, which is no reader's fault.
    """
    from tests.fuzz.watch import COUNTED, CURRENT, Count, kept

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        words = [f"--executions={executions}", f"--seconds={seconds}", f"--seed={args.seed}", f"--begun={begun}"]
        command = [sys.executable, __file__, "--child", folder, f"--target={name}", *words, f"--engine={args.engine}"]
        status = subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT).returncode
        current, written = Path(folder, CURRENT), Path(folder, COUNTED)
        count = Count(**json.loads(written.read_text())) if written.is_file() else Count(name)
        if status and not current.is_file():
            raise SystemExit(f"{name}: its process ended with {status} before it ran anything; see above")
        if status and status != FULL:
            count.crashes += 1
            count.found[f"the process ended with {status}"] = kept(REGRESSIONS / name, current.read_bytes())
        return count, bool(status)


def here(name: str, args: argparse.Namespace) -> "Count":
    """A target in this process: quicker for few executions, but a reader that ends the process ends everything."""
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return own_engine(TARGETS[name], Path(folder), args)


def run_child(args: argparse.Namespace) -> None:
    """What `begin` starts."""
    from tests.fuzz.watch import bound_memory

    with contextlib.ExitStack() as instrumented:
        if args.engine == "atheris":
            import atheris

            instrumented.enter_context(atheris.instrument_imports(include=["diffusionmtl"]))
        from tests.fuzz.targets import TARGETS
    gc.freeze()  # what was imported stays: looking through it again and again takes longer than most inputs
    bound_memory(ADDRESS_SPACE)
    engine = atheris_engine if args.engine == "atheris" else own_engine
    engine(TARGETS[args.target[0]], Path(args.child), args)


def asked() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=30_000, help="over all targets")
    parser.add_argument("--seconds", type=float, default=600, help="over all targets, of the fuzzing itself")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--engine", choices=("auto", "atheris", "own"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-process", action="store_true", help="all targets in this process, with --engine own")
    parser.add_argument("--json", type=Path, help="write the counts to this file too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--begun", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_process:
        args.engine = "own"
    if args.engine == "auto":
        args.engine = "atheris" if importlib.util.find_spec("atheris") else "own"
    return args


def main() -> int:
    """See --help."""
    args = asked()
    sys.path.insert(0, str(ROOT))
    if args.child:
        run_child(args)
        return 0
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.watch import bound_memory

    names = args.target or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        raise SystemExit(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    args.executions, args.seconds = -(-args.executions // len(names)), args.seconds / len(names)
    if args.one_process:
        bound_memory(ADDRESS_SPACE)
    counts = []
    for name in names:
        counts.append(here(name, args) if args.one_process else apart(name, args))
        print(_line(counts[-1]), flush=True)
    total = sum(count.executions for count in counts)
    crashes = sum(count.crashes for count in counts)
    print(f"{total:,} executions over {len(counts)} targets with engine {args.engine}, {crashes} crashes")
    if args.json:
        said = {"engine": args.engine, "seed": args.seed, "executions": total, "targets": [asdict(c) for c in counts]}
        args.json.write_text(json.dumps(said, indent=2) + "\n")
    return int(crashes > 0)


def _line(count: "Count") -> str:
    rate = count.executions / count.seconds if count.seconds else 0.0
    return (
        f"{count.target:20} {count.executions:8,} runs {rate:8.0f}/s  {count.taken:8,} taken  "
        f"slowest {count.slowest:6.2f} s  memory +{count.memory_mb:5.0f} MB  grown {count.grown_mb:5.0f} MB  "
        f"{count.crashes} crashes"
    )


if __name__ == "__main__":
    sys.exit(main())
