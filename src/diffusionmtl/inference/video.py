"""Frames of a video, one at a time, and a video of pictures. Needs the extra `video` (PyAV)."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import MAX_PIXELS, check_plain

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Playlists, which ffmpeg would follow to other files and to the network, are none of these.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_ONLY_THIS_FILE = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
_WIDEST = 960


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video:
    """A video file, opened for reading; a context.

    Attributes:
        rate: frames per second.
        length: frames as the header says, 0 if it does not.

    Raises:
        UserError: PyAV is missing, the file is no video, or its frames have more than `max_pixels` pixels.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self._path, self._max_pixels = path, max_pixels
        self._av = _pyav(path)
        check_plain(path)
        try:
            self._container = self._av.open(str(path), options=_ONLY_THIS_FILE)
        except (OSError, ValueError, ArithmeticError, self._av.FFmpegError) as error:
            # FFmpeg makes room for 2 GB at most at a time: no lack of memory, but a file that claims too much.
            said = "it asks for more room than a video takes" if isinstance(error, MemoryError) else in_one_line(error)
            raise UserError(f"{path}: not a readable video ({said}); replace or remove it") from None
        if not self._container.streams.video:
            self._container.close()
            raise UserError(f"{path}: holds no pictures; replace or remove it")
        stream = self._container.streams.video[0]
        if stream.codec_context is None:
            self._container.close()
            raise UserError(f"{path}: its pictures are coded in a way that is not known here; convert it")
        self.rate = Fraction(stream.average_rate or 25)
        self.length = int(stream.frames or 0)
        self._check(stream.width or 0, stream.height or 0)
        # Frames may be larger than the header says: the decoder refuses them before it makes room for them.
        stream.codec_context.options = {"max_pixels": str(max_pixels)}

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def frames(self, every: int = 1) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """Number, from 0, and pixels of each `every`-th frame, upright.

        Raises:
            UserError: the file ends in the middle of a frame or a frame is damaged; those before it have been given.
        """
        number = -1
        try:
            for number, frame in enumerate(self._container.decode(video=0)):
                if number % every == 0:
                    self._check(frame.width, frame.height)
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    yield number, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
        except (OSError, ValueError, self._av.FFmpegError) as error:
            raise UserError(
                f"{self._path}: damaged after {number + 1} frames ({in_one_line(error)}); mend or shorten it"
            ) from None
        if number < 0:
            raise UserError(f"{self._path}: not a single frame can be read; replace or remove it")

    def _check(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            self._container.close()
            raise UserError(
                f"{self._path}: frames of {height}x{width} pixels (height x width) are more than the limit of "
                f"{self._max_pixels:,}; resize it or raise --max-pixels"
            )


def write_video(path: Path, pictures: Iterable[Image.Image], rate: Fraction) -> None:
    """Write pictures of one size as an MP4, shrunk to a width of 960 pixels if they are wider."""
    av = _pyav(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream: Any = None
            for picture in pictures:
                if stream is None:
                    stream = container.add_stream(_codec(av), rate=rate)
                    stream.width, stream.height = _even(picture.size)
                    stream.pix_fmt = "yuv420p"
                small = picture.resize((stream.width, stream.height), Image.Resampling.BILINEAR)
                container.mux(stream.encode(av.VideoFrame.from_image(small)))
            if stream is not None:
                container.mux(stream.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _even(size: tuple[int, int]) -> tuple[int, int]:
    """W, H as the codec takes them: even."""
    scale = min(1.0, _WIDEST / size[0])
    width, height = (max(2, round(n * scale / 2) * 2) for n in size)
    return width, height


def _codec(av: Any) -> str:
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


def _pyav(path: Path) -> Any:
    try:
        import av  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError:
        raise UserError(f"{path}: videos need PyAV: pip install 'diffusionmtl[video]'") from None
    av.logging.set_level(av.logging.PANIC)  # pyright: ignore[reportPrivateImportUsage]
    return av
