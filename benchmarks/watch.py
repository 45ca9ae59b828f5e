"""What a process holds while it works: memory, open files and threads, looked at again and again, and drawn."""

import csv
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np

from diffusionmtl.report.diagram import Axis

_WIDE, _HIGH, _LEFT, _TOP = 250.0, 150.0, 56.0, 58.0
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 11.5px } .floor { stroke: #5d666e }
.title { font-weight: 600; font-size: 15px } .line { fill: none; stroke: #14748a; stroke-width: 1.6 }
.end { text-anchor: end }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab } .floor { stroke: #9ba4ab }
  .line { stroke: #63c1d4 }
}
"""
KINDS = {"memory": "MiB", "files": "", "threads": ""}


@dataclass(frozen=True)
class Held:
    """What a process and its children held at one moment.

    Attributes:
        seconds: since the stage began.
        done: pieces of work, counted by the stage.
        memory: resident, MiB; pages that processes share count in each.
    """

    stage: str
    seconds: float
    done: int
    memory: float
    files: int
    threads: int
    processes: int


class Watch:
    """Looks at this process every so often, and keeps every look in a CSV file at once.

    Attributes:
        done: how much has been done so far; whoever works counts it up.
    """

    def __init__(self, path: Path, every: float = 5.0) -> None:
        self._path, self._every = path, every
        self.done = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(field.name for field in fields(Held))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Look for as long as the block lasts."""
        self.done, over, start = 0, threading.Event(), time.monotonic()

        def look() -> None:
            while True:
                self._note(held_now(name, time.monotonic() - start, self.done))
                if over.wait(self._every):
                    break
            self._note(held_now(name, time.monotonic() - start, self.done))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _note(self, held: Held) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(asdict(held).values())


def held_now(stage: str, seconds: float, done: int) -> Held:
    """Of this process and its children, as Linux tells it."""
    memory = files = threads = 0
    together = [os.getpid(), *_children(os.getpid())]
    for process in together:
        place = Path("/proc") / str(process)
        try:
            said = dict(line.split(":", 1) for line in (place / "status").read_text(encoding="utf-8").splitlines())
            memory += int(said.get("VmRSS", "0 kB").split()[0])
            threads += int(said["Threads"])
            files += len(os.listdir(place / "fd"))
        except (OSError, KeyError):  # it has ended since
            continue
    return Held(stage, round(seconds, 1), done, round(memory / 1024, 1), files, threads, len(together))


def _children(process: int) -> list[int]:
    found = []
    for task in (Path("/proc") / str(process) / "task").iterdir():
        try:
            words = (task / "children").read_text(encoding="utf-8").split()
        except OSError:
            continue
        for child in map(int, words):
            found += [child, *_children(child)]
    return found


def read_watch(path: Path) -> dict[str, list[Held]]:
    """Every look by its stage."""
    found: dict[str, list[Held]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            held = Held(
                row["stage"],
                float(row["seconds"]),
                int(row["done"]),
                float(row["memory"]),
                *(int(row[word]) for word in ("files", "threads", "processes")),
            )
            found.setdefault(held.stage, []).append(held)
    return found


def summary(looks: Sequence[Held]) -> dict[str, float]:
    """How much was done, and how what is held moved after the first third, in which everything is taken up.

    Growth is the slope of a line through the looks, times the time between the first of them and the last.
    """
    settled = [held for held in looks if held.seconds >= looks[-1].seconds / 3]
    found: dict[str, float] = {"seconds": looks[-1].seconds, "done": looks[-1].done, "looks": len(looks)}
    seconds = np.array([held.seconds for held in settled])
    for kind in KINDS:
        values = np.array([getattr(held, kind) for held in settled], dtype=float)
        slope = np.polyfit(seconds, values, 1)[0] if len(set(seconds)) > 1 else 0.0
        found |= {
            f"{kind}, lowest": float(values.min()),
            f"{kind}, highest": float(values.max()),
            f"{kind}, growth": round(float(slope * (seconds[-1] - seconds[0])), 3),
        }
    return found


def drawn(stages: Mapping[str, Sequence[Held]], title: str) -> str:
    """A row of diagrams per stage: memory, files and threads over what was done, from zero; as SVG."""
    width, height = _LEFT + len(KINDS) * (_WIDE + 34), _TOP + len(stages) * (_HIGH + 60)
    parts = []
    for row, (name, looks) in enumerate(stages.items()):
        for column, (kind, unit) in enumerate(KINDS.items()):
            left, top = _LEFT + column * (_WIDE + 34), _TOP + row * (_HIGH + 60)
            parts.append(_diagram(name, kind, unit, looks, left, top))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>'
        f'<text class="title" x="14" y="26">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def bends(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of a line at which it moves up or down by half a pixel or more: nobody sees the others."""
    kept = [points[0]]
    for before, here in pairwise(points):
        if abs(here[1] - kept[-1][1]) >= 0.5:
            kept += [here] if before == kept[-1] else [before, here]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _diagram(name: str, kind: str, unit: str, looks: Sequence[Held], left: float, top: float) -> str:
    values = [float(getattr(held, kind)) for held in looks]
    across = Axis(0.0, float(max(looks[-1].done, 1)), left, left + _WIDE)
    up = Axis(0.0, max(*values, 1.0), top + _HIGH, top + 22)
    line = bends([(across(float(held.done)), up(value)) for held, value in zip(looks, values, strict=True)])
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
    floor = top + _HIGH
    return (
        f'<text x="{left:g}" y="{top + 12:g}">{escape(name)}: {kind}</text>'
        f'<path class="floor" d="M{left:g} {floor:g}H{left + _WIDE:g}"/><path class="line" d="{path}"/>'
        f'<text class="soft end" x="{left - 6:g}" y="{up(max(values)) + 4:.1f}">{max(values):.0f} {unit}</text>'
        f'<text class="soft end" x="{left - 6:g}" y="{floor + 4:g}">0</text>'
        f'<text class="soft end" x="{left + _WIDE:g}" y="{floor + 16:g}">{looks[-1].done:,}</text>'
    )
