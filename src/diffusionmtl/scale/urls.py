"""Images and videos in object stores and on web servers, by fsspec: found by a URL, fetched when they are read."""

import glob
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from diffusionmtl.data.members import name_fault
from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import IMAGE_SUFFIXES
from diffusionmtl.inference.video import VIDEO_SUFFIXES

TRIES = 4
# Seconds before a second try, doubled before each further one.
PAUSE = 0.5


def is_url(text: str) -> bool:
    """Whether something given as a path is a URL."""
    return "://" in text


def find_urls(given: str) -> list[tuple[str, str]]:
    """URL and name, which is the path below what was given, without suffix, of each image and video.

    Args:
        given: the URL of a file, of a folder (searched to the bottom) or with a pattern in it, of any kind that fsspec
            knows: `s3://bucket/folder`, `https://host/folder/`, `file:///folder/*.png`. Credentials are taken from the
            environment.

    Raises:
        UserError: nothing there, it cannot be listed, or a name in it would lead out of a folder.
    """
    try:
        system, root = url_to_fs(given)
        root = root.rstrip("/")
        base, paths = _listed(system, root)
    except ImportError as error:  # fsspec's own words say what to install for this kind of URL
        raise UserError(f"{given}: {in_one_line(error)}") from None
    except FileNotFoundError:
        base, paths = "", []
    except Exception as error:  # every kind of store has errors of its own
        raise UserError(f"{given}: cannot be listed ({in_one_line(error)})") from None
    found = []
    for path in sorted(paths):
        name = path.removeprefix(f"{base}/") if base else path.lstrip("/")
        if (base and name == path) or not _is_wanted(name):  # a page may link to what lies elsewhere
            continue
        if fault := name_fault(name):
            raise UserError(f"{given}: '{name}' {fault}; rename it there")
        found.append((system.unstrip_protocol(path), PurePosixPath(name).with_suffix("").as_posix()))
    if not found:
        raise UserError(f"{given}: no image there; give files, folders or globs of {', '.join(_SUFFIXES)}")
    return found


@contextmanager
def fetched(url: str, tries: int = TRIES, pause: float = PAUSE) -> Iterator[Path]:
    """What a URL leads to as a file that goes away again; errors that name the file name the URL instead.

    Raises:
        UserError: it cannot be fetched, tried several times; and whatever is raised inside.
    """
    with TemporaryDirectory(prefix="diffusionmtl-") as folder:
        path = Path(folder) / f"fetched{PurePosixPath(url).suffix}"
        for left in reversed(range(tries)):
            try:
                _fetch(url, path)
                break
            except FileNotFoundError:
                raise UserError(f"{url}: no such file") from None
            except Exception as error:  # every kind of store has errors of its own
                if not left:
                    raise UserError(f"{url}: cannot be fetched ({in_one_line(error)}), tried {tries} times") from None
                time.sleep(pause * 2 ** (tries - 1 - left))
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), url)) from None


_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def _listed(system: Any, root: str) -> tuple[str, list[str]]:
    """The folder that names are counted from, and what was found in it."""
    if glob.has_magic(root):
        parts = root.split("/")
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return "/".join(parts[:fixed]), [str(path) for path in system.glob(root)]
    if _is_wanted(PurePosixPath(root).name) and system.isfile(root):
        return root.rpartition("/")[0], [root]
    return root, list(system.find(root))


def _is_wanted(name: str) -> bool:
    hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
    return not hidden and PurePosixPath(name).suffix.lower() in _SUFFIXES


def _fetch(url: str, path: Path) -> None:
    with fsspec.open(url, "rb") as stream, path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)  # pyright: ignore[reportArgumentType]
