"""Values that a person wrote in YAML, held against the type that a task's field announces."""

import math
import types
from typing import Any, Literal, Union, get_args, get_origin


def fitting(key: str, value: Any, hint: Any) -> Any:
    """`value` as `hint` announces it: lists become tuples, `1e-3` (a string to YAML) a number, an int a float.

    Other types, and annotations that are still strings, let everything through.

    Raises:
        ValueError: it does not fit; the text names `key` and what was expected.
    """
    if get_origin(hint) in (Union, types.UnionType):
        return _one_of(key, value, get_args(hint))
    if get_origin(hint) is Literal:
        return _literal(key, value, get_args(hint))
    if get_origin(hint) is tuple:
        return _names(key, value) if get_args(hint) == (str, ...) else tuple(value)
    if hint is float:
        return _number(key, value)
    if hint in (int, bool, str) and type(value) is not hint:
        raise ValueError(f"{key} must be {_EXPECTED[hint]}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


_EXPECTED = {int: "a whole number", bool: "true or false", str: "text"}


def _one_of(key: str, value: Any, hints: tuple[Any, ...]) -> Any:
    if value is None and type(None) in hints:
        return None
    others = [hint for hint in hints if hint is not type(None)]
    return fitting(key, value, others[0]) if len(others) == 1 else value


def _literal(key: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    if not any(value == word and type(value) is type(word) for word in allowed):
        raise ValueError(f"{key} must be {' or '.join(map(str, allowed))}, not {value!r}")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be a list of names, e.g. [first, second], not {value!r}")
    for name in value:
        if isinstance(name, bool) or name is None:
            raise ValueError(
                f"{key}: YAML reads an unquoted yes, no, on, off or null as {name}; put the name in quotes"
            )
        if not isinstance(name, str | int | float):
            raise ValueError(f"{key} must be a list of names, not of {name!r}")
    return tuple(str(name) for name in value)


def _number(key: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} must be a number, not {value!r}")
    return number
