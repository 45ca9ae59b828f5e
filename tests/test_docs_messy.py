"""The walk through the messy folder shows what the program says."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from diffusionmtl.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "messy-folder.md"


def steps() -> list[tuple[str, list[str]]]:
    """Every command of the page, with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```text"
        elif inside and line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif inside and line != "...":
            found[-1][1].append(line)
    return found


def said(command: str, capsys) -> tuple[int, str]:
    words = shlex.split(command)
    if words[0] == "diffusionmtl":
        code = main(words[1:])
        out, err = capsys.readouterr()
        return code, out + err
    if words[0] == "python":
        words = [sys.executable, str(ROOT / words[1]), *words[2:]]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_walk_is_what_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    inspected = 0
    for command, shown in steps():
        code, text = said(command, capsys)
        inspected += "data inspect" in command
        assert code == (2 if "data inspect" in command and inspected == 1 else 0), (command, text)
        for line in shown:
            assert line in text.splitlines(), (command, line, text)
    assert inspected == 2
    assert (tmp_path / "runs/messy/checkpoints/last.safetensors").is_file()
