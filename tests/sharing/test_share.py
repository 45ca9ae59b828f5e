"""A shared run answers like the run, knows no path of the machine, and cannot be made to do harm."""

import io
import json
import stat
import zipfile

import pytest
import torch
from safetensors import safe_open

import diffusionmtl as dm
from diffusionmtl.commands.share import Terms, fetch, share
from diffusionmtl.inference.load import weights_file
from diffusionmtl.plain_yaml import parse_yaml, read_yaml
from diffusionmtl.sharing.archive import MAX_MEMBERS
from diffusionmtl.sharing.contents import LIST, MAX_OTHER, MAX_WEIGHTS, check_size, read_list
from tests.cli.terminal import done, files_below, refused
from tests.sharing.conftest import PRIVATE, SHARED, card_head


@pytest.fixture(scope="module")
def zipped(kitchen, tmp_path_factory):
    path = tmp_path_factory.mktemp("zips") / "my kitchen.zip"
    assert set(share(kitchen, path)) == SHARED
    return path


@pytest.fixture
def parts(zipped):
    """Names and contents of a good zip, to be spoiled."""
    with zipfile.ZipFile(zipped) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(parts, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_it_holds_what_predicting_and_judging_take_and_nothing_else(zipped):
    with zipfile.ZipFile(zipped) as archive:
        assert set(archive.namelist()) == {f"my-kitchen/{name}" for name in SHARED | {LIST}}


def test_no_path_of_this_machine_is_in_it(zipped, kitchen, tmp_path):
    fetch(str(zipped), tmp_path / "run")
    for name, content in files_below(tmp_path / "run").items():
        assert b"jane" not in content, name
        assert str(kitchen.parent).encode() not in content, name
    assert PRIVATE.encode() in (kitchen / "checkpoints/last.safetensors").read_bytes()
    settings = read_yaml(tmp_path / "run/config.yaml")
    assert settings["data"] == ["photos", "rooms"]
    assert (settings["labels"], settings["root"], settings["backbone_weights"]) == ("part.txt", None, "w.safetensors")
    labels = (tmp_path / "run/partition.txt").read_text()
    assert labels == "# part.txt\n# digest x\nphotos/a\tdepth\nrooms/b\tedge\n"
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (scores["data"], scores["delta_m"]["reference"]) == (["photos", "rooms"], "base")


def test_windows_paths_are_shortened_too():
    from diffusionmtl.commands.share import _last

    assert [_last(p) for p in (r"C:\Users\jane\photos", "photos/", "..", "/")] == ["photos", "photos", "..", "data"]


def test_where_labels_came_from_keeps_its_words():
    from diffusionmtl.commands.share import _without_folders

    for said in ("one label per image, seed 0", "as found", "published partition of NYUDv2, one label [0123]"):
        assert _without_folders(said) == said
    assert _without_folders("/home/jane/one.mat [0123, not a known file]") == "one.mat [0123, not a known file]"


def test_the_same_run_gives_the_same_bytes(kitchen, zipped, tmp_path):
    share(kitchen, tmp_path / zipped.name)
    assert (tmp_path / zipped.name).read_bytes() == zipped.read_bytes()


def test_it_answers_like_the_run(zipped, kitchen, tmp_path):
    fetch(str(zipped), tmp_path / "run")
    picture = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    ours = dm.load(kitchen)(picture, samples=2, seed=1)
    for place in (zipped, tmp_path / "run"):
        theirs = dm.load(place)(picture, samples=2, seed=1)
        for task in ours:
            assert torch.equal(torch.as_tensor(ours[task].value), torch.as_tensor(theirs[task].value))
            assert torch.equal(torch.as_tensor(ours[task].uncertainty), torch.as_tensor(theirs[task].uncertainty))


def test_both_checkpoints_travel(zipped, kitchen, tmp_path):
    fetch(str(zipped), tmp_path / "run")
    for name in ("last", "best"):
        with (
            safe_open(weights_file(kitchen, name), "pt") as mine,
            safe_open(weights_file(tmp_path / "run", name), "pt") as theirs,
        ):
            assert set(mine.keys()) == set(theirs.keys())
            assert all(torch.equal(mine.get_tensor(k), theirs.get_tensor(k)) for k in mine.keys())  # noqa: SIM118
    assert dm.load(zipped, checkpoint="best", calibrated=False)


def test_nothing_is_left_of_what_load_unpacks(zipped, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dm.load(zipped)
    assert list(tmp_path.iterdir()) == []


def spoilt_list(parts, change):
    name = f"my-kitchen/{LIST}"
    said = json.loads(parts[name])
    change(said["files"])
    return {**parts, name: json.dumps(said).encode()}


def with_member(parts, name, content=b"x"):
    return {**parts, name: content}


BAD_ZIPS = {
    "no list": (lambda p: {k: v for k, v in p.items() if not k.endswith(LIST)}, [f"no {LIST}"]),
    "two lists": (lambda p: with_member(p, f"other/{LIST}"), [f"no {LIST}"]),
    "a list that is none": (lambda p: {**p, f"my-kitchen/{LIST}": b"[1]"}, ["no list of files"]),
    "a list of the future": (
        lambda p: {**p, f"my-kitchen/{LIST}": b'{"format": 2, "files": {}}'},
        ["no list of files", "newer"],
    ),
    "weights not listed": (
        lambda p: spoilt_list(p, lambda f: f.pop("checkpoints/last.safetensors")),
        ["names no checkpoints/last.safetensors"],
    ),
    "a listed file missing": (
        lambda p: {k: v for k, v in p.items() if not k.endswith("config.yaml")},
        ["config.yaml is missing"],
    ),
    "another size": (
        lambda p: spoilt_list(p, lambda f: f["config.yaml"].update(size=1)),
        ["config.yaml is not as long"],
    ),
    "another digest": (
        lambda p: spoilt_list(p, lambda f: f["config.yaml"].update(sha256="0" * 64)),
        ["config.yaml is damaged"],
    ),
    "a negative size": (lambda p: spoilt_list(p, lambda f: f["config.yaml"].update(size=-1)), ["no list of files"]),
    "far too large": (
        lambda p: spoilt_list(p, lambda f: f["config.yaml"].update(size=1 << 40)),
        ["config.yaml", "more than"],
    ),
    "too many files": (
        lambda p: {**p, **{f"my-kitchen/{n}": b"" for n in range(MAX_MEMBERS)}},
        ["files, a zipped run has a dozen"],
    ),
}


@pytest.mark.parametrize("bad", BAD_ZIPS)
def test_bad_zips_are_refused_and_leave_nothing(bad, parts, tmp_path, capsys):
    spoil, words = BAD_ZIPS[bad]
    path = rewritten(spoil(parts), tmp_path / "bad.zip")
    said = refused(capsys, "fetch", path, "--out", tmp_path / "run")
    assert all(word in said for word in ["bad.zip", *words]), said
    assert [p.name for p in tmp_path.iterdir()] == ["bad.zip"]


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "my-kitchen/../../evil.txt", "my-kitchen/last.ckpt"])
def test_hostile_names_are_never_written(name, parts, tmp_path):
    listed = spoilt_list(parts, lambda files: files.update({name: {"size": 1, "sha256": "0" * 64}}))
    path = rewritten(with_member(listed, name), tmp_path / "zips.zip")
    fetch(str(path), tmp_path / "below/run")
    assert {str(p.relative_to(tmp_path / "below/run")) for p in (tmp_path / "below/run").rglob("*.*")} == SHARED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["below", "zips.zip"]
    assert [p.name for p in (tmp_path / "below").iterdir()] == ["run"]


def spoilt_member(parts, path, name, spoil):
    """A zip one of whose members has other flags than files have."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in parts.items():
            about = zipfile.ZipInfo(member)
            if member.endswith(name):
                content = spoil(about, content)
            archive.writestr(about, content)
    return path


def test_links_are_refused(parts, tmp_path, capsys):
    def link(about, content):
        about.external_attr = (stat.S_IFLNK | 0o777) << 16
        return content

    path = spoilt_member(parts, tmp_path / "bad.zip", "partition.txt", link)
    assert "partition.txt is a link" in refused(capsys, "fetch", path, "--out", tmp_path / "run")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", [LIST, "partition.txt"])
def test_packings_that_swell_at_once_are_refused(name, packing, parts, tmp_path, capsys):
    def pack(about, content):
        about.compress_type = packing
        return content

    path = spoilt_member(parts, tmp_path / "bad.zip", name, pack)
    assert f"{name} is packed as" in refused(capsys, "fetch", path, "--out", tmp_path / "run")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, capsys):
    zeros = bytes(40 << 20)
    weights = "checkpoints/last.safetensors"
    small = {"my-kitchen/partition.txt": zeros, f"my-kitchen/{weights}": b"small"}
    files = {"partition.txt": {"size": len(zeros), "sha256": "0" * 64}, weights: {"size": 5, "sha256": "0" * 64}}
    small[f"my-kitchen/{LIST}"] = json.dumps({"format": 1, "files": files}).encode()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in small.items():
            archive.writestr(name, content)
    assert "would swell to 41,943,045 bytes" in refused(
        capsys, "fetch", tmp_path / "bomb.zip", "--out", tmp_path / "run"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.zip"]


@pytest.mark.parametrize("name,most", [("config.yaml", MAX_OTHER), ("checkpoints/last.safetensors", MAX_WEIGHTS)])
def test_each_kind_of_file_has_a_limit(name, most):
    check_size(name, most, "here")
    with pytest.raises(dm.UserError, match=r"here: .* more than"):
        check_size(name, most + 1, "here")


def test_a_deeply_nested_list_is_no_list():
    with pytest.raises(dm.UserError, match="no list"):
        read_list(b"[" * 100_000, "here")


def test_every_flipped_byte_of_weights_is_found(zipped, tmp_path, capsys):
    content = bytearray(zipped.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        start = archive.getinfo("my-kitchen/checkpoints/last.safetensors").header_offset
    content[start + 5000] ^= 1
    (tmp_path / "bad.zip").write_bytes(bytes(content))
    with pytest.raises(dm.UserError, match=r"bad\.zip: .*(CRC|damaged)"):
        dm.load(tmp_path / "bad.zip")


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_cut_files_are_refused(zipped, keep, tmp_path, capsys):
    content = zipped.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "not a readable zip file" in refused(capsys, "fetch", tmp_path / "cut.zip", "--out", tmp_path / "run")


def test_mistakes_are_one_line(kitchen, zipped, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    for words, said in [
        (["share", kitchen, "--out", tmp_path / "run.tar"], "ends in .zip"),
        (["share", kitchen, "--out", zipped], "exists"),
        (["share", tmp_path / "none", "--out", tmp_path / "a.zip"], "no such run folder"),
        (["share", full, "--out", tmp_path / "a.zip"], "not a run folder"),
        (["share", kitchen, "--out", tmp_path / "a.zip", "--licence", "My own!"], "--licence My own!"),
        (["fetch", zipped, "--out", full], "not empty"),
        (["fetch", tmp_path / "none.zip", "--out", tmp_path / "b"], "none.zip: no such file"),
        (["report", zipped], "diffusionmtl fetch"),
    ]:
        assert said in refused(capsys, *words)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_a_calibration_of_other_weights_is_not_shared(kitchen, tmp_path, capsys):
    import shutil

    run = shutil.copytree(kitchen, tmp_path / "run")
    said = json.loads((run / "calibration.json").read_text())
    (run / "calibration.json").write_text(json.dumps({**said, "weights": "0" * 32}))
    assert "was made for other weights" in refused(capsys, "share", run, "--out", tmp_path / "a.zip")


def test_the_card_says_what_it_predicts_from_what_and_how_well(kitchen, tmp_path, capsys):
    shown = done(capsys, "push", kitchen, "jane/kitchen", "--dry-run", tmp_path / "look", "--licence", "cc-by-nc-4.0")
    assert "nothing was" in shown
    card = (tmp_path / "look/README.md").read_text()
    head = card_head(card)
    assert (head["library_name"], head["license"]) == ("diffusionmtl", "cc-by-nc-4.0")
    results = head["model-index"][0]["results"]
    assert [(r["task"]["name"], [m["name"] for m in r["metrics"]]) for r in results] == [
        ("semseg", ["mIoU@pooled"]),
        ("depth", ["rmse@pooled"]),
    ]
    for words in (
        'dm.load("hf://jane/kitchen")',
        "| semseg | segmentation | wall, floor, chair, table |",
        "Data: photos, rooms.",
        "Labels that training saw: part.txt [",
        "| depth | rmse@pooled | 0.5000 |",
        "Weights: cc-by-nc-4.0.",
        "Training data: not stated",
        "Pretrained weights: w.safetensors, cc-by-nc-4.0.",
        "Caution: the pretrained weights w.safetensors",
        "--out kitchen",
    ):
        assert words in card, words
    assert "jane/secret" not in card
    assert parse_yaml(card.split("---\n")[1], "without aliases, which some readers refuse") == head


def test_words_of_others_stay_words_in_the_card(kitchen, tmp_path):
    import shutil

    run = shutil.copytree(kitchen, tmp_path / "run")
    said = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**said, "split": "<b>", "notes": ["<img src=x>\n# Free"]}))
    share(run, tmp_path / "a.zip", Terms(data="<script>"))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        card = archive.read("a/README.md").decode()
    words = card.split("---\n", 2)[2]
    assert "- &lt;img src=x> # Free\n" in words and "split '&lt;b>'" in words and "&lt;script>" in words
    assert "<" not in words


def test_the_card_says_how_to_load_a_file_of_any_name(kitchen, tmp_path):
    share(kitchen, tmp_path / 'my "best".zip')
    with zipfile.ZipFile(tmp_path / 'my "best".zip') as archive:
        assert 'dm.load("my \\"best\\".zip")' in archive.read("my-best/README.md").decode()


def test_the_hub_reads_the_card(kitchen, tmp_path):
    from huggingface_hub import ModelCard

    from diffusionmtl.commands.share import push

    push(kitchen, "jane/kitchen", Terms(data="photographs by Jane, CC0"), dry_run=tmp_path / "look")
    card = ModelCard.load(tmp_path / "look/README.md")
    assert [(r.task_name, r.metric_name, r.metric_value) for r in card.data.eval_results] == [
        ("semseg", "mIoU@pooled", 0.25),
        ("depth", "rmse@pooled", 0.5),
    ]
    assert "Training data: photographs by Jane, CC0." in card.text
    assert card.data.license == "unknown"
