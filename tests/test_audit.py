"""What is known against the packages that are installed: asked of others, and never a verdict that nobody gave."""

import json
import sys

import pytest

from tests.scripts import loaded

ONE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2"], "aliases": []}]}
SKIPPED = {"name": "torch", "skip_reason": "not on the index"}
NOTHING = {"name": "numpy", "version": "2.0", "vulns": []}


@pytest.fixture(scope="module")
def tool():
    return loaded("tools/audit.py")


def test_everything_that_is_needed_is_asked_about_in_its_public_version(tool):
    found = dict(pin.split("==") for pin in tool.pinned(["train"]))
    assert {"torch", "pillow", "lightning", "timm"} <= found.keys() and "diffusionmtl" not in found
    assert "+" not in "".join(found.values())


@pytest.mark.parametrize(
    ("of_the_bad", "said", "status", "words"),
    [
        (
            {"dependencies": [ONE]},
            {"dependencies": [ONE, SKIPPED, NOTHING]},
            1,
            "pillow 1.0: PYSEC-1; mended in 1.1, 2",
        ),
        ({"dependencies": [ONE]}, {"dependencies": [NOTHING]}, 0, "0 known vulnerabilities of 2 packages"),
        ({"dependencies": [ONE]}, None, 3, "advisories on 2 packages cannot be reached (no route to host)"),
        (None, {"dependencies": [NOTHING]}, 3, "advisories on 2 packages cannot be reached (no route to host)"),
        ({"dependencies": []}, {"dependencies": [NOTHING]}, 3, "cannot be reached (nothing is said of pillow==9.0.0)"),
    ],
)
def test_what_the_advisories_say(tool, tmp_path, monkeypatch, capsys, of_the_bad, said, status, words):
    script = (
        "import sys; sys.stderr.write('no route to host\\n'); bad = 'pillow==9.0.0' in open(sys.argv[2]).read()\n"
        f"print({json.dumps(of_the_bad)!r} if bad else {json.dumps(said)!r})"
    )
    monkeypatch.setattr(tool, "program", lambda folder: sys.executable)
    monkeypatch.setattr(tool, "pinned", lambda extras: ["a==1", "b==2"])
    usual = tool.ask
    monkeypatch.setattr(tool, "ask", lambda command, *rest: usual([*command, "-c", script], *rest))
    monkeypatch.setattr(sys, "argv", ["audit.py", "--venv", str(tmp_path)])
    assert tool.main() == status
    assert words in capsys.readouterr().out


def test_what_cannot_be_installed_is_no_verdict_either(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "program", lambda folder: None)
    monkeypatch.setattr(sys, "argv", ["audit.py", "--venv", str(tmp_path)])
    assert tool.main() == 3
    assert "Not audited" in capsys.readouterr().out
