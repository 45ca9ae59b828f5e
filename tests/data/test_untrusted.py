"""Pipes, devices, bombs and layouts that lie are refused in one line before they cost time or memory."""

import contextlib
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from diffusionmtl import files
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.data.matlab import read_label_map
from diffusionmtl.data.members import members, name_fault
from diffusionmtl.data.partition import Partition
from diffusionmtl.errors import UserError
from diffusionmtl.headers import SizedFile
from diffusionmtl.inference.per_image import load_per_image
from diffusionmtl.models.origin import backbone_origin
from diffusionmtl.models.pretrained import read_plain_checkpoint, read_tensors
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.sharing.archive import unpack_archive
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals, normals
from tests.toy import TASKS, ToyDataset

READERS = {
    "picture": files.read_image,
    "size": files.image_size,
    "label": files.read_label_picture,
    "array": files.read_array,
    "settings": read_yaml,
    "map": read_label_map,
    "checkpoint": read_plain_checkpoint,
    "weights": read_tensors,
    "scores": load_per_image,
    "shard": lambda path: list(members(path)),
    "partition": lambda path: Partition.load(path, ToyDataset(2)),
    "list": lambda path: listed_images(path, ToyDataset(2)),
    "json": files.read_json,
    "shared run": lambda path: unpack_archive(path, path.with_name("out")),
    "backbone": lambda path: backbone_origin(changed(Settings(), backbone_weights=str(path)).network),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_only_ordinary_files_are_opened(tmp_path, reader, kind):
    path = tmp_path / "input.bin"
    if kind == "pipe":
        os.mkfifo(path)  # to open it would wait for ever
    elif kind == "device":
        path.symlink_to("/dev/zero")  # its size is 0 and it never ends
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UserError) as raised:
        READERS[reader](path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_message_is_one_line_whatever_files_are_called():
    error = UserError("a\nb\x1b[31m\udcff é.png: wrong")
    assert str(error) == "a\\nb\\x1b[31m\\udcff é.png: wrong"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_labels_obey_the_limit_on_pixels(tmp_path, task):
    value = torch.zeros(task.label_channels, 10, 10)
    value[-1] = 1
    for path in task.write(tmp_path / "a", value):
        picture = path.suffix != ".npy"
        enough = 100 if picture else 100 * np.load(path)[0, 0].nbytes // 8
        assert task.read(path, enough)[0].shape[-2:] == (10, 10)
        with pytest.raises(
            UserError, match="more than the limit of 99; resize it" if picture else "raise --max-pixels"
        ):
            task.read(path, enough - 1)


LOWER = ", lower than --max-pixels as it takes more memory than others"


@pytest.mark.parametrize(
    ("read", "options", "limits"),
    [
        (files.read_image, {"format": "PNG"}, (12, 120, 360)),
        (files.read_image, {"format": "JPEG"}, (12, 120, 360)),
        (files.read_image, {"format": "JPEG", "progressive": True}, (12, 60, 180)),
        (files.read_image, {"format": "WEBP", "lossless": True}, (12, 40, 120)),
        (files.read_label_picture, {"format": "PNG"}, (12, 60, 180)),
        (files.read_label_picture, {"format": "WEBP", "lossless": True}, (12, 20, 60)),
    ],
    ids=["png", "jpeg", "progressive", "webp", "label", "webp label"],
)
def test_pictures_that_take_more_memory_may_have_fewer_pixels(tmp_path, monkeypatch, read, options, limits):
    """Where many are allowed; who asks for few gets these few of any picture."""
    monkeypatch.setattr(files, "MAX_PIXELS", 120)
    path = tmp_path / "a.image"
    for asked, limit in zip((12, 120, 360), limits, strict=True):
        for width, fits in ((limit, True), (limit + 1, False)):
            Image.new("RGB", (width, 1)).save(path, **options)
            if fits:
                assert read(path, asked).shape == (1, width, 3)
            else:
                says = rf"a\.image: 1x{width} pixels .* the limit of {limit}{LOWER if limit < asked else ''}; resize it"
                with pytest.raises(UserError, match=says):
                    read(path, asked)


@pytest.mark.parametrize(
    "options",
    [{"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00"}],
    ids=["VP8L", "VP8", "VP8X"],
)
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (16383, 2)])
def test_a_webp_is_measured_before_its_decoder_makes_room_for_it(tmp_path, monkeypatch, options, size):
    path = tmp_path / "a.webp"
    Image.new("RGB", size).save(path, "WEBP", **options)
    assert files.image_size(path) == size[::-1]
    monkeypatch.setattr(files, "_open_header", lambda path: pytest.fail("opened"))
    width, height = size
    with pytest.raises(UserError, match=f"{height}x{width} pixels"):
        files.image_size(path, width * height - 1)


def test_the_smallest_webp_is_measured_too(tmp_path, monkeypatch):
    """28 bytes hold a picture of one colour, however large."""
    width, height = 16383, 5
    bits = 0x2F | width - 1 << 8 | height - 1 << 22
    bits |= sum(
        1 << 40 + 3 + 4 * code for code in range(5)
    )  # nothing transformed; five codes of one symbol, which is 0
    data = bits.to_bytes(8, "little")
    content = b"WEBPVP8L" + len(data).to_bytes(4, "little") + data
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + len(content).to_bytes(4, "little") + content)
    assert path.stat().st_size == 28 and files.read_image(path).shape == (height, width, 3)
    monkeypatch.setattr(files, "_open_header", lambda path: pytest.fail("opened"))
    with pytest.raises(UserError, match="5x16383 pixels"):
        files.read_image(path, width * height - 1)


def test_a_picture_may_ask_for_no_more_room_than_its_file_has(tmp_path):
    """The first bytes of its pixels claim to be four gigabytes; Pillow would make room for these to pass them over."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    at = content.index(b"IDAT")
    content[at - 4 : at] = b"\xff" * 4
    (tmp_path / "a.png").write_bytes(content)
    with SizedFile(tmp_path / "a.png") as sized:
        assert sized.read(1 << 40) == bytes(content) and sized.read() == sized.read(9) == b""
        sized.seek(1)
        assert sized.read(3) == b"PNG"
    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            files.read_image(tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fill", [b"", b"\xff", b"\x00\xff\x00"], ids=["plain", "filled", "rubbish"])
def test_a_jpeg_that_draws_one_colour_after_the_other_counts_as_progressive(tmp_path, monkeypatch, fill):
    """Its decoder keeps all numbers until the last scan, as that of a progressive one does."""
    stream = io.BytesIO()
    Image.new("RGB", (12, 10)).save(stream, "JPEG", subsampling=0)
    at_once = stream.getvalue()
    first = at_once.index(b"\xff\xda")
    apart = [
        b"\xff\xda\x00\x08\x01" + bytes([colour, table, 0, 63, 0, 0, 0]) for colour, table in ((1, 0), (2, 17), (3, 17))
    ]
    monkeypatch.setattr(files, "MAX_PIXELS", 120)
    path = tmp_path / "a.jpg"
    path.write_bytes(at_once)
    assert files.read_image(path, 120).shape == (10, 12, 3)
    path.write_bytes(at_once[:first] + fill + b"".join(apart) + b"\xff\xd9")
    assert files.read_image(path, 240).shape == (10, 12, 3)
    with pytest.raises(UserError, match="10x12 pixels .* the limit of 60, lower than --max-pixels"):
        files.image_size(path, 120)


@pytest.mark.parametrize(("name", "fits"), [("a" * 255, True), ("ä" * 128, False), ("a/" * 1024 + "b", False)])
def test_names_that_no_disk_takes(name, fits):
    assert (name_fault(name) is None) == fits


def test_a_jpeg_that_draws_itself_again_and_again(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    for scans, fits in ((80, True), (200, False)):
        (tmp_path / "a.jpg").write_bytes(whole[:last] + scans * whole[last:-2] + whole[-2:])
        if fits:
            assert not files.read_image(tmp_path / "a.jpg").any()
        else:
            with pytest.raises(UserError, match=r"a\.jpg: a JPEG of more than 100 scans"):
                files.read_image(tmp_path / "a.jpg")


MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I", "F", "CMYK")


@pytest.mark.parametrize("mode", MODES)
def test_pictures_read_in_pieces_are_the_same(tmp_path, monkeypatch, mode):
    numbers = np.random.default_rng(0).integers(0, 256, (7, 11, 4), dtype=np.uint8)
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        picture = Image.fromarray(numbers[..., 0].astype(kind) * 200)
    else:
        picture = Image.fromarray(numbers).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode)
    path = tmp_path / "a.tif"
    picture.save(path)
    whole, label = files.read_image(path), files.read_label_picture(path) if mode != "CMYK" else None
    for piece in (1, 5, 11, 30):
        monkeypatch.setattr(files, "_BAND", piece)
        np.testing.assert_array_equal(files.read_image(path), whole)
        if label is not None:
            again = files.read_label_picture(path)
            assert again.dtype == label.dtype
            np.testing.assert_array_equal(again, label)


def test_normals_read_in_pieces_are_the_same(tmp_path, monkeypatch):
    raw = np.random.default_rng(0).normal(size=(5, 7, 3))
    raw[0, 0], raw[1, 1, 2], raw[2, 2, 0] = 0, np.nan, 1e30
    np.save(tmp_path / "a.npy", raw)
    for frame in ("opengl", "opencv"):
        task = SurfaceNormals("normals", frame=frame)
        monkeypatch.setattr(normals, "_PIECE", 1 << 16)
        label, valid = task.read(tmp_path / "a.npy")
        assert (~valid).sum() == 3 and torch.allclose(label[:, valid[0]].norm(dim=0), torch.ones(32))
        monkeypatch.setattr(normals, "_PIECE", 4)
        again, where = task.read(tmp_path / "a.npy")
        assert torch.equal(again, label) and torch.equal(where, valid)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize(("classes", "ignore"), [(2, 255), (300, 65535), (2, -1)])
def test_class_maps_of_any_whole_numbers(tmp_path, dtype, classes, ignore):
    task = SemanticSegmentation("semseg", classes=tuple(f"c{i}" for i in range(classes)), ignore=ignore)
    values = np.array([[0, 1], [1, 0]]).astype(dtype)
    fits = dtype is not np.bool_ and np.iinfo(dtype).min <= ignore <= np.iinfo(dtype).max
    if fits:
        values[0, 0] = ignore
    np.save(tmp_path / "a.npy", values)
    label, valid = task.read(tmp_path / "a.npy")
    assert label.dtype == task.label_dtype
    assert label[0].tolist() == [[0, 1], [1, 0]]
    assert valid[0].tolist() == [[not fits, True], [True, True]]


def saved(content: dict, **options) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, content, **options)
    return stream.getvalue()


class TestMatlab:
    def refused(self, tmp_path, content: bytes, says: str) -> None:
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(UserError, match=rf"a\.mat: .*{says}"):
            read_label_map(tmp_path / "a.mat")

    def test_a_bomb(self, tmp_path, monkeypatch):
        monkeypatch.setattr("diffusionmtl.data.matlab.MAX_UNPACKED", 100_000)
        content = saved({"LabelMap": np.zeros((1000, 1000), np.uint8)}, do_compression=True)
        assert len(content) < 5000
        self.refused(tmp_path, content, "unpacks to too much")

    def test_sizes_that_lie(self, tmp_path):
        content = saved({"LabelMap": np.full((4, 5), 7, np.uint8)})
        sides = struct.pack("<ii", 4, 5)
        assert content.count(sides) == 1
        self.refused(
            tmp_path, content.replace(sides, struct.pack("<ii", 40_000, 50_000)), "claims 2,000,000,000 elements"
        )

    def test_text_of_any_length(self, tmp_path):
        """Its decoder fills what a text claims to be with blanks."""
        content = saved({"LabelMap": "x"})
        at = content.index(struct.pack("<ii", 1, 1))
        self.refused(
            tmp_path, content[:at] + struct.pack("<ii", 30_000, 30_000) + content[at + 8 :], "claims 900,000,000"
        )

    def test_arrays_within_arrays_without_end(self, tmp_path):
        """Followed to the bottom, they would overflow the stack of the decoder, which is not Python's."""
        head = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<II", 1, 0)
        cell = b""
        for _ in range(50_000):
            if len(cell) > 1_000_000:
                break
            cell = struct.pack("<II", 14, len(head) + len(cell)) + head + cell
        self.refused(tmp_path, saved({})[:128] + cell, "too deep|fields and has")

    @pytest.mark.parametrize("keep", [0, 100, 130, 150, -9])
    def test_cut_off(self, tmp_path, keep):
        content = saved({"LabelMap": np.zeros((9, 9), np.uint8)}, do_compression=True)
        self.refused(tmp_path, content[:keep], "")


class TestShards:
    def tar(self, tmp_path, headers: bytes):
        (tmp_path / "a.tar").write_bytes(headers + bytes(1024))
        return tmp_path / "a.tar"

    def header(self, kind: bytes, size: int) -> bytes:
        data = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
        data[156:157] = kind
        data[124:136] = (256**12 + size if size < 0 else size).to_bytes(12, "big")
        data[124] = 0xFF if size < 0 else 0x80
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data)
        return bytes(data)

    @pytest.mark.parametrize(
        "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_LONGNAME, b"~"]
    )
    def test_negative_sizes(self, tmp_path, kind):
        """The standard library would read the same header for ever."""
        with pytest.raises(UserError, match=r"a\.tar"):
            list(members(self.tar(tmp_path, self.header(tarfile.REGTYPE, 0) * 2 + self.header(kind, -1024))))

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_notes_without_end(self, tmp_path, kind):
        with pytest.raises(UserError, match="notes of 1,073,741,824 bytes"):
            list(members(self.tar(tmp_path, self.header(kind, 1 << 30))))


class TestCheckpoints:
    def test_an_archive_that_unpacks_to_more_than_it_has(self, tmp_path):
        path, bomb = tmp_path / "a.pth", tmp_path / "bomb.pth"
        torch.save({"w": torch.zeros(300_000)}, path)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        assert bomb.stat().st_size < 20_000
        with pytest.raises(UserError, match=r"bomb\.pth: .*unpacks to 1,2.*more than it has"):
            read_plain_checkpoint(bomb)
        assert read_plain_checkpoint(path)["w"].shape == (300_000,)

    def test_a_tensor_of_any_shape_from_a_few_bytes(self, tmp_path):
        path = tmp_path / "a.pth"
        torch.save({"w": torch.zeros(1).expand(40_000, 50_000)}, path)
        with pytest.raises(UserError, match=r"a\.pth: a tensor claims to be \[40000, 50000\]"):
            read_plain_checkpoint(path)
        torch.save({"w": [torch.sparse_coo_tensor(size=(10**6, 10**6))]}, path)
        with pytest.raises(UserError, match="not plain"):
            read_plain_checkpoint(path)

    def test_weights_that_share_memory_are_no_lie(self, tmp_path):
        shared = torch.arange(1000.0)
        torch.save({"a": shared, "b": shared[10:20], "c": shared.view(10, 100)}, tmp_path / "a.pth")
        assert set(read_plain_checkpoint(tmp_path / "a.pth")) == {"a", "b", "c"}

    def test_scores_that_unpack_to_too_much(self, tmp_path, monkeypatch):
        monkeypatch.setattr("diffusionmtl.inference.per_image.MAX_BYTES", 1000)
        np.savez_compressed(tmp_path / "a.npz", **{"final/d/images": np.zeros(10_000)})
        with pytest.raises(UserError, match="not the scores per image"):
            load_per_image(tmp_path / "a.npz")


def test_a_picture_of_one_row(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" + bytes(16_000))
    head = struct.pack(">IIBBBBB", 16_000, 1, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content + b"PK\x03\x04 and a zip archive behind it")
    assert files.read_image(tmp_path / "a.png").shape == (1, 16_000, 3)
    assert not Depth("d").read(tmp_path / "a.png")[1].any()
