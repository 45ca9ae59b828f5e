"""Options of the command line: made from settings records, read from YAML files, wrong ones explained in one line."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.errors import UserError, nearest
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import config_file

CONFIG = "--config"
PRESET = "--preset"
REPEATABLE = ("--data",)
_MISSING = re.compile(r"the following arguments are required: (.*)")
_TOO_FEW = re.compile(r"argument (\S+): expected (\d+) arguments?")
_RANGE = re.compile(r"--(\S+): Not of type \w+: (\S+) does not conform to restriction (.*)")
_NO_NUMBER = re.compile(r"--(\S+): Not of type \w+: (?:invalid literal|could not convert).*'(.*)'")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_WRONG_TYPE = re.compile(r'Parser key "(.+?)": (?:Expected an? (.*?)\. Got value: (.*)|(.*))')


class Parser(ArgumentParser):
    """Mistakes are `UserError`s, which say the nearest right word.

    Attributes:
        passed_over: options of other commands that `--config` files may name; this command decides them otherwise.
    """

    passed_over: tuple[str, ...] = ()

    def __init__(self, *args: Any, **words: Any) -> None:
        # `--epoch 2` would pass for `--epochs 2`, and mean something else once there is an option of that name.
        super().__init__(*args, **{"allow_abbrev": False, **words})

    def error(self, message: str, ex: Exception | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse; argparse and jsonargparse call it."""
        line = " ".join(message.split())
        if wrong := _WRONG_TYPE.fullmatch(line):
            line = _in_words(self._word(wrong[1]), *wrong.groups(default="")[1:])
        if missing := _MISSING.fullmatch(line):
            line = self._missing(missing[1].split(", "))
        if few := _TOO_FEW.fullmatch(line):
            line = f"{few[1]}: give {few[2]} values, one after the other"
        if other := _NO_NUMBER.fullmatch(line):
            line = f"--{other[1]} {other[2]}: expected a number"
        if beyond := _RANGE.fullmatch(line):
            line = f"--{beyond[1]} {beyond[2]}: must be {_limits(beyond[3])}"
        if "nrecognized arguments:" in line:
            line = _unknown(line.partition("arguments:")[2].split(), list(self._option_string_actions))
        raise UserError(f"{line} (see {self.prog} --help)")

    def _word(self, name: str) -> str:
        """What somebody typed, or did not, for a value: an option has dashes, a word that stands by itself has none."""
        alone = any(action.dest == name and not action.option_strings for action in self._actions)
        return name if alone else f"--{name.replace('_', '-')}"

    def _missing(self, names: Sequence[str]) -> str:
        """What has to be said and was not, and how somebody would say it."""
        options = {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}
        said = " and ".join(options.get(name, name.upper()) for name in names)
        example = (self.epilog or "").replace("Example: ", "; for example: ", 1)
        return f"{said} {'is' if len(names) == 1 else 'are'} missing{example}"


def _limits(restriction: str) -> str:
    """`v>=1 and v<=9` for people."""
    between = re.fullmatch(r"v>=(\S+) and v<=(\S+)", restriction)
    if between:
        return f"from {between[1]} to {between[2]}"
    words = re.sub(r"v>=(\S+)", r"\1 or more", restriction)
    return re.sub(r"v>(\S+)", r"more than \1", words)


def _unknown(words: Sequence[str], options: Sequence[str]) -> str:
    """Words that no option takes."""
    word = next((word.split("=")[0] for word in words if word.startswith("-")), None)
    if word is not None:
        return f"{word}: no such option.{nearest(word, options)}"
    example = f", --data {words[0]} for instance" if "--data" in options else ""
    return f"{words[0]}: belongs to no option; name the one that it is for{example}"


def _in_words(option: str, expected: str, got: str, other: str) -> str:
    """`Expected a typing.Literal['a', 'b']` for people."""
    known = re.findall(r"'([^']+)'", expected) if "Literal" in expected else []
    kind = re.sub(r"<class '(.*?)'>", r"\1", expected)
    said = other or (
        f"expected one of {', '.join(known)}.{nearest(got, known)}" if known else f"expected {_KINDS.get(kind, kind)}"
    )
    return f"{option} {got}".rstrip() + f": {said}"


def parsed(parser: Parser, arguments: Sequence[str]) -> Namespace:
    """Arguments, joined by those options of `--config` files that they do not say themselves.

    Raises:
        UserError: an unknown option or a value of another type; names the option, and the file if there is one.
    """
    given, names = _without_configs(list(arguments))
    said = {word.split("=")[0] for word in given}
    from_files: dict[str, list[str]] = {}
    for name in names:
        from_files |= _tokens(parser, config_file(name))
    tokens = [token for option, words in from_files.items() if option not in said for token in words]
    try:
        return parser.parse_args([*_gathered(given), *tokens])
    except UserError as error:
        raise UserError(f"{error}, with {CONFIG} {' '.join(names)}" if names else str(error)) from None


def _without_configs(arguments: list[str]) -> tuple[list[str], list[str]]:
    rest: list[str] = []
    names: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        if word in (CONFIG, PRESET):
            name = next(waiting, None)
            if name is None:
                raise UserError(f"{word}: name a YAML file, or a configuration that comes with the package")
            names.append(name)
        elif word.startswith((f"{CONFIG}=", f"{PRESET}=")):
            names.append(word.split("=", 1)[1])
        else:
            rest.append(word)
    return rest, names


def _tokens(parser: Parser, path: Path) -> dict[str, list[str]]:
    """Per option of a YAML file, how the command line would say it."""
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: must say one option a line, e.g. epochs: 20")
    options = {o: action for action in parser._actions for o in action.option_strings if o.startswith("--")}
    tokens: dict[str, list[str]] = {}
    for key, value in values.items():
        option = f"--{str(key).replace('_', '-')}"
        if option in parser.passed_over:
            continue
        if option not in options or option == "--help":
            known = (known.removeprefix("--") for known in options)
            raise UserError(f"{path}: unknown option '{key}'.{nearest(key, known)} See {parser.prog} --help")
        if options[option].nargs == 0:
            tokens[option] = [option] if value else []
        elif options[option].nargs is not None:
            tokens[option] = [option, *map(_word, value if isinstance(value, list) else [value])]
        elif value is not None:
            tokens[option] = [f"{option}={_word(value)}"]
    return tokens


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _gathered(arguments: list[str]) -> list[str]:
    """`--data A --data B` as `--data A B`."""
    for option in REPEATABLE:
        values: list[str] = []
        rest: list[str] = []
        inside = False
        for word in arguments:
            if word == option or word.startswith(f"{option}="):
                values += word.split("=", 1)[1:]
                inside = word == option
            elif inside and not word.startswith("--"):
                values.append(word)
            else:
                inside = False
                rest.append(word)
        arguments = [*rest, option, *values] if values else rest
    return arguments


def add_settings(
    parser: ArgumentParser,
    kind: type,
    only: Sequence[str] | None = None,
    default_none: bool = False,
    helps: Mapping[str, str] | None = None,
) -> None:
    """One option for every field of a settings record, with the help that its docstring gives.

    Args:
        only: these fields; all if None.
        default_none: what is not said is None instead of the record's default.
        helps: what fields mean to this command, where that is not what they mean to training.
    """
    hints = get_type_hints(kind)
    words = {p.arg_name: p.description for p in parse_docstring(kind.__doc__ or "").params} | dict(helps or {})
    for field in fields(kind):
        if only is not None and field.name not in only:
            continue
        default: Any = field.default if field.default is not MISSING else field.default_factory()  # pyright: ignore[reportCallIssue]
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=None if default_none else list(default) if isinstance(default, tuple) else default,
            help=(words.get(field.name) or field.name).rstrip("."),
            **_shape_of(hints[field.name]),
        )


def _shape_of(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        return {"type": inner[0], "nargs": "*" if inner[-1] is Ellipsis else len(inner)}
    # A bare --switch is --switch true.
    switch = hint is bool or bool in get_args(hint)
    return {"type": hint, "nargs": "?", "const": True} if switch else {"type": hint}
