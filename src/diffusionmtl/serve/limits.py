"""How much one request may ask for, and how it is told that it asked too much."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        size: bytes of a request's body.
        pixels: of an image.
        samples: noise draws.
        seconds: from when a request came to its answer, waiting included.
        waiting: how many requests may wait for the one that is being answered.
    """

    size: int = 20_000_000
    pixels: int = 24_000_000
    samples: int = 16
    seconds: float = 120.0
    waiting: int = 16


class Refused(Exception):
    """A request that gets no answer; the text is one line for whoever sent it.

    Attributes:
        status: the code of HTTP that says why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


CLOSED = 499
"""Status of a request whose sender has gone; nobody sees it."""
