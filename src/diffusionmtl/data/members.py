"""What lies in a tar file, found without unpacking it, and names that such a file may hold."""

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from diffusionmtl import files
from diffusionmtl.errors import UserError, in_one_line

_LONGEST, _LONGEST_PATH = 255, 2048
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
_BLOCK = 512
_MAX_NOTE = 1 << 16
_NOTES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True)
class Member:
    """A file in a tar file: its bytes are `tar[offset : offset + size]`."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}: {self.name}"

    def read(self, limit: int) -> bytes:
        """The bytes.

        Raises:
            UserError: more than `limit`, or the tar file is not what it was.
        """
        if self.size > limit:
            raise UserError(f"{self}: {self.size:,} bytes are more than the limit of {limit:,}; raise --max-pixels")
        try:
            with self.tar.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise UserError(f"{self}: cannot be read ({error.strerror or error})") from None
        if len(data) != self.size:
            raise UserError(f"{self.tar}: became shorter while it was in use; pack it again")
        return data

    @contextmanager
    def unpacked(self, limit: int) -> Iterator[Path]:
        """The bytes as a file that goes away again: tasks of any kind read files. Errors name the member instead.

        Raises:
            UserError: as `read`, and whatever is raised inside.
        """
        with TemporaryDirectory(prefix="diffusionmtl-") as folder:
            path = Path(folder) / f"member{Path(self.name).suffix}"
            path.write_bytes(self.read(limit))
            try:
                yield path
            except UserError as error:
                raise UserError(str(error).replace(str(path), str(self))) from None


def members(tar: Path) -> Iterator[Member]:
    """Every file in a tar file, in order; hidden ones are left out, folders too.

    Raises:
        UserError: not a plain tar file, or one that was cut off; a link, a device or a sparse file in it; a name that
            leads out of it.
    """
    try:
        size = files.check_plain(tar)
        with tarfile.open(tar, "r:", tarinfo=_Header) as archive:
            end = 0
            for info in archive:
                end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK * info.isreg()
                _check(tar, info, size)
                if info.isreg() and not info.name.rsplit("/", 1)[-1].startswith("."):
                    yield Member(tar, info.name, info.offset_data, info.size)
        _check_end(tar, end)
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError) as error:
        said = in_one_line(error, 120)
        raise UserError(f"{tar}: not a readable tar file ({said}); uncompressed shards are expected") from None


class _Header(tarfile.TarInfo):
    """A header that cannot make the standard library read gigabytes of notes or walk backwards for ever."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.HeaderError("a member of negative size")
        if self.type in _NOTES and self.size > _MAX_NOTE:
            raise tarfile.HeaderError(f"notes of {self.size:,} bytes about a member")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue]


def _check(tar: Path, info: tarfile.TarInfo, size: int) -> None:
    if info.size < 0:
        raise UserError(f"{tar}: {info.name[:120]!r} has a negative size; take it out")
    if info.isdir():
        return
    if not info.isreg() or info.issparse():
        raise UserError(f"{tar}: {info.name[:120]!r} is no plain file (a link or a device?); take it out")
    if fault := name_fault(info.name):
        raise UserError(f"{tar}: the name {info.name[:120]!r} {fault}; rename it")
    if info.offset_data + info.size > size:
        raise UserError(f"{tar}: cut off in the middle of {info.name}; copy or pack it again")


def _check_end(tar: Path, end: int) -> None:
    # The standard library takes whatever is no header for the end, so damage would hide all that follows it.
    with tar.open("rb") as stream:
        stream.seek(end)
        block = stream.read(_BLOCK)
    if len(block) < _BLOCK or block.strip(b"\0"):
        raise UserError(f"{tar}: cut off or damaged after {end:,} bytes; copy or pack it again")


def name_fault(name: str) -> str | None:
    """What keeps a word with slashes from being a place below a folder; None if nothing."""
    if _UNSAFE.search(name):
        return "holds a control character or a backslash"
    if any("\ud800" <= c <= "\udfff" for c in name):
        return "is no text in UTF-8"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "leads out of its folder or is empty"
    if any(len(part.encode()) > _LONGEST for part in name.split("/")) or len(name.encode()) > _LONGEST_PATH:
        return f"is longer than disks take ({_LONGEST} bytes, {_LONGEST_PATH:,} with its folders)"
    return None
