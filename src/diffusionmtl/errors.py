"""The one error that a user can mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake outside the package: a file, a setting, an argument.

    Its text is one line that names the file or field, what is wrong with it and how to mend it. The command line prints
    that line and exits with status 2; from Python it is an ordinary exception.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word closest to `word`, as a hint to append to an error; empty if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
