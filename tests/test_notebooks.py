"""The teaching notebooks are clean as stored and run from top to bottom."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from diffusionmtl.arguments import parsed
from diffusionmtl.cli import COMMANDS, command_parser

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def commands(path: Path) -> list[str]:
    """Every line that the notebook hands to the program."""
    nodes = ast.walk(ast.parse("\n".join(code(path))))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if any(re.match(rf"{words} \S", text) for words in COMMANDS)]


def test_there_are_four_lessons_and_each_is_in_the_list():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 4
    assert all(f"({path.name})" in listed for path in NOTEBOOKS)


@every_notebook
def test_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@every_notebook
def test_commands_of_notebooks_parse(path):
    assert commands(path)
    for line in commands(path):
        words = next(w for w in sorted(COMMANDS, key=len, reverse=True) if line.startswith(f"{w} "))
        parsed(command_parser(words), shlex.split(line.removeprefix(words)))


@pytest.mark.slow
@every_notebook
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra dev")
    client = pytest.importorskip("nbclient", reason="needs the extra dev")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("DIFFUSIONMTL_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert shown
