"""Data packed as folders and as shards: the same samples, nothing hidden, the same bytes, whatever interrupts it."""

import hashlib
import io
import tarfile
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image

from diffusionmtl.build import build_dataset
from diffusionmtl.config import DataSettings
from diffusionmtl.data import pack as packing
from diffusionmtl.data.base import read_sample
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.loading import VisibleDataset
from diffusionmtl.data.nyud import open_nyud
from diffusionmtl.data.pack import Split, pack
from diffusionmtl.data.partition import annotations, as_found, one_label
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.data.shards import ShardsDataset, key_of, name_of
from diffusionmtl.data.transforms import Augmentation
from diffusionmtl.errors import UserError
from tests.data import miniatures
from tests.toy import TASK_NAMES, ToyDataset

PARTLY = {0: ["semseg"], 1: ["depth", "normals"], 2: [], 3: ["edge", "saliency"]}
FORMS = ("folder", "shards")


def opened(root, split="train"):
    return build_dataset(DataSettings(data=(str(root),)), split)


def digest(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


def assert_same_samples(one, other, rename=lambda name: name):
    assert tuple(map(rename, one.names)) == other.names and one.tasks == other.tasks
    for i in range(len(one)):
        assert one.annotated(i) == other.annotated(i)
        left, right = read_sample(one, i, one.annotated(i)), read_sample(other, i, other.annotated(i))
        assert torch.equal(left.image, right.image)
        for task in left.labels:
            valid = left.valid[task].as_subclass(torch.Tensor)
            assert torch.equal(valid, right.valid[task].as_subclass(torch.Tensor)), task
            a, b = (s.labels[task].as_subclass(torch.Tensor) for s in (left, right))
            assert a.dtype == b.dtype and torch.equal(a[:, valid[0]], b[:, valid[0]]), task


@pytest.fixture
def folder(tmp_path):
    """A partly labelled folder: images of two sizes and a JPEG, a label of half the size."""
    root = tmp_path / "toys"
    export_folder(root, {"train": ToyDataset(5, sizes=((24, 32), (20, 16)), annotated=PARTLY), "val": ToyDataset(2)})
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(root / "train/images/v1.2 photo.JPEG", quality=90, exif=turned)
    Image.fromarray(np.full((16, 12), 2, np.uint8)).save(root / "train/semseg/v1.2 photo.png")
    return FolderDataset.open(root, "train")


@pytest.mark.parametrize("form", FORMS)
class TestBothForms:
    def test_the_same_samples_bit_for_bit(self, folder, tmp_path, form):
        pack(tmp_path / "out", {"train": Split(folder)}, form, shard_size=2)
        assert_same_samples(folder, opened(tmp_path / "out"))

    def test_training_sees_the_same(self, folder, tmp_path, form):
        pack(tmp_path / "out", {"train": Split(folder)}, form, shard_size=4)
        seen = [
            VisibleDataset(data, as_found(annotations(data)), Augmentation((16, 16), True), seed=3)
            for data in (folder, opened(tmp_path / "out"))
        ]
        assert seen[0].indices == seen[1].indices
        for index in seen[0].indices:
            one, other = seen[0][1, index], seen[1][1, index]
            assert torch.equal(one.image, other.image) and one.labels.keys() == other.labels.keys()
            assert all(torch.equal(one.labels[t], other.labels[t]) for t in one.labels)

    def test_a_jpeg_is_its_bytes(self, folder, tmp_path, form):
        pack(tmp_path / "out", {"train": Split(folder)}, form)
        packed = opened(tmp_path / "out")
        at = packed.names.index("v1.2 photo")
        assert packed.stored(at, None).suffix == ".jpg"
        assert packed.stored(at, None).data == (folder.root / "train/images/v1.2 photo.JPEG").read_bytes()

    def test_hidden_labels_are_neither_opened_nor_written(self, tmp_path, form):
        toys = ToyDataset(6)
        partition = one_label(annotations(toys), TASK_NAMES, seed=0)
        pack(tmp_path / "out", {"train": Split(toys, partition.visible)}, form, shard_size=4)
        packed = opened(tmp_path / "out")
        assert annotations(packed) == dict(partition.visible)
        assert {(i, t) for i, name in enumerate(toys.names) for t in partition.visible[name]} == set(toys.opened)

    def test_the_same_bytes_every_time(self, folder, tmp_path, form):
        for name in ("one", "two"):
            pack(tmp_path / name, {"train": Split(folder), "val": Split(ToyDataset(2))}, form)
        assert digest(tmp_path / "one") == digest(tmp_path / "two")

    def test_nothing_else_is_left(self, folder, tmp_path, form):
        seen = []
        pack(tmp_path / "out", {"train": Split(folder)}, form, progress=lambda *at: seen.append(at))
        assert {p.name for p in (tmp_path / "out").iterdir()} == {"dataset.yaml", "train"}
        assert not list((tmp_path / "out").rglob(".*"))
        assert seen == [(k, 6) for k in range(1, 7)]

    @pytest.mark.parametrize("at", [1, 3, 5])
    def test_it_goes_on_after_an_interruption(self, folder, tmp_path, monkeypatch, form, at):
        splits = {"train": Split(folder), "val": Split(ToyDataset(2))}
        pack(tmp_path / "whole", splits, form, shard_size=2)

        def interrupt(done, total):
            if done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(tmp_path / "out", splits, form, 2, progress=interrupt)
        assert not packing.packed(tmp_path / "out")
        with pytest.raises(UserError, match="half-done pack of other data, labels or form"):
            pack(tmp_path / "out", {"train": Split(folder, {})}, form, 2)
        read = []
        monkeypatch.setattr(FolderDataset, "stored", _counting(FolderDataset.stored, read))
        pack(tmp_path / "out", splits, form, 2)
        assert digest(tmp_path / "out") == digest(tmp_path / "whole") and packing.packed(tmp_path / "out")
        assert len({index for index, _ in read}) < 6 or at == 1

    def test_a_folder_that_holds_something(self, folder, tmp_path, form):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine.txt").write_text("")
        with pytest.raises(UserError, match="exists and is not an empty folder"):
            pack(tmp_path / "out", {"train": Split(folder)}, form)
        with pytest.raises(UserError, match="is a file"):
            pack(tmp_path / "out/mine.txt", {"train": Split(folder)}, form)
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]

    def test_a_label_that_cannot_be_read(self, tmp_path, form):
        toys = ToyDataset(3, broken=[(1, "depth")])
        with pytest.raises(UserError, match="truncated"):
            pack(tmp_path / "out", {"train": Split(toys)}, form)
        assert not (tmp_path / "out/dataset.yaml").exists()
        pack(tmp_path / "other", {"train": Split(toys, {n: {"semseg"} for n in toys.names})}, form)

    @pytest.mark.parametrize("name", ["../a", "a//b", "/a", "a\\b", "a\nb", ".a", "b/.a"])
    def test_a_name_that_cannot_be_a_place(self, tmp_path, form, name):
        toys = ToyDataset(1)
        toys.names = (name,)
        with pytest.raises(UserError, match="image name"):
            pack(tmp_path / "out", {"train": Split(toys)}, form)
        assert not (tmp_path / "out").exists()

    def test_packed_data_can_be_packed(self, folder, tmp_path, form):
        pack(tmp_path / "one", {"train": Split(folder)}, "shards", 2)
        pack(tmp_path / "two", {"train": Split(opened(tmp_path / "one"))}, form)
        assert_same_samples(folder, opened(tmp_path / "two"))

    def test_joined_data(self, folder, tmp_path, form):
        joined = JoinedDataset([folder, SelectedTasks(ToyDataset(2), ["depth", "edge"])])
        pack(tmp_path / "out", {"train": Split(joined)}, form)
        packed = opened(tmp_path / "out")
        assert set(packed.names) == set(joined.names)
        assert annotations(packed) == annotations(joined)


def _counting(method, calls):
    def counted(self, index, task):
        calls.append((index, task))
        return method(self, index, task)

    return counted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("benchmark", ["pascal-context", "nyud-arrays", "nyud-pictures"])
def test_benchmarks(tmp_path, benchmark, form):
    if benchmark == "pascal-context":
        dataset = PascalContext.open(miniatures.pascal_context(tmp_path / "PASCALContext"), "val")
    else:
        make = miniatures.nyud_arrays if benchmark == "nyud-arrays" else miniatures.nyud_pictures
        dataset = open_nyud(make(tmp_path / "nyud"), "val")
    pack(tmp_path / "out", {"val": Split(dataset)}, form)
    assert_same_samples(dataset, opened(tmp_path / "out", "val"))


class TestWebDataset:
    def test_members_are_samples(self, folder, tmp_path):
        """Read as WebDataset reads: members in order, the key up to the first dot of the last part of the path."""
        pack(tmp_path / "out", {"train": Split(folder)}, "shards", 4)
        assert [p.name for p in sorted((tmp_path / "out/train").iterdir())] == ["shard-000000.tar", "shard-000001.tar"]
        order, samples = [], defaultdict(dict)
        for shard in sorted((tmp_path / "out/train").iterdir()):
            with tarfile.open(shard) as archive:
                for info in archive:
                    head, _, base = info.name.rpartition("/")
                    key, part = base.split(".", 1)
                    order.append(head + key)
                    samples[head + key][part] = archive.extractfile(info).read()
                    assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (
                        0,
                        0,
                        0,
                        "",
                        "",
                        0o644,
                    )
        assert [key for i, key in enumerate(order) if i == 0 or order[i - 1] != key] == list(map(key_of, folder.names))
        assert set(samples["image 1"]) == {"png", "depth.npy", "normals.png"}
        assert set(samples["image 2"]) == {"png"} and set(samples["v1%2E2 photo"]) == {"jpg", "semseg.png"}
        depth = np.load(io.BytesIO(samples["image 1"]["depth.npy"]))
        assert np.array_equal(depth, folder.label(1, "depth")[0].plain()[0].numpy())

    @pytest.mark.parametrize("name", ["a", "a.b", "100%", "%2E", "x/y.z", "%25.", "ü b"])
    def test_names_come_back(self, name):
        assert name_of(key_of(name)) == name and "." not in key_of(name)


class TestHostileShards:
    """Nothing in a shard reaches outside it, and damage is found when the shards are opened."""

    @pytest.fixture
    def root(self, tmp_path):
        pack(tmp_path / "out", {"train": Split(ToyDataset(3))}, "shards")
        return tmp_path / "out"

    def add(self, root, name, data=b"x", **fields):
        path = root / "train/shard-000009.tar"
        with tarfile.open(path, "a" if path.exists() else "w") as archive:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
        return path

    @pytest.mark.parametrize(
        "name", ["../a.png", "/etc/a.png", "a/../../b.png", "a\\b.png", "%2E%2E/a.png", "a\x07.png"]
    )
    def test_names_that_lead_out(self, root, name):
        self.add(root, name)
        with pytest.raises(UserError, match=r"shard-000009\.tar: the name .*; rename it"):
            ShardsDataset.open(root, "train")

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    )
    def test_what_is_no_file(self, root, kind):
        self.add(root, "a.png", type=kind, linkname="image 0.png")
        with pytest.raises(UserError, match="'a.png' is no plain file"):
            ShardsDataset.open(root, "train")

    def test_one_key_twice(self, root):
        self.add(root, "image 1.png")
        with pytest.raises(UserError, match="two images of one key"):
            ShardsDataset.open(root, "train")

    def test_one_label_twice(self, root):
        self.add(root, "image 1.semseg.png")
        with pytest.raises(UserError, match="two labels of task 'semseg' of one key"):
            ShardsDataset.open(root, "train")

    def test_a_label_without_an_image(self, root):
        self.add(root, "other.semseg.png")
        with pytest.raises(UserError, match=r"a label without an image other\.jpg"):
            ShardsDataset.open(root, "train")

    def test_what_nobody_asks_for_is_left_alone(self, root):
        for name in ("image 1.json", "image 1.caption.txt", "a/._image.png", "image 1.semseg.txt"):
            self.add(root, name)
        self.add(root, "folder", type=tarfile.DIRTYPE)
        assert len(ShardsDataset.open(root, "train")) == 3

    @pytest.mark.parametrize("keep", [0.1, 0.3, 0.5])
    def test_cut_off(self, root, keep):
        path = root / "train/shard-000000.tar"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
        with pytest.raises(UserError, match=r"shard-000000\.tar: .*(cut off|readable)"):
            ShardsDataset.open(root, "train")

    def test_cut_off_between_two_members(self, root):
        path = root / "train/shard-000000.tar"
        with tarfile.open(path) as archive:
            third = archive.getmembers()[2]
        path.write_bytes(path.read_bytes()[: third.offset])
        with pytest.raises(UserError, match="cut off"):
            ShardsDataset.open(root, "train")

    def test_damage_in_the_middle(self, root):
        path = root / "train/shard-000000.tar"
        with tarfile.open(path) as archive:
            third = archive.getmembers()[2]
        data = bytearray(path.read_bytes())
        data[third.offset : third.offset + 512] = b"?" * 512
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"shard-000000\.tar"):
            ShardsDataset.open(root, "train")

    @pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08 compressed", b"x" * 5000])
    def test_no_tar_at_all(self, root, content):
        (root / "train/shard-000000.tar").write_bytes(content)
        with pytest.raises(UserError, match=r"shard-000000\.tar"):
            ShardsDataset.open(root, "train")

    def test_a_bad_image_or_label_names_shard_and_member(self, root):
        self.add(root, "bad.png", b"no picture")
        self.add(root, "bad.depth.npy", b"no array")
        dataset = ShardsDataset.open(root, "train")
        at = dataset.names.index("bad")
        with pytest.raises(UserError, match=r"shard-000009\.tar: bad\.png: not a readable image"):
            dataset.image(at)
        with pytest.raises(UserError, match=r"shard-000009\.tar: bad\.depth\.npy: "):
            dataset.stored_label(at, "depth")

    def test_a_label_of_another_picture(self, root):
        stream = io.BytesIO()
        Image.fromarray(np.zeros((9, 40), np.uint8)).save(stream, format="PNG")
        self.add(root, "image 9.png", stream.getvalue())
        stream = io.BytesIO()
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(stream, format="PNG")
        self.add(root, "image 9.semseg.png", stream.getvalue())
        dataset = ShardsDataset.open(root, "train")
        with pytest.raises(UserError, match=r"image 9\.semseg\.png: .* 9x9 and its image .* 9x40"):
            dataset.label(3, "semseg")

    def test_a_shard_that_shrinks_while_it_is_read(self, root):
        dataset = ShardsDataset.open(root, "train")
        (root / "train/shard-000000.tar").write_bytes(b"")
        with pytest.raises(UserError, match="became shorter"):
            dataset.image(0)
        (root / "train/shard-000000.tar").unlink()
        with pytest.raises(UserError, match="cannot be read"):
            dataset.image(0)

    def test_members_larger_than_any_image_are_not_read(self, root):
        self.add(root, "huge.png", b"\0" * (1 << 21))
        dataset = ShardsDataset.open(root, "train", max_pixels=1000)
        with pytest.raises(UserError, match="more than the limit"):
            dataset.image(dataset.names.index("huge"))

    def test_another_split(self, root):
        with pytest.raises(UserError, match="no split 'trian'.*Did you mean 'train'"):
            ShardsDataset.open(root, "trian")
