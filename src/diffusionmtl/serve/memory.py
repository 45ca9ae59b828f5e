"""Memory that a busy minute took and nobody needs any more."""

import ctypes
import gc
from collections.abc import Callable
from functools import cache


def give_back_memory() -> None:
    """Let the system have what is free: glibc keeps most of it for itself, a gigabyte after a few large images."""
    gc.collect()
    trim = _trimmer()
    if trim is not None:
        trim(0)


@cache
def _trimmer() -> Callable[[int], int] | None:
    """`malloc_trim` of the C library that this process runs on; None where there is none (macOS, Windows, musl)."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
