"""A run in one zip file, and the way back, which trusts no name and no size in the file."""

import errno
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import check_plain
from diffusionmtl.sharing.contents import LIST, MAX_LIST, Entry, check_files, read_list

MAX_MEMBERS = 1000
# Text shrinks to a tenth and weights hardly at all; a file that swells further was made to fill disks.
MAX_SWELLING = 100
_ALWAYS_FINE = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
# Other packings unpack a whole chunk at once, however much comes of it.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def write_archive(folder: Path, names: Iterable[str], path: Path, root: str) -> None:
    """Zip the files of a folder below the name `root`; the same files give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted([LIST, *names]):
                about = zipfile.ZipInfo(f"{root}/{name}", _EPOCH)
                about.external_attr = (stat.S_IFREG | 0o644) << 16
                stored = name.endswith(".safetensors")
                about.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                with (folder / name).open("rb") as source, archive.open(about, "w", force_zip64=stored) as target:
                    shutil.copyfileobj(source, target, _CHUNK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def opened_archive(path: Path) -> Iterator["Archive"]:
    """A zipped run of which nothing but the list of its files has been unpacked.

    Raises:
        UserError: missing, damaged, not a zipped run, or made to do harm.
    """
    check_plain(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    with stream:
        with _readable(path):
            archive = Archive(path, zipfile.ZipFile(stream))
        yield archive


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    except OSError as error:
        # What a member's place before the beginning of the file leads to; a full disk is no fault of the archive.
        if error.errno != errno.EINVAL:
            raise
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable zip file ({in_one_line(error, 100)}); get it anew")


class Archive:
    """What is in a zipped run.

    Attributes:
        files: by name below the run folder, as its list promises and with the sizes that the zip gives them.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._members = self._regular_members()
        lists = [name for name in self._members if name.rpartition("/")[2] == LIST and name.count("/") <= 1]
        if len(lists) != 1:
            raise UserError(f"{path}: not a run that 'diffusionmtl share' wrote (no {LIST} in it)")
        self._root = lists[0].removesuffix(LIST)
        self._check_plain(LIST, self._members[lists[0]])
        if self._members[lists[0]].file_size > MAX_LIST:
            raise UserError(f"{path}: {LIST} is too large to be a list of files; do not trust it")
        with archive.open(lists[0]) as stream:
            self.files = read_list(stream.read(MAX_LIST + 1), str(path))
        self._check_sizes()

    def unpack(self, folder: Path, names: Sequence[str] | None = None) -> None:
        """Write files into an empty folder, all of them if `names` is None, and compare them with the list.

        Raises:
            UserError: one is damaged.
        """
        chosen = list(self.files) if names is None else names
        for name in chosen:
            target = folder / name  # only names that `contents` knows get here
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                _readable(self._path),
                self._archive.open(self._members[self._root + name]) as source,
                target.open("xb") as stream,
            ):
                _copy_exactly(cast(BufferedIOBase, source), stream, self.files[name].size)
        check_files(folder, self.files, str(self._path), chosen)

    def _regular_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        infos = self._archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise UserError(f"{self._path}: {len(infos):,} files, a zipped run has a dozen; do not trust it")
        for info in infos:
            if info.filename in members:
                raise UserError(f"{self._path}: holds {info.filename[:80]!r} twice; do not trust it")
            members[info.filename] = info
        return members

    def _check_sizes(self) -> None:
        for name, entry in self.files.items():
            member = self._members.get(self._root + name)
            if member is None:
                raise UserError(f"{self._path}: {name} is missing; get it anew")
            self._check_plain(name, member)
            if member.file_size != entry.size:
                raise UserError(f"{self._path}: {name} is not as long as {LIST} says; get it anew")
        total = sum(entry.size for entry in self.files.values())
        if total > MAX_SWELLING * self._path.stat().st_size + _ALWAYS_FINE:
            raise UserError(f"{self._path}: would swell to {total:,} bytes; do not trust it")

    def _check_plain(self, name: str, member: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or member.flag_bits & 1:
            raise UserError(f"{self._path}: {name} is a link or encrypted, not a plain file; do not trust it")
        if member.compress_type not in _PACKINGS:
            raise UserError(f"{self._path}: {name} is packed as 'diffusionmtl share' never does; do not trust it")


def unpack_archive(path: Path, out: Path) -> dict[str, Entry]:
    """Make a run folder of a zipped run: all of it or nothing.

    Raises:
        UserError: as `opened_archive`, or a file is damaged.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with opened_archive(path) as archive, tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        whole = Path(place) / "run"
        whole.mkdir()
        archive.unpack(whole)
        whole.replace(out)
        return archive.files


def _copy_exactly(source: BufferedIOBase, target: BufferedIOBase, size: int) -> None:
    """As many bytes as were promised: a stream that goes on is cut, and found out by its digest."""
    while size > 0 and (chunk := source.read(min(_CHUNK, size))):
        target.write(chunk)
        size -= len(chunk)
