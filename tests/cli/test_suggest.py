"""`diffusionmtl suggest`: what is labelled is not suggested, what is hidden says nothing, what comes out is of use."""

import csv
import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diffusionmtl.cli import main
from diffusionmtl.commands import suggest as command
from diffusionmtl.commands import suggested_files
from diffusionmtl.config import DataSettings
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.partition import Partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.doubt import Doubt
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Depth, SemanticSegmentation
from tests.cli.terminal import H, W, done, files_below, refused
from tests.runs import tiny, trained
from tests.toy import TASK_NAMES, ToyDataset

IMAGES = 8
QUICK = ["--samples", "2", "--budget", "6", "--shown", "2"]
WRITTEN = {"suggestions.csv", "tasks.json", "partition.txt", "suggestions.html"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pictures with all labels but the last two, which are labelled for little or nothing."""
    root = tmp_path_factory.mktemp("suggest") / "toys"
    export_folder(root, {"train": ToyDataset(IMAGES, annotated={6: ["depth"], 7: []})})
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """Trained on one label of each picture; the others are hidden."""
    settings = tiny(data=(str(data),), labels="one", holdout=0.0, epochs=1, batch=2, self_training="never")
    return trained(settings, tmp_path_factory.mktemp("run") / "run").root


@pytest.fixture(scope="module")
def suggested(data, run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("suggested") / "out"
    assert main(["suggest", str(run), "--data", str(data), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def seen(run, data) -> Partition:
    return Partition.load(RunFolder(run).partition, FolderDataset.open(data, "train"))


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "suggestions.csv").open(encoding="utf-8", newline="")))


def pairs(out: Path) -> list[tuple[str, str]]:
    return [(row["image"], row["task"]) for row in table(out)]


def test_what_was_seen_is_never_suggested(data, run, suggested, seen, tmp_path, capsys):
    assert set(files_below(suggested)) == WRITTEN
    rows = table(suggested)
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert len(set(pairs(suggested))) == 6
    assert all(task not in seen.visible[name] for name, task in pairs(suggested))
    said = done(capsys, "suggest", run, "--data", data, "--out", tmp_path / "all", *QUICK, "--budget", "1000")
    everything = {(name, task) for name in seen.visible for task in TASK_NAMES if task not in seen.visible[name]}
    assert set(pairs(tmp_path / "all")) == everything
    assert f"{len(everything)} labels of {IMAGES} images for {len(everything)}" in said


def test_a_hidden_label_changes_no_byte(data, run, suggested, seen, tmp_path):
    bare = Path(shutil.copytree(data, tmp_path / "toys"))
    removed = 0
    for task in TASK_NAMES:
        for path in list((bare / "train" / task).iterdir()):
            if task not in seen.visible[path.stem]:
                # Some are gone and some cannot be read.
                removed += 1
                path.unlink() if removed % 2 else path.write_bytes(b"nothing")
    assert removed > 20
    out = tmp_path / "out"
    assert main(["suggest", str(run), "--data", str(bare), "--out", str(out), *QUICK]) == 0
    assert files_below(out) == files_below(suggested)


def test_another_seed_may_suggest_others_and_chance_does(data, run, suggested, tmp_path):
    words = ["suggest", str(run), "--data", str(data), *QUICK, "--by", "random"]
    for seed in ("0", "1"):
        assert main([*words, "--seed", seed, "--out", str(tmp_path / seed)]) == 0
    assert pairs(tmp_path / "0") != pairs(tmp_path / "1") != pairs(suggested)


def test_prices_are_kept_within_the_budget(data, run, tmp_path):
    out = tmp_path / "out"
    words = ["suggest", str(run), "--data", str(data), "--out", str(out), "--samples", "1", "--budget", "12"]
    assert main([*words, "--price", "semseg=100", "depth=0.5", "normals=5", "--by", "diversity", "--shown", "0"]) == 0
    rows = table(out)
    assert {row["task"] for row in rows}.isdisjoint({"semseg"}) and sum(float(row["price"]) for row in rows) <= 12
    assert {float(row["price"]) for row in rows if row["task"] == "depth"} == {0.5}


def test_the_task_list_is_one_of_coco(data, suggested):
    said = json.loads((suggested / "tasks.json").read_text(encoding="utf-8"))
    assert {"info", "licenses", "images", "categories", "annotations", "tasks"} == said.keys()
    assert said["annotations"] == []
    for word in ("images", "categories", "tasks"):
        ids = [entry["id"] for entry in said[word]]
        assert len(set(ids)) == len(ids) > 0 and all(type(number) is int and number > 0 for number in ids)
    images = {entry["id"]: entry for entry in said["images"]}
    categories = {entry["id"]: entry for entry in said["categories"]}
    for entry in images.values():
        assert (data / "train/images" / entry["file_name"]).is_file()
        assert (entry["height"], entry["width"]) == (H, W) and entry["tasks"]
    found = []
    for entry in said["tasks"]:
        words = {categories[number]["name"] for number in entry["category_ids"]}
        expected = {"wall", "floor", "chair", "table"} if entry["task"] == "semseg" else {entry["task"]}
        assert words == expected
        found.append((Path(images[entry["image_id"]]["file_name"]).stem, entry["task"]))
    assert found == pairs(suggested)


def test_no_two_categories_have_one_name():
    classes = ("background", "head")
    tasks = (SemanticSegmentation("semseg", classes=("background", "depth")), Depth("depth"))
    dataset = ToyDataset(1)
    dataset.tasks = (*tasks, SemanticSegmentation("human_parts", classes=classes))
    said = suggested_files.task_list([], dataset, {})["categories"]
    assert [(entry["supercategory"], entry["name"]) for entry in said] == [
        ("semseg", "semseg/background"),
        ("semseg", "semseg/depth"),
        ("depth", "depth/depth"),
        ("human_parts", "human_parts/background"),
        ("human_parts", "head"),
    ]


def test_the_partition_is_what_there_is_and_what_is_suggested(data, suggested, seen, tmp_path, capsys):
    whole = tmp_path / "whole"
    export_folder(whole, {"train": ToyDataset(IMAGES)})
    found = Partition.load(suggested / "partition.txt", FolderDataset.open(whole, "train"))
    for name, tasks in found.visible.items():
        assert tasks == seen.visible[name] | {task for image, task in pairs(suggested) if image == name}
    # Before the labels are there training says which one is missing.
    missing = [(name, task) for name, task in pairs(suggested) if name == "image 7"]
    if missing:
        said = refused(
            capsys, "train", "--data", data, "--labels", suggested / "partition.txt", "--out", tmp_path / "r"
        )
        assert "has no annotation for" in said


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.articles = 0

    def handle_starttag(self, tag, attrs):
        self.articles += tag == "article"
        if tag == "img":
            self.images.append(dict(attrs))
        assert tag not in ("script", "link")


def test_the_page_shows_the_first_ones_and_loads_nothing(suggested):
    text = (suggested / "suggestions.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.articles == 2
    assert all(image["alt"] and str(image["src"]).startswith("data:image/") for image in page.images)
    first = pairs(suggested)[0]
    assert f"Answer now: {first[1]} of {first[0]}" in text and table(suggested)[0]["reason"] in text


def test_labels_that_are_there_by_now_count_if_asked(data, run, seen, tmp_path):
    words = ["suggest", str(run), "--data", str(data), *QUICK, "--budget", "100", "--shown", "0"]
    assert main([*words, "--labels", "as-found", "--out", str(tmp_path / "found")]) == 0
    expected = {("image 7", task) for task in TASK_NAMES} | {("image 6", t) for t in TASK_NAMES if t != "depth"}
    assert set(pairs(tmp_path / "found")) == expected
    partition = tmp_path / "file.txt"
    Partition({name: frozenset({"depth"} if name != "image 7" else ()) for name in seen.visible}, "all depth").save(
        partition
    )
    assert main([*words, "--labels", str(partition), "--out", str(tmp_path / "file")]) == 0
    assert ("image 0", "depth") not in pairs(tmp_path / "file") and ("image 7", "depth") in pairs(tmp_path / "file")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--price", "semsg=2"], "Did you mean 'semseg'?"),
        (["--price", "semseg"], "write TASK=PRICE"),
        (["--price", "semseg=0"], "a number above 0"),
        (["--budget", "0.5"], "the cheapest label costs 1"),
        (["--budget", "inf"], "must be a number"),
        (["--labels", "nowhere.txt"], "no such file"),
        (["--data", "rooms"], "its tasks are not those of"),
    ],
)
def test_mistakes_are_found_before_any_image_is_looked_at(data, run, tmp_path, capsys, monkeypatch, words, part):
    monkeypatch.setattr(command, "doubts", lambda *_: pytest.fail("long work was begun"))
    given = ["suggest", run, "--data", data, "--out", tmp_path / "out"]
    assert part in refused(capsys, *(given if "--data" not in words else [*given[:2], *given[4:]]), *words)
    assert not (tmp_path / "out").exists()


def test_a_network_that_broke_in_training_is_named(data, run, tmp_path, capsys, monkeypatch):
    usual = command.doubts

    def broken(*given):
        return usual(*given) | {"depth": Doubt(math.nan, 0.0, 0.0)}

    monkeypatch.setattr(command, "doubts", broken)
    said = refused(capsys, "suggest", run, "--data", data, "--out", tmp_path / "out", *QUICK)
    assert "image 'image 0'" in said and "'depth' holds no numbers" in said and not (tmp_path / "out").exists()


def test_a_price_of_nothing_is_refused_from_python_too(data, run, tmp_path):
    asked = command.Asked(prices=(("depth", 0.0),))
    with pytest.raises(UserError, match=r"--price depth=0: must be a number above 0"):
        command.suggest(run, DataSettings(data=(str(data),)), tmp_path / "out", asked, progress=False)


def test_a_folder_in_use_is_refused(data, run, suggested, capsys):
    assert "not empty" in refused(capsys, "suggest", run, "--data", data, "--out", suggested, *QUICK)


def test_nothing_is_left(run, data, tmp_path, capsys):
    whole = tmp_path / "whole"
    export_folder(whole, {"train": ToyDataset(2)})
    said = refused(capsys, "suggest", run, "--data", whole, "--labels", "as-found", "--out", tmp_path / "out")
    assert "nothing is left to annotate" in said
    assert "say --labels as-found" in refused(capsys, "suggest", run, "--data", whole, "--out", tmp_path / "out")


@pytest.mark.parametrize("when", ["looking", "writing"])
def test_stopped_it_leaves_nothing(data, run, tmp_path, monkeypatch, when):
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return usual(*_)

    room, name = (command, "doubts") if when == "looking" else (suggested_files, "answers_and_doubts")
    usual = getattr(room, name)
    monkeypatch.setattr(room, name, stop)
    words = ["suggest", str(run), "--data", str(data), "--out", str(tmp_path / "out"), *QUICK, "--by", "random"]
    assert main([*words, "--shown", "8"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_noise_suggests_too(data, tmp_path):
    settings = tiny(data=(str(data),), labels="one", holdout=0.0, epochs=1, batch=4, method="multitask")
    out = trained(settings, tmp_path / "run").root
    words = ["suggest", str(out), "--data", str(data), "--out", str(tmp_path / "out"), "--budget", "3", "--shown", "0"]
    assert main(words) == 0
    rows = table(tmp_path / "out")
    # Two steps leave a depth that is the same everywhere, so nothing differs in the mirror; classes are always unsure.
    assert len(rows) == 3 and all(float(row["disagreement"]) > 0 for row in rows)
    assert all(float(row["uncertainty"]) > 0 for row in rows if row["unit"] == "entropy")
    assert any(float(row["uncertainty"]) > 0 for row in rows)
