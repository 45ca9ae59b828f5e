"""What is missing is named with its remedy, the self-test notices what is broken, and shells can complete."""

import argparse
import json
import subprocess
from importlib import metadata

import pytest
import torch
from packaging.requirements import Requirement

from diffusionmtl.cli import COMMANDS, command_parser, main
from diffusionmtl.commands import doctor, selftest
from diffusionmtl.commands.completion import completion_script, whole_program
from diffusionmtl.commands.diagnosis_text import diagnosis_text
from tests.cli.terminal import done


def test_a_sound_installation_is_well(capsys):
    text = done(capsys, "doctor")
    assert text.splitlines()[-1] == "All is well."
    assert metadata.version("torch") in text
    for step in selftest.STEPS:
        assert step in text


def test_json_says_the_same(capsys):
    found = json.loads(done(capsys, "doctor", "--json", "--no-self-test"))
    assert found["well"] and found["checks"] == []
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["devices"][0]["name"] == "cpu"
    assert {place["name"] for place in found["places"]} == {"here", "cache"}


def test_every_extra_says_what_it_is_for():
    told = set(doctor.FEATURES) | {"all"}
    assert set(metadata.metadata(doctor.NAME).get_all("Provides-Extra") or []) <= told


def test_what_is_absent_or_too_old_is_missing():
    needed = [Requirement(line) for line in ("torch>=1", "torch>=999", "no-such-thing>=2,<3", "no-such-thing")]
    assert doctor.missing(needed) == ("torch>=999", "no-such-thing<3,>=2", "no-such-thing")


def test_a_missing_extra_is_no_illness_but_a_missing_core_is(monkeypatch, capsys):
    absent = Requirement("no-such-thing>=2")
    monkeypatch.setattr(doctor, "requirements", lambda: {"": [], "export": [absent]})
    text = diagnosis_text(doctor.examine(test=False))
    assert "no: pip install 'diffusionmtl[export]'" in text
    assert text.endswith("All is well.")
    monkeypatch.setattr(doctor, "requirements", lambda: {"": [absent]})
    assert main(["doctor", "--no-self-test"]) == 1
    assert (
        "problem: missing or too old: no-such-thing>=2; pip install --upgrade diffusionmtl" in capsys.readouterr().out
    )


def test_a_full_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_free", lambda path: 5)
    found = doctor.examine(test=False)
    assert found.well and len(found.warnings) == 2 and "0.0 GB free" in found.warnings[0]


def infinite_loss(*_):
    class Owed:
        total = torch.tensor(torch.inf, requires_grad=True)

    return Owed


def failing(*_):
    raise RuntimeError("no kernel image is available\nfor execution on the device")


@pytest.mark.parametrize(
    ("name", "replacement", "checks", "said"),
    [
        ("objective", infinite_loss, 1, "the loss is inf"),
        ("objective", failing, 1, "RuntimeError: no kernel image is available for execution on the device"),
        ("Predictor", failing, 2, "no kernel image"),
        ("load", failing, 3, "no kernel image"),
    ],
)
def test_the_self_test_notices(monkeypatch, capsys, name, replacement, checks, said):
    monkeypatch.setattr(selftest, name, replacement)
    found = list(selftest.self_test(torch.device("cpu")))
    assert len(found) == checks
    assert said in (found[-1].wrong or "")
    assert all(check.wrong is None for check in found[:-1])


def test_a_failed_self_test_is_the_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(selftest, "objective", failing)
    assert main(["doctor"]) == 1
    assert "problem: self-test on cpu, one training step: RuntimeError" in capsys.readouterr().out


def test_every_command_and_option_can_be_completed():
    program = whole_program({words: command_parser(words) for words in COMMANDS})

    def chosen(parser, word):
        return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[word]

    for words in COMMANDS:
        copy = program
        for word in words.split():
            copy = chosen(copy, word)
        known = {option for action in copy._actions for option in action.option_strings}
        wanted = {o for a in command_parser(words)._actions if a.help != argparse.SUPPRESS for o in a.option_strings}
        assert known == wanted, words
    methods = next(a for a in chosen(program, "train")._actions if a.dest == "method")
    assert "prediction" in methods.choices


def test_an_unknown_shell_is_named_as_it_was_typed(capsys):
    assert main(["completion", "tcsh"]) == 2
    said = capsys.readouterr().err
    assert "shell tcsh: expected one of bash, zsh, fish" in said and "--shell" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell, capsys):
    script = done(capsys, "completion", shell)
    assert "--label-seed" in script.replace("-l label-seed", "--label-seed")
    assert "inspect" in script


def test_bash_completes(tmp_path):
    script = tmp_path / "completion.bash"
    script.write_text(completion_script("bash", {words: command_parser(words) for words in ("train", "data inspect")}))
    asks = f"""
        source {script}
        COMP_WORDS=(diffusionmtl train --method p) COMP_CWORD=3 COMP_LINE='diffusionmtl train --method p' COMP_POINT=29
        $(complete -p diffusionmtl | sed 's/.*-F \\([^ ]*\\).*/\\1/') diffusionmtl p --method
        echo "${{COMPREPLY[@]}}"
    """
    found = subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["prediction"]


@pytest.mark.parametrize("command", ["serve", "data inspect"])
def test_help_says_what_an_option_means_to_a_command_that_trains_nothing(command):
    text = " ".join(command_parser(command).format_help().split())
    assert "--tasks" in text and "--size" in text
    assert "train only these tasks" not in text and "training picture" not in text and "drawn" in text
