"""The one error that a user can mend."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake outside the package: a file, a setting, an argument.

    Its text is one line that names the file or field, what is wrong with it and how to mend it. The command line prints
    that line and exits with status 2; from Python it is an ordinary exception. Names of files are whatever
    somebody wrote: line breaks, control characters and bytes that are no text are spelt out, so that it stays one line
    that any terminal can show.
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


def nearest(word: object, known: Iterable[str]) -> str:
    """The known word closest to `word`, as a hint to append to an error; empty if none is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def in_one_line(error: BaseException, most: int = 160, typed: bool = False) -> str:
    """What an error says, in one line of at most `most` characters.

    Its type stands before it if `typed`, and in its place if it says nothing.
    """
    said, kind = " ".join(str(error).split()), type(error).__name__
    return (f"{kind}: {said}" if typed and said else said or kind)[:most]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of many, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
