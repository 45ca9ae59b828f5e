"""Which files of a run leave the machine, and the list of them that travels along.

The list names every file with its size and SHA-256. Whoever opens a shared run reads it first, takes no file that is
not on it and that this module does not know by name, and so knows how much there is before anything is unpacked.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import write_bytes_atomically

LIST = "shared.json"
MAX_LIST = 1 << 20
MAX_WEIGHTS = 8 << 30
MAX_OTHER = 256 << 20
# Neither checkpoints to resume from, which are pickles, nor pages with pictures of the data, which may not be ours.
KNOWN = re.compile(
    r"README\.md|config\.yaml|partition\.txt|held-out\.txt|metrics\.json|calibration\.json|provenance\.json"
    r"|checkpoints/(last|best)\.safetensors|log/metrics(-[0-9]{3})?\.csv"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file: bytes and SHA-256 in hexadecimal."""

    size: int
    sha256: str


def weights_name(checkpoint: str) -> str:
    """Where `last` or `best` weights lie, in a run folder and in what is made of it."""
    return f"checkpoints/{checkpoint}.safetensors"


def write_list(folder: Path) -> dict[str, Entry]:
    """List the known files of a folder in its `shared.json`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found = {name: _entry(folder / name) for name in names if KNOWN.fullmatch(name)}
    said = {"format": 1, "files": {name: {"size": e.size, "sha256": e.sha256} for name, e in found.items()}}
    write_bytes_atomically(folder / LIST, (json.dumps(said, indent=2) + "\n").encode())
    return found


def read_list(content: bytes, where: str) -> dict[str, Entry]:
    """The files that a `shared.json` promises.

    Files that this version does not know are passed over, so that a later version may add some.

    Raises:
        UserError: it is no such list, names no weights, or promises more than is ever taken.
    """
    try:
        said: Any = json.loads(content)
        if said["format"] != 1:
            raise ValueError(f"format {said['format']!r} is unknown; a newer diffusionmtl may know it")
        files = {str(name): _promised(entry) for name, entry in said["files"].items() if KNOWN.fullmatch(str(name))}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = in_one_line(error, typed=True)
        raise UserError(f"{where}: {LIST} is no list of files ({reason}); get it anew") from None
    if weights_name("last") not in files:
        raise UserError(f"{where}: {LIST} names no {weights_name('last')}; share the run again once it is trained")
    for name, entry in files.items():
        check_size(name, entry.size, where)
    return files


def check_size(name: str, size: int, where: str) -> None:
    """See that a file is not larger than such files are.

    Raises:
        UserError: it is.
    """
    limit = MAX_LIST if name == LIST else MAX_WEIGHTS if name.endswith(".safetensors") else MAX_OTHER
    if size > limit:
        raise UserError(f"{where}: {name} has {size:,} bytes, more than the {limit:,} that are taken; do not trust it")


def check_files(folder: Path, files: Mapping[str, Entry], where: str, names: Iterable[str] | None = None) -> None:
    """See that files are those that were listed, byte for byte.

    Raises:
        UserError: one is missing or another.
    """
    for name in files if names is None else names:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{where}: {name} is missing; get it anew")
        # Of another size it need not be read.
        if path.stat().st_size != files[name].size or _entry(path) != files[name]:
            raise UserError(f"{where}: {name} is damaged (not the bytes that {LIST} lists); get it anew")


def needed(files: Mapping[str, Entry], checkpoint: str, where: str) -> list[str]:
    """The files that predicting takes.

    Raises:
        UserError: there are no such weights.
    """
    weights = weights_name(checkpoint)
    if weights not in files:
        raise UserError(f"{where}: has no {weights}, the run held no images out to tell which are best; use 'last'")
    return [weights, *(name for name in ("calibration.json",) if name in files)]


def _entry(path: Path) -> Entry:
    with path.open("rb") as stream:
        return Entry(path.stat().st_size, file_digest(stream, "sha256").hexdigest())


def _promised(entry: Any) -> Entry:
    size, digest = entry["size"], entry["sha256"]
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("a size or SHA-256 is none")
    return Entry(size, digest)
