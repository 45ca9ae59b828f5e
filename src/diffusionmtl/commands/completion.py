"""`diffusionmtl completion`: a script that lets a shell complete commands, options and their words."""

import argparse
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import shtab

Shell = Literal["bash", "zsh", "fish"]
PROGRAM = "diffusionmtl"


def completion_script(shell: Shell, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script for a shell.

    Args:
        parsers: one per command, under its words, such as `data inspect`.
    """
    return shtab.complete(whole_program(parsers), shell=shell)


def whole_program(parsers: Mapping[str, argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """One parser with a sub-parser for each command; it is looked at and never asked to parse."""
    program = argparse.ArgumentParser(PROGRAM)
    program.add_argument("--version", action="store_true", help="print the version and stop")
    commands = program.add_subparsers()
    groups: dict[str, Any] = {}
    for words, parser in parsers.items():
        *group, name = words.split()
        for word in group:
            if word not in groups:
                groups[word] = commands.add_parser(word, help="more commands").add_subparsers()
        about = (parser.description or "").replace("%", "%%")
        place = groups[group[0]] if group else commands
        _copy(parser, place.add_parser(name, help=about, description=about))
    return program


def _copy(source: argparse.ArgumentParser, target: argparse.ArgumentParser) -> None:
    for action in source._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        names = action.option_strings or [action.dest]
        if action.nargs == 0:
            target.add_argument(*names, action="store_true", help=action.help)
            continue
        hint = getattr(action, "_typehint", action.type)
        choices = _choices(hint)
        copied = target.add_argument(*names, nargs=action.nargs, choices=choices, help=action.help)
        if choices is None and _is_text(hint):
            copied.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]


def _choices(hint: Any) -> list[str] | None:
    if hint is bool:
        return ["true", "false"]
    return [str(word) for word in get_args(hint)] if get_origin(hint) is Literal else None


def _is_text(hint: Any) -> bool:
    """Whether an option may name a file; numbers may not."""
    return hint is str or str in get_args(hint)
