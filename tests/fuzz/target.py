"""What a target of the fuzzer is: a reader of files that nobody vouches for, and good files of its kind to start from.

A target reads one file, and raises nothing but `UserError`. Its seeds are made from numbers, not kept.
"""

import io
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diffusionmtl.errors import UserError

H, W = 6, 8
YAML = (
    "tasks:\n  semseg: {kind: segmentation, classes: [road, car], ignore: 255}\n  depth: {kind: depth, scale: 0.001}\n"
)
TEXT = (b"..", b"/etc/passwd", b"\x00", b"\xff", b"9" * 5000, b"1e999", b"-1", b"\xf0\x9f\x98\x80", b"\x1b[31m")
NPY = tuple(b"|O~<f8~>i8~|b1~<c16~|V8~(-1,~(99999999999,~True~()~'<U9'~(3,)f4".split(b"~"))


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the target.
        place: below a scratch folder, where the file to read is put.
        seeds: the bytes of good files.
        read: reads it, given the scratch folder.
        words: what is worth putting into such a file.
        form: `png`, `tar`, `zip` or nothing: how what was changed is made to look whole again.
    """

    name: str
    place: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    words: tuple[bytes, ...] = ()
    form: str = ""


def attempt(target: Target, folder: Path, content: bytes) -> bool:
    """Read these bytes; whether they were taken. Anything but `UserError` passes through.

    A message must be one line that can be printed, and want of memory is no reason to refuse: the limit is the
    fuzzer's, and elsewhere the reader would have taken all there is.
    """
    path = folder / target.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        target.read(folder)
    except UserError as error:
        _judge(error)
        return False
    return True


def each(*calls: Callable[[], object]) -> None:
    """All of them, though one refuses; refused is what all refuse."""
    taken, last = 0, len(calls) - 1
    for number, call in enumerate(calls):
        try:
            call()
            taken += 1
        except UserError as error:  # not kept for later: it holds on to its frames, and these to large pictures
            _judge(error)
            if number == last and not taken:
                raise


def picture(array: np.ndarray, form: str, **options) -> bytes:
    """The bytes of a picture file."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format=form, **options)
    return stream.getvalue()


def colours() -> np.ndarray:
    """A small picture, `[H W 3]`."""
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    """The bytes of a `.npy` file, of Python objects too."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _judge(error: UserError) -> None:
    text = str(error)
    if "\n" in text or not text.isprintable():
        raise AssertionError(f"not one printable line: {text!r}") from error
    if any(_wants_memory(reason) for reason in _reasons(error)):
        raise AssertionError(f"refused for want of memory alone: {text}") from error


def _room(size: int) -> bool:
    try:
        mmap.mmap(-1, size).close()
        return True
    except OSError:
        return False


def _reasons(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def _wants_memory(error: BaseException) -> bool:
    if type(error).__module__.startswith("av."):  # FFmpeg refuses by itself to make room for 2 GB at once
        return isinstance(error, MemoryError) and not _room(1 << 31)
    # torch says it in words: "DefaultCPUAllocator: can't allocate memory".
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
