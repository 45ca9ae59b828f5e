"""The Dockerfile: what it needs is there and reaches the builder, and what its page says can be typed."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from diffusionmtl.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ARGUMENTS = {"PYTHON", "DEVICE", "TORCH", "TORCHVISION", "EXTRAS"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its words, without comments and broken lines."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


@pytest.fixture(scope="module")
def said() -> list[tuple[str, str]]:
    return instructions((ROOT / "Dockerfile").read_text("utf-8"))


@pytest.fixture(scope="module")
def arguments(said) -> dict[str, str]:
    return dict(rest.split("=") for word, rest in said if word == "ARG" and "=" in rest)


@pytest.fixture(scope="module")
def copied(said) -> list[str]:
    """What is copied from the repository."""
    copies = [shlex.split(rest) for word, rest in said if word == "COPY" and not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """The words of every `docker` command of the page."""
    page = (ROOT / "docs" / "containers.md").read_text("utf-8")
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [words for words in (shlex.split(line, comments=True) for line in fenced.splitlines()) if "docker" in words]


def test_the_package_is_built_from_what_is_copied(copied):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *build["force-include"]}
    needed |= {package.split("/")[0] for package in build["packages"]}
    assert needed == set(copied) and all((ROOT / path).exists() for path in copied)


def test_what_is_copied_reaches_the_builder_and_nothing_private_does(copied):
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*" and {line[1:] for line in lines if line.startswith("!")} == set(copied)
    last = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for name in ("__pycache__", "cli.pyc"):
        assert any(fnmatch(name, pattern) for pattern in last), name


def test_versions_are_those_that_the_package_admits(arguments):
    core = {line.name: line.specifier for line in map(Requirement, PROJECT["dependencies"])}
    assert core["torch"].contains(arguments["TORCH"]) and core["torchvision"].contains(arguments["TORCHVISION"])
    assert f"Programming Language :: Python :: {arguments['PYTHON']}" in PROJECT["classifiers"]
    assert set(arguments["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    assert set(arguments) == ARGUMENTS


def test_stages_are_there(said, arguments):
    known: set[str] = set()
    for words in [rest.split() for word, rest in said if word == "FROM"]:
        assert words[1] == "AS"
        if not words[0].startswith("python:"):
            bases = {words[0].replace("${DEVICE}", device) for device in ("cpu", "cuda")}
            assert bases <= known
        known.add(words[2])
    assert arguments["DEVICE"] == "cpu" and {"torch-cpu", "torch-cuda"} <= known


def test_it_runs_without_rights_and_keeps_runs(said):
    last = said[max(at for at, (word, _) in enumerate(said) if word == "FROM") :]
    final = dict(last)
    assert final["USER"] == "1000" and final["VOLUME"] == f"{final['WORKDIR']}/runs"
    assert final["ENTRYPOINT"] == '["diffusionmtl"]' and "diffusionmtl" in PROJECT["scripts"]
    environment = dict(re.findall(r"(\w+)=(\S+)", final["ENV"]))
    for name in ("XDG_CACHE_HOME", "DIFFUSIONMTL_CACHE"):
        assert environment[name].startswith(final["VOLUME"])
    assert not any(word == "RUN" for word, _ in last[last.index(("USER", final["USER"])) :])


def test_commands_on_its_page_parse(commands, monkeypatch, capsys):
    runs = [words for words in commands if words[words.index("docker") + 1] == "run"]
    assert len(runs) >= 5
    for words in runs:
        at = next(i for i, word in enumerate(words) if word.split(":")[0] == "diffusionmtl")
        name = words[at + 1]
        add_arguments, _, *rest = COMMANDS[name]
        monkeypatch.setitem(COMMANDS, name, (add_arguments, lambda args: 0, *rest))
        assert main(words[at + 1 :]) == 0, f"{' '.join(words)}: {capsys.readouterr().err}"


def test_builds_on_its_page_set_what_there_is(commands, arguments):
    builds = [words for words in commands if words[words.index("docker") + 1] == "build"]
    given = [words[at + 1].split("=") for words in builds for at, word in enumerate(words) if word == "--build-arg"]
    assert len(builds) >= 2 and {name for name, _ in given} <= set(arguments)
    for name, value in given:
        if name == "EXTRAS":
            assert set(value.split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_the_wheel_is_the_same_from_what_is_copied(copied, tmp_path):
    (tmp_path / "source").mkdir()
    for path in copied:
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, tmp_path / "source" / path)
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "out")]
    subprocess.run(words, cwd=tmp_path / "source", check=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("diffusionmtl/")}
    sources = {f"diffusionmtl/{p.relative_to(ROOT / 'src/diffusionmtl')}" for p in (ROOT / "src").rglob("*.py")}
    assert sources <= inside and "diffusionmtl/configs/lite.yaml" in inside
