"""Long work that nobody watches says now and then how far it is."""

import sys
import time

SECONDS = 30.0


class Pace:
    """Prints a line to stderr where that is no terminal, and no more than one in `SECONDS`; the first after as many."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, what: str, done: int, total: int, unit: str) -> None:
        """`what: 40 of 100 images`, if it is time."""
        if sys.stderr.isatty() or time.monotonic() - self._last < SECONDS:
            return
        self._last = time.monotonic()
        print(f"{what}: {done} of {total} {unit}", file=sys.stderr, flush=True)
