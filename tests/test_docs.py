"""What the README and the docs say is true: examples run, commands parse, descriptions read, links lead somewhere."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml
from PIL import Image

from diffusionmtl.arguments import Parser
from diffusionmtl.cli import COMMANDS, main
from diffusionmtl.commands.train import train
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.rooms.dataset import export_rooms
from diffusionmtl.tasks import task_kinds
from tests.scripts import loaded

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
CHEAP = ("data inspect", "data partition", "evaluate", "predict", "report")
OTHER_PROGRAMS = {"--no-deps", "--help"}  # pip's; everybody's
SIZE = (32, 48)


@dataclass(frozen=True)
class Block:
    """Fenced code of a page."""

    language: str
    text: str
    line: int
    run: bool


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = lines[start - 1] if start else ""
        text = "\n".join(lines[start + 1 : number])
        yield Block(lines[start][3:].strip(), text, start + 1, not NOT_RUN.fullmatch(before))
        start = None
    assert start is None, f"{page.name}: the fence of line {start} is not closed"


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of every `diffusionmtl ...` line in shell blocks."""
    lines = [
        line.removeprefix("$ ").split(" #")[0]
        for block in blocks(page)
        if block.language in ("console", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith("diffusionmtl ")]


def command_of(words: list[str]) -> str:
    return next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), words[0])


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Iterator[Path]:
    """A folder as the pages take for granted: data, a trained run, a photograph, what another program predicted."""
    root = tmp_path_factory.mktemp("docs")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    patch.setenv("DIFFUSIONMTL_CACHE", str(root / "cache"))
    export_rooms(root / "my-data", {"train": 8, "val": 2}, SIZE)
    settings = changed(
        Settings(), data=("my-data",), labels="one", size=SIZE, width=16, blocks=1, epochs=1, batch=4, holdout=0.2
    )
    train(settings, Path("runs/kitchen"), progress=False)
    Image.open("my-data/val/images/room-00000.png").resize((80, 60)).save("photo.jpg")
    for task in ("depth", "edge"):
        shutil.copytree(f"my-data/val/{task}", f"theirs/{task}")
    yield root
    patch.undo()


@pytest.fixture
def here(kitchen, tmp_path, monkeypatch) -> Path:
    """A copy of the kitchen that a test may change, and stands in."""
    shutil.copytree(kitchen, tmp_path / "here", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@every_page
def test_python_examples_run(page, here):
    namespace = {"__name__": f"page_{page.stem.replace('-', '_')}"}
    for block in blocks(page):
        if block.language == "python" and block.run:
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, namespace)


def test_few_examples_are_not_run():
    skipped = [(page.name, block.line) for page in PAGES for block in blocks(page) if not block.run]
    assert len(skipped) <= 3
    run = [block for page in PAGES for block in blocks(page) if block.run and block.language == "python"]
    assert len(run) >= 5


@every_page
def test_commands_parse(page, monkeypatch, capsys):
    for words in commands(page):
        name = command_of(words)
        add_arguments, _, *rest = COMMANDS[name]
        monkeypatch.setitem(COMMANDS, name, (add_arguments, lambda args: 0, *rest))
        assert main(words) == 0, f"{' '.join(words)}: {capsys.readouterr().err}"


@every_page
def test_cheap_commands_run(page, here, capsys):
    for words in commands(page):
        if command_of(words) in CHEAP:
            assert main(words) == 0, f"{' '.join(words)}: {capsys.readouterr().err}"


def test_pages_show_commands():
    shown = {command_of(words) for page in PAGES for words in commands(page)}
    assert {"train", "evaluate", "predict", "report", "data inspect", "data partition"} <= shown


@every_page
def test_options_in_the_text_exist(page):
    known = set(OTHER_PROGRAMS)
    for add_arguments, *_ in COMMANDS.values():
        parser = Parser(exit_on_error=False)
        add_arguments(parser)
        known |= {option for action in parser._actions for option in action.option_strings} | {"--config", "--preset"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", prose(page)))
    assert named - known == set()


@every_page
def test_descriptions_of_data_sets_are_read(page, tmp_path):
    texts = [block.text for block in blocks(page) if block.language == "yaml" and block.text.startswith("tasks:")]
    texts += re.findall(r"dataset\.yaml +(tasks: .*)", page.read_text(encoding="utf-8"))
    for text in texts:
        (tmp_path / "dataset.yaml").write_text(text)
        assert dataset_tasks(tmp_path)


def test_every_kind_and_every_option_is_explained():
    page = ROOT / "docs" / "your-own-folder.md"
    block = next(b for b in blocks(page) if b.language == "yaml" and b.text.startswith("tasks:"))
    said: dict[str, set[str]] = {}
    for settings in yaml.safe_load(block.text)["tasks"].values():
        said.setdefault(settings["kind"], set()).update(settings)
    for kind, of in task_kinds().items():
        if of.__module__.startswith("diffusionmtl."):
            assert {f.name for f in fields(of)} - {"name", "weight"} <= said[kind], kind


@every_page
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@every_page
def test_files_and_targets_in_the_text_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:tests|src|docs)/[\w/-]+\.(?:py|md|png|webp)", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in index for page in PAGES if page.name != "README.md")


def test_pictures_are_light_and_can_be_drawn_again(tmp_path, monkeypatch):
    assert all(os.path.getsize(path) < 300_000 for path in (ROOT / "docs" / "images").iterdir())
    monkeypatch.setenv("DIFFUSIONMTL_CACHE", str(tmp_path))
    module = loaded("docs/draw_images.py")
    monkeypatch.setattr(module, "HERE", tmp_path)
    module.main()
    with Image.open(tmp_path / "rooms.webp") as again, Image.open(ROOT / "docs" / "images" / "rooms.webp") as shown:
        assert again.size == shown.size
