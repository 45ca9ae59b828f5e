"""Videos frame by frame; what is no video is a mistake in one line."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.errors import UserError
from diffusionmtl.inference import video
from diffusionmtl.inference.video import Video, is_video, write_video

av = pytest.importorskip("av")


def frames(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Grey, one step brighter each."""
    return [Image.new("RGB", size, (20 * i, 20 * i, 20 * i)) for i in range(count)]


def test_frames_come_back(tmp_path):
    path = tmp_path / "clip é.mp4"
    write_video(path, iter(frames(9)), Fraction(10))
    assert [p.name for p in tmp_path.iterdir()] == ["clip é.mp4"]
    with Video(path) as clip:
        assert (clip.rate, clip.length) == (10, 9)
        found = list(clip.frames(every=4))
    assert [number for number, _ in found] == [0, 4, 8]
    for number, pixels in found:
        assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
        assert abs(pixels.mean() - 20 * number) < 6


def test_a_video_is_small_and_even(tmp_path):
    write_video(tmp_path / "a.mp4", frames(2, (1921, 301)), Fraction(5))
    with Video(tmp_path / "a.mp4") as clip:
        assert next(clip.frames())[1].shape == (150, 960, 3)


def test_what_is_no_video_is_refused(tmp_path, monkeypatch):
    good, cut, text = (tmp_path / name for name in ("good.mp4", "cut.mp4", "list.mp4"))
    write_video(good, frames(12), Fraction(10))
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    # A playlist would make the decoder open whatever it names.
    text.write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")
    for path in (cut, text, tmp_path / "nowhere.mp4"):
        with pytest.raises(UserError, match=path.name), Video(path) as clip:
            list(clip.frames())
    with pytest.raises(UserError, match="--max-pixels"):
        Video(good, max_pixels=64 * 48 - 1)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"diffusionmtl\[video\]"):
        Video(good)


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for picture in frames(6):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    seen = []
    try:
        with Video(path) as clip:
            seen += [number for number, _ in clip.frames()]
    except UserError as error:
        assert "damaged after" in str(error)
    assert 0 < len(seen) < 6


def test_names(tmp_path):
    assert is_video(tmp_path / "a.MP4") and not is_video(tmp_path / "a.jpg")
    assert video.VIDEO_SUFFIXES
