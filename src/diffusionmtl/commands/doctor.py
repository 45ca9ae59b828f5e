"""`diffusionmtl doctor`: what is installed, what is missing for which feature, and whether the core works here.

It is asked when something is broken, so torch and whatever needs it are imported late and their failures reported.
"""
# ruff: noqa: PLC0415

import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from diffusionmtl.cache import default_cache
from diffusionmtl.errors import in_one_line

NAME = "diffusionmtl"
LEAST_FREE_BYTES = 2_000_000_000
GIGABYTE = 1e9

FEATURES: Mapping[str, str] = {
    "train": "train, compare, demo",
    "export": "export as ONNX",
    "video": "predict videos",
    "demo": "try a network in the browser",
    "scale": "predict on several machines",
    "docs": "build the documentation",
    "dev": "run the tests",
}
"""What each extra is for; one that is not named here is shown by its name."""


@dataclass(frozen=True)
class Feature:
    """What can be done with an extra, and what is missing for it.

    Attributes:
        missing: packages that are absent, or too old, as pip would be asked for them.
    """

    extra: str
    purpose: str
    missing: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """The command that installs what is missing."""
        return f"pip install '{NAME}[{self.extra}]'"


@dataclass(frozen=True)
class Device:
    """Where networks can be computed.

    Attributes:
        memory: in bytes; of the machine for the CPU.
    """

    name: str
    about: str
    memory: int | None


@dataclass(frozen=True)
class Place:
    """A folder that is written to.

    Attributes:
        free: bytes.
    """

    name: str
    path: str
    free: int


@dataclass
class Diagnosis:
    """All that the doctor found.

    Attributes:
        problems: what keeps the core from working, one line each.
        warnings: what may become one.
        versions: of Python, this package and what it needs; None for what is missing.
        checks: the self-test, per device and step.
    """

    platform: str
    processors: int
    memory_available: int | None
    versions: dict[str, str | None]
    devices: list[Device] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the core works."""
        return not self.problems

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"well": self.well, **asdict(self)}


def examine(test: bool = True) -> Diagnosis:
    """Look at everything; `test`: run the self-test on every device too."""
    needed = requirements()
    found = Diagnosis(
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        processors=_processors(),
        memory_available=_memory("MemAvailable"),
        versions={"python": platform.python_version(), NAME: _version(NAME)}
        | {r.name: _version(r.name) for r in needed.get("", ())},
        places=_places(),
    )
    lacking = missing(needed.get("", ()))
    if lacking:
        found.problems.append(f"missing or too old: {', '.join(lacking)}; pip install --upgrade {NAME}")
    found.features = [
        Feature(extra, FEATURES.get(extra, extra), missing(of))
        for extra, of in needed.items()
        if extra not in ("", "all")
    ]
    found.warnings += [
        f"{p.path}: {p.free / GIGABYTE:.1f} GB free; runs and drawn rooms go there"
        for p in found.places
        if p.free < LEAST_FREE_BYTES
    ]
    _look_at_torch(found, test)
    return found


def requirements() -> dict[str, list[Requirement]]:
    """What this package asks for: under the name of each extra, and under "" the core."""
    grouped: dict[str, list[Requirement]] = {"": []}
    for line in metadata.requires(NAME) or []:
        requirement = Requirement(line)
        extra = re.search(r"extra\s*==\s*['\"](.+?)['\"]", line)
        here = requirement.marker is None or requirement.marker.evaluate({"extra": extra[1] if extra else ""})
        if here and requirement.name != NAME:
            grouped.setdefault(extra[1] if extra else "", []).append(requirement)
    return grouped


def missing(needed: Iterable[Requirement]) -> tuple[str, ...]:
    """Those requirements that this Python does not meet."""
    return tuple(
        str(Requirement(f"{r.name}{r.specifier}"))
        for r in needed
        if (has := _version(r.name)) is None or not r.specifier.contains(has, prereleases=True)
    )


def _look_at_torch(found: Diagnosis, test: bool) -> None:
    try:
        import torch
    except Exception as error:  # a torch that was built for another machine fails in ways of its own
        found.problems.append(f"torch cannot be imported: {in_one_line(error, 300, typed=True)}")
        return
    threads = torch.get_num_threads()
    found.devices = [Device("cpu", f"{threads} thread{'s' * (threads > 1)}", _memory("MemTotal"))]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        found.devices.append(Device(f"cuda:{index}", about.name, about.total_memory))
    if torch.backends.mps.is_available():
        found.devices.append(Device("mps", "Apple GPU", None))
    if not test:
        return
    try:
        from diffusionmtl.commands.selftest import self_test
    except Exception as error:
        found.problems.append(f"{NAME} cannot be imported: {in_one_line(error, 300, typed=True)}")
        return
    for device in found.devices:
        for check in self_test(torch.device(device.name)):
            found.checks.append({"device": device.name, **asdict(check)})
            if check.wrong:
                found.problems.append(f"self-test on {device.name}, {check.name}: {check.wrong}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(word: str) -> int | None:
    """Bytes, as Linux says them; None elsewhere."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    said = re.search(rf"^{word}:\s+(\d+) kB", text, re.MULTILINE)
    return int(said[1]) * 1024 if said else None


def _places() -> list[Place]:
    places = {"here": Path.cwd(), "cache": default_cache()}
    return [Place(name, str(path), _free(path)) for name, path in places.items()]


def _free(path: Path) -> int:
    """Of the disk that a folder is on, or would be."""
    standing = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(standing).free
