"""Published partitions, read from files of the same form, and files that only look like them."""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.data import published_partitions as pp
from diffusionmtl.data.cityscapes import open_cityscapes
from diffusionmtl.data.nyud import open_nyud
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.data.pascal_context import PascalContext
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.errors import UserError
from tests.data import miniatures as m

IDS = m.IDS["train"]
VISIBLE = {IDS[0]: {"human_parts", "sal"}, IDS[1]: {"edge"}, IDS[2]: {"semseg", "normals", "sal"}}
ORDER = ("semseg", "human_parts", "sal", "normals", "edge")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    m.pascal_context(root / "PASCALContext")
    m.nyud_arrays(root / "nyuv2")
    m.cityscapes_arrays(root / "cityscapes2")
    return root


@pytest.fixture(scope="module")
def pascal(root) -> PascalContext:
    return PascalContext.open(root, "train")


def lists() -> dict[str, list]:
    """As `onelabel.npy` and `randomlabels.npy` hold it."""
    order = ("human_parts", "edge", "semseg", "normals", "sal")
    return {task: [np.str_(name) for name in reversed(IDS) if task in VISIBLE[name]] for task in order}


def masks() -> dict:
    """As `new_onelabel.pth` and `new_randomlabels.pth` hold it."""
    return {np.str_(name): [int(task in VISIBLE[name]) for task in ORDER] for name in IDS}


def as_npy(content: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(content, dtype=object), allow_pickle=True)
    return stream.getvalue()


def as_torch(content: object, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def older(npy: bytes, protocol: int) -> bytes:
    """The same as numpy 1 wrote it: another pickle protocol, and numpy's older name of its core."""
    stream = io.BytesIO(npy)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    array = np.load(io.BytesIO(npy), allow_pickle=True)
    pickled = pickle.dumps(array, protocol=protocol).replace(b"numpy._core", b"numpy.core")
    return npy[: stream.tell()] + pickled


FORMS = {
    "onelabel.npy": as_npy(lists()),
    "protocol2.npy": older(as_npy(lists()), 2),
    "protocol3.npy": older(as_npy(lists()), 3),
    "new_onelabel.pth": as_torch(masks()),
    "legacy.pth": as_torch(masks(), _use_new_zipfile_serialization=False),
    "renamed-array": as_npy(lists()),
    "renamed-archive": as_torch(masks()),
    "plain.npy": as_npy({task: [str(name) for name in names] for task, names in lists().items()}),
}


class TestForms:
    @pytest.mark.parametrize("name", FORMS)
    def test_labels_of_pascal_context(self, tmp_path, pascal, name):
        (tmp_path / name).write_bytes(FORMS[name])
        partition = make_partition(str(tmp_path / name), pascal, seed=0)
        assert partition.visible == {image: frozenset(tasks) for image, tasks in VISIBLE.items()}
        assert all(type(image) is str for image in partition.visible)
        assert "not a known file" in partition.source
        partition.save(tmp_path / "partition.txt")
        assert Partition.load(tmp_path / "partition.txt", pascal).digest() == partition.digest()

    def test_numpy_says_the_same(self, tmp_path):
        (tmp_path / "x.npy").write_bytes(FORMS["onelabel.npy"])
        found = pp.read_published_partition(tmp_path / "x.npy")
        theirs = np.load(tmp_path / "x.npy", allow_pickle=True).item()
        assert {task: {n for n, seen in found.visible.items() if task in seen} for task in theirs} == {
            task: set(map(str, names)) for task, names in theirs.items()
        }

    @given(
        names=st.lists(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), unique=True
        )
    )
    def test_names_of_any_letters(self, tmp_path_factory, names):
        path = tmp_path_factory.mktemp("x") / "x.npy"
        path.write_bytes(as_npy({"sal": [np.str_(name) for name in names]}))
        assert set(pp.read_published_partition(path).visible) == set(names)

    def test_weights_of_three_and_two_tasks(self, tmp_path, root):
        three = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
        torch.save({"labels_weights": three}, tmp_path / "nyud.pth")
        visible = Partition.load(tmp_path / "nyud.pth", open_nyud(root, "train")).visible
        assert visible == {"0": {"semseg"}, "1": {"depth", "normals"}, "2": {"normals"}}
        torch.save({"labels_weights": three[:, :2]}, tmp_path / "cityscapes.pth")
        visible = Partition.load(tmp_path / "cityscapes.pth", open_cityscapes(root, "train")).visible
        assert visible == {"0": {"semseg"}, "1": {"depth"}, "2": frozenset()}

    def test_rows_go_by_number_beyond_nine(self, tmp_path):
        dataset = open_nyud(m.nyud_arrays(tmp_path / "nyud", counts=(12, 1)), "train")
        weights = torch.zeros(12, 3)
        weights[2, 0] = weights[10, 1] = 1
        torch.save({"labels_weights": weights}, tmp_path / "x.pth")
        visible = Partition.load(tmp_path / "x.pth", dataset).visible
        assert {name: set(tasks) for name, tasks in visible.items() if tasks} == {"2": {"semseg"}, "10": {"depth"}}

    def test_of_some_tasks(self, tmp_path, pascal):
        (tmp_path / "x.npy").write_bytes(FORMS["onelabel.npy"])
        visible = Partition.load(tmp_path / "x.npy", SelectedTasks(pascal, ["sal", "edge"])).visible
        assert visible == {IDS[0]: {"sal"}, IDS[1]: {"edge"}, IDS[2]: {"sal"}}

    def test_an_image_that_the_file_leaves_out_shows_nothing(self, tmp_path, pascal):
        (tmp_path / "x.npy").write_bytes(as_npy({"sal": [np.str_(IDS[1])]}))
        assert Partition.load(tmp_path / "x.npy", pascal).visible == {IDS[0]: set(), IDS[1]: {"sal"}, IDS[2]: set()}


class TestKnownFiles:
    def test_a_known_file_is_named_and_counted(self, tmp_path, pascal, monkeypatch):
        data = FORMS["onelabel.npy"]
        (tmp_path / "x.npy").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()[:16]
        counts = {"semseg": 1, "human_parts": 1, "sal": 2, "normals": 1, "edge": 1}
        monkeypatch.setitem(pp.KNOWN, digest, pp.Known("a miniature", counts))
        partition = Partition.load(tmp_path / "x.npy", pascal)
        assert partition.source == f"published partition of a miniature [{digest}]"
        monkeypatch.setitem(pp.KNOWN, digest, pp.Known("a miniature", counts | {"sal": 3}))
        with pytest.raises(
            UserError, match=r"x\.npy: known as a miniature with labels .*'sal': 3.* read as .*'sal': 2"
        ):
            Partition.load(tmp_path / "x.npy", pascal)

    def test_published_counts_add_up(self):
        sums = sorted(sum(known.counts.values()) for known in pp.KNOWN.values())
        assert sums == [795, 1185, 2975, 4998, 4998, 10779, 10779]


class TestBadInput:
    def refused(self, path: Path, dataset, says: str) -> None:
        with pytest.raises(UserError, match=says) as error:
            Partition.load(path, dataset)
        assert path.name in str(error.value) and "\n" not in str(error.value)

    def test_ids_of_another_split(self, tmp_path, root):
        (tmp_path / "x.npy").write_bytes(FORMS["onelabel.npy"])
        self.refused(
            tmp_path / "x.npy", PascalContext.open(root, "val"), r"has no image '20.*another data set or split"
        )

    def test_another_data_set(self, tmp_path, root, pascal):
        torch.save({"labels_weights": torch.zeros(2, 3)}, tmp_path / "two.pth")
        self.refused(tmp_path / "two.pth", open_nyud(root, "train"), "a row for each of 2 images, .* has 3")
        torch.save({"labels_weights": torch.zeros(3, 3)}, tmp_path / "three.pth")
        self.refused(tmp_path / "three.pth", pascal, "has no image '0'")
        self.refused(tmp_path / "three.pth", SelectedTasks(pascal, ["sal"]), "is about depth, .* has no such task")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ({}, "none of the published forms"),
            ("text", "none of the published forms"),
            ({"sal": 3}, "none of the published forms"),
            ({"sal": [3]}, "task 'sal' lists something that is no image name"),
            ({"sal": ["a", "a"]}, "task 'sal' lists an image twice"),
            ({"a": [0, 1]}, "image 'a' has no 5 numbers 0 or 1"),
            ({"a": [0, 1, 0, 0, 2]}, "image 'a' has no 5 numbers"),
            ({"a": ["0", "1", "0", "0", "0"]}, "image 'a' has no 5 numbers"),
            ({"labels_weights": [[0, 1]]}, "labels_weights is list, expected a tensor"),
        ],
    )
    @pytest.mark.parametrize("suffix", [".npy", ".pth"])
    def test_other_content(self, tmp_path, pascal, content, says, suffix):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(as_npy(content) if suffix == ".npy" else as_torch(content))
        self.refused(path, pascal, says)

    @pytest.mark.parametrize(
        ("weights", "says"),
        [
            (torch.zeros(3), r"labels_weights is \(3,\)"),
            (torch.zeros(3, 5), r"labels_weights is \(3, 5\)"),
            (torch.zeros(0, 3), r"labels_weights is \(0, 3\)"),
            (torch.zeros(1, 1).expand(2_000_000, 3), r"labels_weights is \(2000000, 3\)"),
            (torch.full((3, 3), 0.5), "other numbers than 0 and 1"),
            (torch.full((3, 3), torch.nan), "other numbers than 0 and 1"),
        ],
    )
    def test_other_weights(self, tmp_path, pascal, weights, says):
        torch.save({"labels_weights": weights}, tmp_path / "x.pth")
        self.refused(tmp_path / "x.pth", pascal, says)

    @pytest.mark.parametrize("content", [np.zeros((3, 3)), np.array([{}, {}], dtype=object)])
    def test_other_arrays(self, tmp_path, pascal, content):
        np.save(tmp_path / "x.npy", content, allow_pickle=True)
        self.refused(tmp_path / "x.npy", pascal, "an array of .*, expected a single dict")

    @pytest.mark.parametrize("name", ["onelabel.npy", "new_onelabel.pth", "legacy.pth"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
    def test_truncated(self, tmp_path, pascal, name, share):
        (tmp_path / name).write_bytes(FORMS[name][: int(share * len(FORMS[name]))])
        self.refused(tmp_path / name, pascal, "not readable as a published partition")

    def test_missing_and_too_large(self, tmp_path, pascal, monkeypatch):
        self.refused(tmp_path / "x.npy", pascal, "no such file")
        (tmp_path / "x.npy").write_bytes(FORMS["onelabel.npy"])
        monkeypatch.setattr(pp, "MAX_BYTES", 100)
        self.refused(tmp_path / "x.npy", pascal, "larger than 100 bytes")

    def test_an_archive_that_unpacks_to_too_much(self, tmp_path, pascal):
        with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/data.pkl", bytes(pp.MAX_BYTES + 1))
        self.refused(tmp_path / "x.pth", pascal, "unpacks to more than")


class Touches:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "run"))


class Evaluates:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (eval, (f"open({str(self.path)!r}, 'w').close()",))


def header() -> bytes:
    """What stands before the pickle in a `.npy` of one object."""
    stream = io.BytesIO(FORMS["onelabel.npy"])
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    return FORMS["onelabel.npy"][: stream.tell()]


class TestNoCodeIsRun:
    @pytest.mark.parametrize("kind", [Touches, Evaluates])
    @pytest.mark.parametrize("name", ["x.npy", "x.pth", "legacy.pth"])
    def test_of_a_pickle_that_calls_something(self, tmp_path, pascal, kind, name):
        content = {"sal": [kind(tmp_path / "proof")]}
        data = as_npy(content) if name == "x.npy" else as_torch(content, _use_new_zipfile_serialization=name[0] == "x")
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="not readable as a published partition .* nothing in it was run"):
            Partition.load(tmp_path / name, pascal)
        assert not (tmp_path / "proof").exists()
        if name == "x.npy":
            np.load(tmp_path / name, allow_pickle=True)
            assert (tmp_path / "proof").exists()

    @pytest.mark.parametrize(
        "pickled",
        [
            b"cos\nsystem\n(S'true'\ntR.",
            b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01a\x85R.",
            b"(S'true'\nios\nsystem\n.",
            b"\x80\x02\x82\x01.",
            b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.",
            b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93}\x8c\x01a\x8c\x01bsb.",
            b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93(K\x01tR.",
            b"\x80\x04\x8c\x05numpy\x8c\x07ndarray.__init__\x93.",
            b"\x80\x04}r\xff\xff\xff\xff.",
            b"(" * 100_000,
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        ],
    )
    def test_of_pickles_written_by_hand(self, tmp_path, pascal, pickled):
        before = dict(vars(pp._Array))
        (tmp_path / "x.npy").write_bytes(header() + pickled)
        with pytest.raises(UserError, match="not readable as a published partition"):
            Partition.load(tmp_path / "x.npy", pascal)
        assert dict(vars(pp._Array)) == before

    @given(st.binary(max_size=60))
    def test_of_any_bytes(self, tmp_path_factory, pickled):
        path = tmp_path_factory.mktemp("x") / "x.npy"
        path.write_bytes(header() + pickled)
        with pytest.raises(UserError):
            pp.read_published_partition(path)
