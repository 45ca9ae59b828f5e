"""Folders under review: files move, labels of people do not."""

import json

import numpy as np
import pytest

from diffusionmtl.commands.reviewed_completed import CompletedFolder
from diffusionmtl.commands.reviewed_suggested import SuggestedFolder
from diffusionmtl.data.completed import predicted_counts
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.errors import UserError
from diffusionmtl.serve.review import Book, Pair
from tests.serve.completed import PREDICTED, completed_folder
from tests.toy import ToyDataset


@pytest.fixture
def root(tmp_path):
    return completed_folder(tmp_path / "completed")


def contents(root, skip="review.json"):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != skip}


def seen(root):
    return predicted_counts(FolderDataset.open(root, "train"))


def test_predicted_labels_are_shown_the_most_doubtful_first(root):
    folder = CompletedFolder(root)
    assert list(folder.pairs) == [Pair(*pair) for pair in PREDICTED]
    shown = folder.pictures(folder.pairs[0])
    assert [one.caption for one in shown][:3] == ["image", "depth, predicted: judge this", "doubt: bright is unsure"]
    assert {one.caption for one in shown[3:]} == {"edge, by a person", "semseg, by a person"}
    assert all(one.picture.shape == (24, 32, 3) and one.picture.dtype == np.uint8 for one in shown)
    assert "67 % of its pixels" in folder.note(folder.pairs[0])


def test_a_rejected_label_is_not_learnt_from_and_comes_back(root):
    before = contents(root)
    book = Book(CompletedFolder(root), lambda: "now")
    book.decide(Pair("image 1", "depth"), "reject")
    assert seen(root) == {"depth": 1, "semseg": 1}
    assert (root / "rejected" / "depth" / "image 1.npy").is_file()
    assert "aside" in book.folder.note(Pair("image 1", "depth"))
    assert CompletedFolder(root).pairs == book.folder.pairs
    book.decide(Pair("image 1", "depth"), "accept")
    assert contents(root) == before


def test_no_decision_touches_a_label_of_a_person(root):
    people = {path: data for path, data in contents(root).items() if path.startswith(("train/edge", "train/semseg"))}
    assert people
    # A label of a person under the name of a predicted one: it comes first, so there is nothing to judge.
    (root / "train" / "depth").mkdir()
    (root / "train" / "depth" / "image 0.npy").write_bytes(b"by a person")
    folder = CompletedFolder(root)
    assert Pair("image 0", "depth") not in folder.pairs
    book = Book(folder, lambda: "now")
    for decision in ("accept", "reject", "skip", None, "reject"):
        for pair in folder.pairs:
            book.decide(pair, decision)
    after = contents(root)
    assert people.items() <= after.items()
    assert after["train/depth/image 0.npy"] == b"by a person"


def test_nothing_is_overwritten_when_a_label_was_made_anew(root):
    pair = Pair("image 1", "semseg")
    book = Book(CompletedFolder(root), lambda: "now")
    book.decide(pair, "reject")
    anew = root / "train" / "predicted" / "semseg" / "image 1.png"
    anew.write_bytes(b"made anew")
    again = Book(CompletedFolder(root), lambda: "now")
    assert again.standing()[2] is None
    again.decide(pair, None)
    assert anew.read_bytes() == b"made anew"
    first = (root / "rejected" / "semseg" / "image 1.png").read_bytes()
    for label in (b"made anew", b"and again"):
        anew.write_bytes(label)
        again.decide(pair, "reject")
        assert not anew.exists() and again.standing()[2] == "reject"
        assert (root / "rejected" / "semseg" / "image 1.png").read_bytes() == label
    earlier = root / "rejected-earlier" / "semseg"
    assert [(earlier / f"{name}.png").read_bytes() for name in ("image 1", "image 1-2")] == [first, b"made anew"]


def test_a_server_that_was_killed_after_the_decision_acts_on_it_later(root):
    book = Book(CompletedFolder(root), lambda: "now")
    book.folder.apply = lambda pair, decision: None
    book.decide(Pair("image 0", "depth"), "reject")
    assert seen(root)["depth"] == 2
    Book(CompletedFolder(root), lambda: "now").catch_up()
    assert seen(root)["depth"] == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 9999, '{"tasks": 3}', '{"tasks": {"depth": {}}}', '{"tasks": {"depth": {"level": "high"}}}'],
)
def test_a_damaged_manifest_is_named(root, text):
    (root / "completed.json").write_text(text)
    with pytest.raises(UserError, match=r"completed\.json: damaged"):
        CompletedFolder(root)


def suggestions(folder, image="image 1", **words):
    folder.mkdir()
    task = {"id": 1, "image_id": 1, "task": "depth", "price": 1.0, "gain": 0.25, "reason": "1.5x the usual uncertainty"}
    task |= words
    said = {"images": [{"id": 1, "file_name": f"{image}.png"}], "tasks": [task]}
    (folder / "tasks.json").write_text(json.dumps(said))
    return folder


def test_suggestions_are_judged_without_moving_a_file(tmp_path):
    def see(image):
        raise AssertionError("nothing is looked at")

    folder = SuggestedFolder(suggestions(tmp_path / "next"), ToyDataset(2), see)
    assert list(folder.pairs) == [Pair("image 1", "depth")]
    assert folder.note(folder.pairs[0]) == "rank 1; price 1; gain 25.000 %; 1.5x the usual uncertainty"
    before = contents(tmp_path)
    book = Book(folder, lambda: "now")
    book.decide(folder.pairs[0], "accept")
    assert contents(tmp_path) == before and book.standing() == ["accept"]


def test_suggestions_about_other_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="no image 'elsewhere' in the data"):
        SuggestedFolder(suggestions(tmp_path / "next", "elsewhere"), ToyDataset(2), lambda image: None)


@pytest.mark.parametrize("words", [{"price": "one"}, {"gain": None}, {"image_id": 2}])
def test_damaged_suggestions_are_named_at_once(tmp_path, words):
    with pytest.raises(UserError, match=r"tasks\.json: damaged"):
        SuggestedFolder(suggestions(tmp_path / "next", **words), ToyDataset(2), lambda image: None)


def test_a_task_that_the_run_does_not_have_is_named(tmp_path):
    folder = SuggestedFolder(suggestions(tmp_path / "next", task="height"), ToyDataset(2), lambda image: {})
    with pytest.raises(UserError, match="no task 'height'"):
        folder.pictures(folder.pairs[0])
