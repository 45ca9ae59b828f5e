"""The pages that the code writes itself: every command and every setting, with the help that the program gives.

A command, option or setting without help stops the build: `Unexplained` names it.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring

from diffusionmtl.cli import COMMANDS, command_parser
from diffusionmtl.config import _RANGES, GROUPS

SETTINGS_PAGE = "settings.md"
# A command that takes more settings than this shows its own options alone.
MANY = 30
TITLES = {"data": "Data", "augment": "Augmentation", "network": "Network", "train": "Training"}


class Unexplained(Exception):
    """Something public has no help."""


def commands_text() -> str:
    """Markdown: a section for every command."""
    return "\n".join(line for words in COMMANDS for line in _command(words, command_parser(words)))


def settings_text() -> str:
    """Markdown: a section for every group of settings."""
    return "\n".join(line for name, kind in GROUPS.items() for line in _group(TITLES.get(name, name), kind))


def _command(words: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    example = (parser.epilog or "").removeprefix("Example: ")
    if not parser.description or not example:
        raise Unexplained(f"diffusionmtl {words} has no description or no example")
    yield from (f"## {words}", "", parser.description, "", "```text", f"$ {example}", "```", "")
    settings = {f"--{f.name.replace('_', '-')}" for kind in GROUPS.values() for f in fields(kind)}
    actions = [a for a in parser._actions if a.help != argparse.SUPPRESS and "--help" not in a.option_strings]
    shared = [a for a in actions if settings & set(a.option_strings)]
    shown = [a for a in actions if a not in shared] if len(shared) > MANY else actions
    yield from ("| option | takes | default | |", "|---|---|---|---|")
    yield from (_option(words, action) for action in shown)
    yield ""
    if shown is not actions:
        yield f"And nearly every [setting]({SETTINGS_PAGE}), as an option of the same name: {len(shared)} of them."
        yield ""


def _option(words: str, action: argparse.Action) -> str:
    names = [option for option in action.option_strings if option.startswith("--")] or [action.dest.upper()]
    name = names[0]
    if not action.help or action.help == action.dest:
        raise Unexplained(f"diffusionmtl {words}: {name} has no help")
    takes = "" if action.nargs == 0 else in_words(getattr(action, "_typehint", action.type))
    if action.nargs in ("*", "+"):
        takes += ", several"
    elif isinstance(action.nargs, int) and action.nargs > 1:
        takes += f", {action.nargs} of them"
    required = action.required and bool(action.option_strings)
    default = "required" if required else "" if action.nargs == 0 else shown_value(action.default)
    return _row(
        " ".join(f"`{name}`" for name in names),
        takes,
        default,
        action.help % {"default": action.default} if "%(" in action.help else action.help,
    )


def _group(title: str, kind: type) -> Iterator[str]:
    about = parse_docstring(kind.__doc__ or "")
    words = {p.arg_name: " ".join((p.description or "").split()) for p in about.params}
    hints = get_type_hints(kind)
    yield from (f"## {title}", "", about.short_description or "", "")
    yield from ("| key | takes | default | |", "|---|---|---|---|")
    for field in fields(kind):
        if not words.get(field.name):
            raise Unexplained(f"{kind.__name__}.{field.name} has no line under Attributes")
        default = field.default if field.default is not MISSING else field.default_factory()  # pyright: ignore[reportCallIssue]
        takes = in_words(hints[field.name]) + range_in_words(_RANGES.get(field.name))
        yield _row(f"`{field.name}`", takes, shown_value(default), words[field.name])
    yield ""


def in_words(hint: Any) -> str:
    """What an option or a key takes."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin is tuple:
        return f"{in_words(inner[0])}, {'several' if inner[-1] is Ellipsis else f'{len(inner)} of them'}"
    if origin is dict:
        return f"{in_words(inner[0])}: {in_words(inner[1])}"
    if origin is Union or type(None) in inner:
        return " or ".join(in_words(of) for of in inner if of is not type(None))
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    named = {"NonNegativeInt": "whole number, 0 or more", "PositiveInt": "whole number, 1 or more"}
    named |= {"NonNegativeFloat": "number, 0 or more", "PositiveFloat": "number, more than 0"}
    return plain.get(hint) or named.get(getattr(hint, "__name__", "")) or "text"


def range_in_words(limits: tuple[float, float] | None) -> str:
    """The numbers that are accepted; the least ones that differ from 0 mean more than 0."""
    if limits is None:
        return ""
    low, high = limits
    least = "more than 0" if 0 < low < 1e-6 else f"{low:g} or more"
    return f", {least}" if high == math.inf else f", {least} and at most {high:g}"


def shown_value(value: Any) -> str:
    """A default as one would type it."""
    if value is None or value == argparse.SUPPRESS or (isinstance(value, list | tuple | dict) and not value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`{' '.join(map(str, value))}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


GENERATED: Mapping[str, Callable[[], str]] = {"every command": commands_text, "every setting": settings_text}
"""What `<!-- generated: WORDS -->` on a page becomes."""


def filled(text: str) -> str:
    """A page with what is generated in place of its markers."""
    for words, write in GENERATED.items():
        marker = f"<!-- generated: {words} -->"
        if marker in text:
            text = text.replace(marker, write())
    return text
