"""How large images are, once somebody has looked."""

from collections.abc import Callable

import numpy as np


class Sizes:
    """Height and width of every image of a data set, or that they are not known yet.

    Eight bytes each from the start: a dict would grow with every image that a loader of millions reads.
    """

    def __init__(self, images: int) -> None:
        self._known = np.zeros((images, 2), dtype=np.int32)

    def note(self, index: int, pixels: np.ndarray) -> None:
        """An image [H W ...] has been read."""
        self._known[index] = pixels.shape[:2]

    def of(self, index: int, look: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        """H, W; asks `look` where they are not known."""
        if not self._known[index].any():
            self._known[index] = look()
        height, width = self._known[index].tolist()
        return height, width
