"""The images and videos that a user names, and what their predictions are called."""

import glob
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusionmtl.errors import UserError
from diffusionmtl.files import IMAGE_SUFFIXES, nearest_beside
from diffusionmtl.inference.video import VIDEO_SUFFIXES, is_video


@dataclass(frozen=True)
class Source:
    """A file to predict from.

    Attributes:
        path: where it is.
        name: its path below the folder or the fixed part of the glob that it was found by, without suffix.
        url: where it came from, if it is no file of this machine; `path` is then what was fetched, or nothing yet.
    """

    path: Path
    name: str
    url: str | None = None

    @property
    def origin(self) -> str:
        """What tells it from any other: the URL, or the whole path."""
        return self.url or str(self.path.absolute())


def find_sources(names: Iterable[str]) -> list[Source]:
    """The files that paths, folders (searched to the bottom) and globs stand for, without repeats.

    Raises:
        UserError: a name stands for nothing.
    """
    found: dict[Path, Source] = {}
    for given in names:
        here = _found(given)
        if not here and "://" in given:
            raise UserError(f"{given}: URLs are read by Ray's workers; add --ray local")
        if not here and not glob.has_magic(given) and not Path(given).exists():
            raise UserError(f"{given}: no such file or folder.{nearest_beside(Path(given))}".removesuffix("."))
        if not here:
            known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            raise UserError(f"{given}: no image there; give files, folders or globs of {known}")
        for source in here:
            found.setdefault(source.path, source)
    return list(found.values())


def _found(given: str) -> list[Source]:
    path = Path(given)
    if path.is_dir():
        return [_source(p, path) for p in sorted(path.rglob("*")) if _is_wanted(p, path)]
    if path.exists():
        return [_source(path, path.parent)]
    root = _fixed_part(path)
    found: list[Source] = []
    for match in map(Path, sorted(glob.glob(given, recursive=True))):
        if match.is_dir():
            found += [_source(p, root) for p in sorted(match.rglob("*")) if _is_wanted(p, match)]
        else:
            found.append(_source(match, root))
    return found


def _fixed_part(pattern: Path) -> Path:
    """The folder that every match of a glob lies in."""
    return next((above for above in pattern.parents if not glob.has_magic(str(above))), Path())


def _source(path: Path, root: Path) -> Source:
    return Source(path, path.relative_to(root).with_suffix("").as_posix())


def _is_wanted(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and (path.suffix.lower() in IMAGE_SUFFIXES or is_video(path)) and path.is_file()


def numbered(name: str) -> Iterator[str]:
    """`name`, then `name-2`, `name-3` and so on: the first that is free may be used."""
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def as_on_any_disk(name: str) -> str:
    """What two names share if some file system takes one for the other."""
    return unicodedata.normalize("NFC", name).casefold()
