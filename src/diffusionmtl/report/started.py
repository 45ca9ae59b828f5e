"""What a run notes when its training starts: versions, date, and whose weights it goes on from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.models.origin import Origin
from diffusionmtl.report.provenance import versions
from diffusionmtl.runfolder import RunFolder

_LARGEST = 1 << 20


@dataclass(frozen=True)
class Started:
    """How a run began.

    Attributes:
        versions: of Python and the packages that compute.
        machine: operating system, architecture and cores.
        date: in ISO 8601, to the second.
        backbone: pretrained weights that the backbone began with.
        run: name of the run whose weights it began with.
    """

    versions: Mapping[str, str]
    machine: str
    date: str
    backbone: Origin | None = None
    run: str | None = None


def started_now(backbone: Origin | None, start_from: Path | None) -> Started:
    """Of this moment; weights of another run bring along what that run's backbone began with."""
    here = versions()
    machine = here.pop("machine")
    if start_from is not None:
        before = read_started(RunFolder(start_from)) if start_from.is_dir() else None
        backbone = backbone or (before.backbone if before else None)
    name = None if start_from is None else start_from.resolve().name
    return Started(here, machine, datetime.now().astimezone().isoformat(timespec="seconds"), backbone, name)


def save_started(run: RunFolder, started: Started) -> None:
    """Write `provenance.json`."""
    said = {
        "format": 1,
        "date": started.date,
        "machine": started.machine,
        "versions": dict(started.versions),
        "backbone_weights": None if started.backbone is None else started.backbone.plain(),
        "started_from": started.run,
    }
    write_bytes_atomically(run.provenance, (json.dumps(said, indent=2) + "\n").encode())


def read_started(run: RunFolder) -> Started | None:
    """What `save_started` wrote; None where nothing was, as in older runs.

    Raises:
        UserError: the file is damaged.
    """
    path = run.provenance
    if not path.is_file():
        return None
    try:
        said = read_json(path, _LARGEST)
        backbone, before = said["backbone_weights"], said["started_from"]
        return Started(
            {str(name): str(version) for name, version in said["versions"].items()},
            str(said["machine"]),
            str(said["date"]),
            None if backbone is None else Origin.from_plain(backbone),
            None if before is None else str(before),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not what a run notes when it starts ({type(error).__name__}); copy it anew or delete it"
        ) from None


def began_words(run: RunFolder) -> str:
    """When, where and with what a run's training began, in a sentence; empty if it noted nothing.

    Raises:
        UserError: the file is damaged.
    """
    started = read_started(run)
    if started is None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in started.versions.items())
    said = f"{started.date.replace('T', ' ')} on {started.machine}; {versions}"
    before = f"; from the weights of {started.run}" if started.run else ""
    weights = f"; backbone from {started.backbone.name}" if started.backbone else ""
    return f"{said}{weights}{before}"
