"""`diffusionmtl data arrange`: plain folders become a data set, all of it or nothing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusionmtl.cli import main
from diffusionmtl.commands import arrange as module
from diffusionmtl.commands.arrange import put_aside
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


def test_every_file_is_there_once_byte_for_byte_and_can_be_trained_on(capsys, plain):
    before = files_below(plain)
    assert done(capsys, *WORDS).splitlines() == [
        "my-data:",
        "train: 10 images (semseg 8, depth 4)",
        "val: 2 images (semseg 2, depth 1)",
        "note: images without any label, all in train: sub/11",
        "Next: diffusionmtl data inspect my-data",
    ]
    places = {"images": "photos", "semseg": "masks", "depth": "depths"}
    after = [(f.split("/", 2), content) for f, content in files_below(plain / "my-data").items()]
    assert {f"{places[folder]}/{name}": content for (_, folder, name), content in after} == before
    said = "tasks: {depth: {kind: depth}, semseg: {kind: segmentation, classes: [a, b]}}"
    (plain / "my-data/dataset.yaml").write_text(said)
    said = done(capsys, "data", "inspect", "my-data", "--all")  # would warn of labels apart from their image
    assert "nothing that training would refuse" in said and said.count("warning") == 1


def test_the_seed_alone_decides_and_val_may_be_left_out(capsys, plain):
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        done(capsys, *WORDS[:-1], out, "--seed", seed)
    assert files_below(plain / "a") == files_below(plain / "b") != files_below(plain / "c")
    (plain / "photos/12.jpg").symlink_to("sub/11.JPG")  # a link that stays inside
    done(capsys, *WORDS[:6], "--labels", "depth=depths", "--out", "d", "--val", 0, "--link")
    assert len(files_below(plain / "d/train")) == len(files_below(plain / "a")) + 1 and not (plain / "d/val").exists()
    assert (plain / "d/train/images/sub/1.JPG").samefile(plain / "photos/sub/1.JPG")
    assert not any(path.is_symlink() for path in (plain / "d").rglob("*"))  # readers refuse what leads out


def test_what_is_left_out_is_named(capsys, plain):
    for name in ("photos/Thumbs.db", "masks/sub/1_mask.png"):
        (plain / name).touch()
    for name in DEEP[1:]:
        (plain / f"depths/{name}.npy").unlink()
    said = done(capsys, *WORDS)
    assert "note: --images photos: left out, of another format: Thumbs.db\n" in said
    assert "warning: --labels semseg=masks: left out, no image has their name: sub/1_mask.png\n" in said
    assert "warning: val has no label of depth, so nothing will score it; add labels\n" in said


def renamed(end):
    def spoil(root):
        for path in (root / "masks").rglob("*.png"):
            path.rename(path.with_name(path.stem + end))

    return spoil


def few(root):
    for path in [*root.rglob("*.png"), *root.rglob("*.npy")]:
        if path.stem != "6":
            path.unlink()


MASKS, PAIR = "semseg=masks", "--labels depth=depths: task 'depth' has masks already"


@pytest.mark.parametrize(
    ("spoil", "change", "said"),
    [
        (None, {"photos": "photo"}, "--images photo: no such folder. Did you mean 'photos'?"),
        (None, {MASKS: "masks"}, "--labels masks: write TASK=FOLDER, semseg=masks for instance"),
        (None, {MASKS: "images=masks"}, "--labels images=masks: 'images' cannot be the name of a task; "),
        (None, {MASKS: "depth=masks"}, PAIR),
        (None, {MASKS: "semseg=photos"}, "lies in --labels semseg=photos, so its files would pass for those"),
        (None, {"photos": "."}, "--labels semseg=masks: lies in --images ., so its files would pass for those; choose"),
        (None, {"--out": "--val=1", "my-data": "--out=x"}, "--val 1: is a share, 0 or more and less than 1; 0.2"),
        (None, {"my-data": "photos/x"}, "--out photos/x: lies in --images photos"),
        (lambda root: (root / "my-data").mkdir(), {}, "--out my-data: exists; name a new folder"),
        (lambda root: (root / "photos/0.png").touch(), {}, "--images photos: two images are named '0': 0.JPG and 0."),
        (renamed("_mask.png"), {}, "none of its 10 labels has the name of an image, masks/0_mask.png for instance, w"),
        (renamed(".jpg"), {}, "and 7 more: export these anew, for a JPEG changes their numbers"),
        (few, {}, "--val 0.2: no task has two labels, so none can be put aside; add labels, or say --val 0"),
        (lambda root: (root / "photos/x.jpg").symlink_to("/etc/hostname"), {}, "photos/x.jpg: a link that leads out"),
        (lambda root: (root / ".my-data.part").mkdir(), {}, ".my-data.part: left over from a call that was killed"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(capsys, plain, spoil, change, said):
    if spoil is not None:
        spoil(plain)
    before = sorted(plain.rglob("*"))
    assert said in refused(capsys, *(change.get(word, word) for word in WORDS))
    assert sorted(plain.rglob("*")) == before


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 2)])
def test_an_interrupted_call_leaves_nothing(plain, monkeypatch, error, status):
    before, put, left = sorted(plain.rglob("*")), module.copy, iter(range(5))

    def failing(source, to):
        if next(left, None) is None:
            raise error
        put(source, to)

    monkeypatch.setattr(module, "copy", failing)
    assert main(list(WORDS)) == status
    assert sorted(plain.rglob("*")) == before


def test_names_that_the_disk_takes_for_one(capsys, plain, monkeypatch):
    put = module.copy
    # As on a disk that knows no case: the file lands where another one belongs.
    monkeypatch.setattr(module, "copy", lambda source, to: put(source, to.with_name(to.name.lower())))
    for name in "aA":
        (plain / f"photos/{name}.jpg").touch()
    assert "photos/a.jpg: this disk takes its name for that of another file" in refused(capsys, *WORDS)
    assert not (plain / "my-data").exists()


@given(
    st.dictionaries(st.text("abc", max_size=4), st.frozensets(st.sampled_from("xyz"))),
    st.floats(0, 0.99),
    st.integers(0, 99),
)
def test_no_task_loses_its_last_label(labelled, share, seed):
    chosen = put_aside(labelled, share, seed)
    assert chosen == put_aside(dict(reversed(labelled.items())), share, seed)
    counts = Counter(task for have in labelled.values() for task in have)
    aside = Counter(task for name in chosen for task in labelled[name])
    assert all(aside[task] < counts[task] for task in counts) and all(labelled[name] for name in chosen)


def test_a_rare_task_keeps_its_share():
    labelled = {str(i): frozenset("xy" if i < 10 else "x") for i in range(100)}
    for seed in range(20):
        chosen = put_aside(labelled, 0.2, seed)
        assert len(chosen) == 20 and sum("y" in labelled[name] for name in chosen) == 2
