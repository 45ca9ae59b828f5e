"""Pushing to and fetching from a hub, by HTTP against one on this machine."""

import json
import shutil

import pytest
import torch

import diffusionmtl as dm
from diffusionmtl.commands.share import push
from diffusionmtl.sharing import contents
from diffusionmtl.sharing.contents import LIST
from diffusionmtl.sharing.hub import hub_name, is_hub_name
from tests.cli.terminal import done, files_below, refused
from tests.sharing.conftest import SHARED, card_head

NAME = "hf://jane/kitchen"


@pytest.fixture
def pushed(hub, kitchen):
    push(kitchen, "jane/kitchen")
    return hub


def depth(run, **words):
    picture = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(dm.load(run, **words)(picture, seed=1)["depth"].value)


def test_a_pushed_run_is_a_run_elsewhere(hub, kitchen, tmp_path, capsys):
    said = done(capsys, "push", kitchen, "jane/kitchen", "--private", "--licence", "apache-2.0")
    assert f"{hub.url}/jane/kitchen: pushed" in said
    files = hub.repos["jane/kitchen"]
    assert set(files) == SHARED | {LIST, ".gitattributes"}
    assert hub.private == {"jane/kitchen"}
    assert card_head(files["README.md"].decode())["license"] == "apache-2.0"
    assert hub.commits == {"jane/kitchen": 1}
    done(capsys, "fetch", NAME, "--out", tmp_path / "run")
    there = files_below(tmp_path / "run")
    assert there == {name: files[name] for name in SHARED}
    assert torch.equal(depth(tmp_path / "run"), depth(kitchen))


def test_load_fetches_what_predicting_takes_and_no_pickle(pushed, kitchen):
    pushed.repos["jane/kitchen"]["checkpoints/last.ckpt"] = b"a pickle"
    pushed.repos["jane/kitchen"]["pytorch_model.bin"] = b"a pickle"
    pushed.asked.clear()
    assert torch.equal(depth(NAME), depth(kitchen))
    fetched = {line.split("/resolve/")[1].split("/", 1)[1] for line in pushed.asked if line.startswith("GET /jane")}
    assert fetched == {LIST, "checkpoints/last.safetensors", "calibration.json"}
    predictor = dm.load(NAME)
    assert predictor.calibration is not None


def test_a_revision_is_fetched_as_it_was(pushed, kitchen):
    commit = pushed.commit("jane/kitchen")
    assert torch.equal(depth(f"{NAME}@{commit}"), depth(kitchen))
    with pytest.raises(dm.UserError, match=r"hf://jane/kitchen@v2: has no revision 'v2'"):
        dm.load(f"{NAME}@v2")


def test_what_is_in_the_cache_is_enough_without_a_network(pushed, kitchen, monkeypatch):
    depth(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert torch.equal(depth(NAME), depth(kitchen))


def test_pushing_again_makes_a_second_state_of_the_same_repository(pushed, kitchen):
    push(kitchen, "hf://jane/kitchen", private=True)
    assert pushed.private == set()
    assert list(pushed.repos) == ["jane/kitchen"]


def test_a_repository_of_something_else_is_left_alone(hub, kitchen):
    hub.repos["jane/kitchen"] = {".gitattributes": b"", "model.safetensors": b"years of work"}
    with pytest.raises(dm.UserError, match="holds something other than a run already"):
        push(kitchen, "jane/kitchen")
    assert set(hub.repos["jane/kitchen"]) == {".gitattributes", "model.safetensors"}


def test_a_dry_run_asks_nobody(hub, kitchen, tmp_path):
    where, files = push(kitchen, "jane/kitchen", dry_run=tmp_path / "look")
    assert hub.asked == []
    assert (where, set(files)) == (str(tmp_path / "look"), SHARED)
    assert set(files_below(tmp_path / "look")) == SHARED | {LIST}


def refused_load(name=NAME) -> str:
    with pytest.raises(dm.UserError) as caught:
        dm.load(name)
    said = str(caught.value)
    assert said.startswith(name)
    assert "\n" not in said
    return said


def test_a_repository_that_is_not_there(hub):
    assert "no such repository, or a private one" in refused_load()


def test_nobody_answers(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = refused_load()
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert "HF_ENDPOINT" in said


def test_nobody_answers_a_push(hub, kitchen, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(dm.UserError, match="cannot be reached"):
        push(kitchen, "jane/kitchen")


def test_a_gated_repository(pushed):
    pushed.faults["jane/kitchen"] = (403, "GatedRepo")
    assert f"ask for access at {pushed.url}/jane/kitchen" in refused_load()


def test_a_wrong_token(pushed, kitchen):
    pushed.token = "right"
    with pytest.raises(dm.UserError, match=r"HF_TOKEN"):
        push(kitchen, "jane/kitchen")
    assert "HF_TOKEN" in refused_load()


def test_a_right_token_is_sent(pushed, kitchen, monkeypatch):
    pushed.token = "right"
    monkeypatch.setenv("HF_TOKEN", "right")
    push(kitchen, "jane/kitchen")
    assert torch.equal(depth(NAME), depth(kitchen))


def test_a_token_that_may_not_write(hub, kitchen):
    hub.faults["jane/kitchen"] = (403, "Forbidden")
    with pytest.raises(dm.UserError, match=r"refuses \(403\).*may write"):
        push(kitchen, "jane/kitchen")


def test_an_upload_that_breaks_off_leaves_the_repository_as_it_was(hub, kitchen):
    hub.full = True
    with pytest.raises(dm.UserError, match=r"hf://jane/kitchen: the hub refuses \(403\)"):
        push(kitchen, "jane/kitchen")
    assert set(hub.repos["jane/kitchen"]) == {".gitattributes"}


def test_a_repository_that_is_no_run(hub):
    hub.repos["jane/kitchen"] = {"model.bin": b"x"}
    assert f"has no {LIST}" in refused_load()


def test_a_file_is_missing(pushed):
    del pushed.repos["jane/kitchen"]["checkpoints/last.safetensors"]
    assert "a file that it lists" in refused_load()


def test_a_file_is_another(pushed):
    weights = bytearray(pushed.repos["jane/kitchen"]["checkpoints/last.safetensors"])
    weights[-1] ^= 1
    pushed.repos["jane/kitchen"]["checkpoints/last.safetensors"] = bytes(weights)
    assert "checkpoints/last.safetensors is damaged" in refused_load()


def test_a_list_that_promises_too_much(pushed):
    files = pushed.repos["jane/kitchen"]
    said = json.loads(files[LIST])
    said["files"]["checkpoints/last.safetensors"]["size"] = 1 << 50
    files[LIST] = json.dumps(said).encode()
    pushed.asked.clear()
    assert "more than the" in refused_load()
    assert not any(line.startswith("GET") and "safetensors" in line for line in pushed.asked)


def test_a_file_larger_than_the_list_says_is_not_fetched(pushed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contents, "MAX_OTHER", 100_000)
    pushed.repos["jane/kitchen"]["partition.txt"] = bytes(200_000)
    pushed.asked.clear()
    assert "partition.txt has 200,000 bytes" in refused(capsys, "fetch", NAME, "--out", tmp_path / "run")
    assert not any(line.startswith("GET") and "partition.txt" in line for line in pushed.asked)


def test_a_list_too_large_to_be_one_is_not_fetched(pushed):
    pushed.repos["jane/kitchen"][LIST] = bytes(2 << 20)
    pushed.asked.clear()
    assert f"{LIST} has 2,097,152 bytes" in refused_load()
    assert not any(line.startswith("GET") for line in pushed.asked)


@pytest.mark.parametrize("name", ["hf://kitchen", "hf://a/b/c", "hf://../x", "hf://a/b@", "hf://a/../b", "hf://-/é"])
def test_names_that_are_none(name):
    with pytest.raises(dm.UserError, match="not the name of a repository"):
        dm.load(name)


def test_names():
    assert str(hub_name("jane/k.1")) == "hf://jane/k.1"
    assert str(hub_name("hf:/jane/k@v1.0")) == "hf://jane/k@v1.0"
    assert is_hub_name("hf://a/b")
    assert not is_hub_name("runs/hf")


def test_commands_say_to_fetch_first(capsys):
    said = refused(capsys, "report", NAME)
    assert said == f"{NAME}: fetch it first: diffusionmtl fetch {NAME} --out RUN"


def test_a_push_names_no_revision(kitchen):
    with pytest.raises(dm.UserError, match="leave out @v1"):
        push(kitchen, "jane/kitchen@v1")


def test_an_unevaluated_run_says_so(kitchen, tmp_path):
    run = shutil.copytree(kitchen, tmp_path / "run")
    for name in ("metrics.json", "provenance.json", "partition.txt", "calibration.json"):
        (run / name).unlink()
    push(run, "jane/kitchen", dry_run=tmp_path / "look")
    card = (tmp_path / "look/README.md").read_text()
    assert "model-index" not in card_head(card)
    for words in ("was not evaluated", "is not recorded", "whether any were used was not noted"):
        assert words in card
