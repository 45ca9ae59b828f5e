"""The oldest versions that may be installed: read rightly from what pyproject.toml says, and never a bad one."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.scripts import loaded

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool():
    return loaded("tools/oldest_versions.py")


def test_the_oldest_that_all_lines_admit(tool):
    lines = ["A.b[c]>=1.2,<3,!=1.9", "a-b>=1.10", "d~=2.4", "e==5", "f>=1; python_version < '3'", "g>1,>=2"]
    found = {name: str(version) for name, version in tool.oldest(lines).items()}
    assert found == {"a-b": "1.10", "d": "2.4", "e": "5", "g": "2"}


@pytest.mark.parametrize("lines", [["a>=1,!=1"], ["a>=2", "a<2,>=1"], ["a>=1,>1"]])
def test_one_that_is_excluded(tool, lines):
    with pytest.raises(SystemExit, match="does not admit"):
        tool.oldest(lines)


def test_a_line_without_one(tool):
    with pytest.raises(SystemExit, match="'a<2' has no lower bound"):
        tool.oldest(["a<2"])


def test_every_requirement_names_its_oldest_version(tool):
    extras = ["train", "demo", "scale", "export", "video", "docs", "dev"]
    found = tool.oldest(tool.required(ROOT / "pyproject.toml", extras))
    assert found["torch"] >= Version("2.6") and {"lightning", "gradio", "ray", "onnx", "av", "sphinx"} <= set(found)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("ERROR: ResolutionImpossible: for help visit https://pip.pypa.io", 1),
        ("ERROR: Could not find a version that satisfies the requirement a==1 (from versions: 2.0, 2.1)", 1),
        ("ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)", 3),
        ("ERROR: Could not install packages due to an OSError: HTTPSConnectionPool: Max retries exceeded", 3),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", 3),
    ],
)
def test_whose_fault_it_is_that_nothing_is_installed(tool, capsys, tmp_path, said, status):
    tries = tmp_path / "tries"
    script = f"open({str(tries)!r}, 'a').write('x'); import sys; print({said!r}, file=sys.stderr); sys.exit(1)"
    assert tool.installed([sys.executable, "-c", script]) == status
    assert tries.read_text() == "xx" and capsys.readouterr().out.count(said) == 2
    assert tool.installed([sys.executable, "-c", script.replace("sys.exit(1)", "sys.exit(0)")]) == 0


def test_releases_with_malicious_code_are_never_admitted(tool):
    lines = [Requirement(line) for line in tool.required(ROOT / "pyproject.toml", ["train"])]
    lightning = [line for line in lines if line.name in ("lightning", "pytorch-lightning")]
    assert len(lightning) == 2
    for line in lightning:
        assert not any(line.specifier.contains(bad, prereleases=True) for bad in ("2.6.2", "2.6.3"))


def test_a_folder_that_is_no_environment_is_left_alone(tool, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="no virtual environment"):
        tool.make(tmp_path, {}, [])
    assert (tmp_path / "mine.txt").read_text() == "mine"
