"""What an earlier call has predicted: a record per image, written once its files are all there."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from diffusionmtl.commands.sources import Source, as_on_any_disk, numbered
from diffusionmtl.data.members import name_fault
from diffusionmtl.errors import UserError
from diffusionmtl.files import check_plain, read_json, write_bytes_atomically

FOLDER = ".predicted"
MAX_BYTES = 1_000_000
_FRAME = re.compile(r"\d{6,}")


def digest(*parts: object) -> str:
    """A short text that differs where the parts differ; a path stands for what is in its file.

    Raises:
        UserError: a file cannot be read.
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Path):
            check_plain(part)
            try:
                with part.open("rb") as stream:
                    state.update(hashlib.file_digest(stream, "blake2b").digest())
            except OSError as error:
                raise UserError(f"{part}: cannot be read ({error.strerror or error})") from None
        else:
            state.update(f"{type(part).__name__}:{part}\x1f".encode())
    return state.hexdigest()


class Finished:
    """The records of a folder of predictions.

    Args:
        out: the folder.
        settings: `digest` of everything but the image that an answer depends on.
    """

    def __init__(self, out: Path, settings: str) -> None:
        self.settings = settings
        self._out = out
        self._used: set[str] = set()

    def name_for(self, source: Source, content: Callable[[], str]) -> str:
        """Its own, with a number if that is another file's: the same in every call.

        Args:
            content: `digest` of the file; asked for only where another file had the name.
        """
        for name in numbered(source.name):
            if as_on_any_disk(name) in self._used:
                continue
            record = self._read(name)
            if not record or source.origin == record.get("path") or content() == record.get("content"):
                self._used.add(as_on_any_disk(name))
                return name
        raise AssertionError("numbers do not end")

    def files(self, name: str, content: str) -> list[Path] | None:
        """The files of an answer that these settings gave for this content; None where it is to be predicted."""
        files = self.recorded(name, content)
        return files if files and all(file.is_file() for file in files) else None

    def recorded(self, name: str, content: str) -> list[Path]:
        """The files that such an answer had once they were all there; somebody may have removed some since."""
        record = self._read(name)
        if record.get("content") != content or record.get("settings") != self.settings:
            return []
        names = record.get("files")
        if not isinstance(names, list) or not all(isinstance(n, str) and name_fault(n) is None for n in names):
            return []
        return [self._out / name for name in names]

    def forget(self, name: str) -> None:
        """Before the files of an answer are written anew."""
        self._path(name).unlink(missing_ok=True)

    def reopen(self, name: str) -> None:
        """Whatever was answered, answer it anew, a video with its frames; names stay whose they are."""
        frames = self._path(name).with_suffix("")
        for path in [self._path(name), *(p for p in frames.glob("*.json") if _FRAME.fullmatch(p.stem))]:
            record = self._record(path)
            if record:
                write_bytes_atomically(path, _as_json({**record, "content": "", "files": []}))

    def add(self, name: str, origin: str, content: str, files: Iterable[Path]) -> None:
        """Once all files are there."""
        record = {
            "path": origin,
            "content": content,
            "settings": self.settings,
            "files": [file.relative_to(self._out).as_posix() for file in files],
        }
        write_bytes_atomically(self._path(name), _as_json(record))

    def _path(self, name: str) -> Path:
        # Names that some disk takes for each other share a record, and so get different numbers on every disk.
        return self._out / FOLDER / f"{as_on_any_disk(name)}.json"

    def _read(self, name: str) -> dict:
        return self._record(self._path(name))

    @staticmethod
    def _record(path: Path) -> dict:
        try:
            record = read_json(path, MAX_BYTES) if path.is_file() else {}
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}


def _as_json(record: dict) -> bytes:
    return json.dumps(record, ensure_ascii=False, indent=1).encode()


def link(file: Path, to: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no such thing."""
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)  # renaming one name of a file to another does nothing


def copy(file: Path, to: Path) -> None:
    """A copy that a change of the original leaves alone; never half of one."""
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(file, temporary)
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)
