"""`diffusionmtl data arrange`: plain folders become a data set, all of it or nothing."""

import os
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusionmtl.cli import main
from diffusionmtl.commands import arrange as module
from diffusionmtl.commands.arrange import put_aside
from diffusionmtl.data.folder import FolderDataset
from tests.cli.terminal import done, files_below, refused

NAMES = tuple(f"{'sub/' * (i % 2)}{i}" for i in range(12))
MASKED, DEEP = NAMES[:10], NAMES[6:11]  # 11 has neither
WORDS = ("data", "arrange", "--images", "photos", "--labels", "semseg=masks", "depth=depths", "--out", "my-data")


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """`photos`, `masks` and `depths`, and a test that stands beside them."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a photograph that was held sideways
    for folder in ("photos", "masks", "depths"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"photos/{name}.JPG", "JPEG", exif=exif)
    for name in MASKED:
        Image.fromarray(np.tile(np.array([0, 1], np.uint8), (8, 3))).save(tmp_path / f"masks/{name}.png")
    for name in DEEP:
        np.save(tmp_path / f"depths/{name}.npy", np.full((8, 6), 2.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(root, split, folder="images"):
    return {os.path.splitext(name)[0] for name in files_below(root / split / folder)}


def test_every_file_is_there_once_byte_for_byte(capsys, plain):
    before = files_below(plain)
    said = done(capsys, *WORDS).splitlines()
    given_files = {f.split("/", 1)[1]: data for f, data in files_below(plain / "my-data").items()}
    places = {"images": "photos", "semseg": "masks", "depth": "depths"}
    assert {f.replace(top := f.split("/")[0], places[top], 1): d for f, d in given_files.items()} == before
    assert said == [
        "my-data:",
        "train: 10 images (semseg 8, depth 4)",
        "val: 2 images (semseg 2, depth 1)",
        "note: images without any label, all in train: sub/11",
        "It has no dataset.yaml yet, which says what the labels mean; the next command suggests one.",
        "Next: diffusionmtl data inspect my-data",
    ]
    for split in ("train", "val"):
        assert names(plain / "my-data", split, "semseg") == names(plain / "my-data", split) & set(MASKED)
        assert names(plain / "my-data", split, "depth") == names(plain / "my-data", split) & set(DEEP)


def test_what_comes_out_can_be_trained_on(capsys, plain):
    done(capsys, *WORDS)
    assert "Guessed from the labels: tasks: {depth: {kind: depth}, semseg:" in refused(
        capsys, "data", "inspect", "my-data"
    )
    (plain / "my-data/dataset.yaml").write_text(
        "tasks: {depth: {kind: depth}, semseg: {kind: segmentation, classes: [a, b]}}"
    )
    assert "nothing that training would refuse" in done(capsys, "data", "inspect", "my-data", "--all")
    assert FolderDataset.open(plain / "my-data", "train").image(0).shape == (3, 8, 6)  # upright


def test_the_seed_alone_decides_and_val_may_be_left_out(capsys, plain):
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        done(capsys, *WORDS[:-1], out, "--seed", seed)
    assert files_below(plain / "a") == files_below(plain / "b")
    assert names(plain / "a", "val") != names(plain / "c", "val")
    # Tasks may be named one option after the other, too.
    done(capsys, *WORDS[:6], "--labels", "depth=depths", "--out", "d", "--val", 0)
    assert names(plain / "d", "train") == set(NAMES) and not (plain / "d/val").exists()


def test_a_link_to_an_image_goes_where_the_image_goes(capsys, plain):
    for name in MASKED:
        (plain / f"photos/{name}_again.jpg").symlink_to(f"{name.rsplit('/')[-1]}.JPG")
    done(capsys, *WORDS)
    aside = names(plain / "my-data", "val")
    again = {name.removesuffix("_again") for name in aside if name.endswith("_again")}
    assert again and again == {name for name in aside if not name.endswith("_again")} & set(MASKED)


def test_second_names_of_the_same_files(capsys, plain):
    (plain / "photos/12.jpg").symlink_to("sub/11.JPG")  # a link that stays inside
    done(capsys, *WORDS, "--link", "--val", 0)
    assert (plain / "my-data/train/images/sub/1.JPG").samefile(plain / "photos/sub/1.JPG")
    assert (plain / "my-data/train/semseg/0.png").samefile(plain / "masks/0.png")
    assert not (plain / "my-data/train/images/12.jpg").is_symlink()
    # Readers refuse links that lead out of a data set.
    assert not any(path.is_symlink() for path in (plain / "my-data").rglob("*"))


def test_what_is_left_out_is_named(capsys, plain):
    (plain / "photos/Thumbs.db").write_bytes(b"x")
    (plain / "masks/sub/1_mask.png").write_bytes(b"x")
    (plain / "masks/notes.txt").write_bytes(b"x")
    said = done(capsys, *WORDS)
    assert "note: --images photos: left out, of another format: Thumbs.db\n" in said
    assert "note: --labels semseg=masks: left out, of another format: notes.txt\n" in said
    assert "warning: --labels semseg=masks: left out, no image has their name: sub/1_mask.png\n" in said
    for name in DEEP[1:]:
        (plain / f"depths/{name}.npy").unlink()
    said = done(capsys, *WORDS[:-1], "other")
    assert "warning: val has no label of depth, so nothing will score it; add labels\n" in said


def only_jpeg(root):
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))


def misnamed(root):
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))


def few(root):
    for path in [*(root / "masks").rglob("*.png"), *(root / "depths").rglob("*.npy")]:
        if path.stem != "6":
            path.unlink()


@pytest.mark.parametrize(
    ("spoil", "change", "said"),
    [
        (None, {"photos": "photo"}, "--images photo: no such folder. Did you mean 'photos'?"),
        (None, {"semseg=masks": "masks"}, "--labels masks: write TASK=FOLDER, semseg=masks for instance"),
        (None, {"semseg=masks": "images=masks"}, "--labels images=masks: 'images' cannot be the name of a task; "),
        (None, {"semseg=masks": "depth=masks"}, "--labels depth=depths: task 'depth' has masks already"),
        (None, {"semseg=masks": "Depth=masks"}, "--labels depth=depths: 'Depth' and 'depth' are one folder on many"),
        (None, {"semseg=masks": "semseg=mask"}, "--labels semseg=mask: no such folder. Did you mean 'masks'?"),
        (None, {"semseg=masks": "semseg=photos"}, "--labels semseg=photos: the same folder as --images photos"),
        (None, {"photos": "."}, "--labels semseg=masks: lies in --images ., so its files would pass for those; choose"),
        (None, {"my-data": "photos/x"}, "--out photos/x: lies in --images photos"),
        (None, {"my-data": "photos"}, "--out photos: exists; name a new folder"),
        (lambda root: (root / "my-data").mkdir(), {}, "--out my-data: exists; name a new folder"),
        (
            lambda root: (root / "photos/0.png").touch(),
            {},
            "--images photos: two images are named '0': 0.JPG and 0.png; nobody could tell which is meant, rename",
        ),
        (
            lambda root: np.save(root / "masks/sub/1.npy", [1]),
            {},
            "--labels semseg=masks: two labels are named 'sub/1': sub/1.npy and sub/1.png",
        ),
        (misnamed, {}, "none of its 10 labels has the name of an image, masks/0_mask.png for instance, where im"),
        (only_jpeg, {}, "and 7 more: export these anew, for a JPEG changes their numbers"),
        (few, {}, "--val 0.2: no task has two labels, so none can be put aside; add labels, or say --val 0"),
        (
            lambda root: (root / "photos/x.jpg").symlink_to("/etc/hostname"),
            {},
            "photos/x.jpg: a link that leads out",
        ),
        (lambda root: (root / ".my-data.part").mkdir(), {}, ".my-data.part: left over from a call that was kil"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(capsys, plain, spoil, change, said):
    if spoil is not None:
        spoil(plain)
    before = sorted(plain.rglob("*"))
    assert said in refused(capsys, *(change.get(word, word) for word in WORDS))
    assert sorted(plain.rglob("*")) == before


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_share_that_is_none(capsys, plain, share):
    assert "is a share, 0 or more and less than 1" in refused(capsys, *WORDS, "--val", share)


def test_no_room(capsys, plain, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=7))
    assert "bytes to copy and 7 free; make room, or choose another disk, or" in refused(capsys, *WORDS)
    done(capsys, *WORDS, "--link")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_call_leaves_nothing(capsys, plain, monkeypatch, error):
    before, put, count = files_below(plain), module.copy, iter(range(9))

    def failing(source, to):
        if next(count) == 5:
            raise error
        put(source, to)

    monkeypatch.setattr(module, "copy", failing)
    assert main([*WORDS[:-1], "not/there/my-data"]) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert files_below(plain) == before and not (plain / "not").exists()
    count = iter(range(9))
    assert main([str(word) for word in WORDS]) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert files_below(plain) == before and not (plain / "my-data").exists() and not (plain / ".my-data.part").exists()


def test_names_that_the_disk_takes_for_one(capsys, plain, monkeypatch):
    put = module.copy
    # As on a disk that knows no case: the file lands where another one belongs.
    monkeypatch.setattr(module, "copy", lambda source, to: put(source, to.with_name(to.name.lower())))
    (plain / "photos/a.jpg").write_bytes(b"a")
    (plain / "photos/A.jpg").write_bytes(b"A")
    assert "photos/a.jpg: this disk takes its name for that of another file" in refused(capsys, *WORDS)
    assert not (plain / "my-data").exists()


@given(
    st.dictionaries(st.text("abc", max_size=4), st.frozensets(st.sampled_from(["x", "y", "z"]))),
    st.floats(0, 0.99),
    st.integers(0, 99),
)
def test_what_is_put_aside(labelled, share, seed):
    chosen = put_aside(labelled, share, seed)
    assert chosen == put_aside(dict(reversed(labelled.items())), share, seed)
    assert chosen <= {name for name, have in labelled.items() if have}
    counts = Counter(task for have in labelled.values() for task in have)
    aside = Counter(task for name in chosen for task in labelled[name])
    assert all(aside[task] < counts[task] for task in counts)
    if not share:
        assert not chosen
    elif len(counts) == 1 and sum(counts.values()) > 1:
        assert len(chosen) == min(max(1, round(share * sum(counts.values()))), sum(counts.values()) - 1)


def test_a_rare_task_keeps_its_share():
    labelled = {str(i): frozenset({"x", "y"} if i < 10 else {"x"}) for i in range(100)}
    for seed in range(20):
        chosen = put_aside(labelled, 0.2, seed)
        assert len(chosen) == 20 and sum("y" in labelled[name] for name in chosen) == 2
