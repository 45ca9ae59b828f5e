"""Overlapping tiles of an image that is too large to be seen at once, and how what they say becomes one map.

Tiles begin and end on the network's grid, so their raw outputs (logits, metres, unnormalised normals) lie cell on cell
and are averaged there, before anything is enlarged: two tiles never draw one boundary side by side. In an overlap the
weight goes over smoothly from one tile to the next, and the outer quarter of it, where a tile has seen least of what
surrounds it, counts for nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.seeds import derive_seed

Key = tuple[str, str]
Maps = Mapping[Key, Tensor]
Span = tuple[int, int]

# Cells along each side of a block of noise.
_BLOCK = 32


@dataclass(frozen=True)
class Tiling:
    """How large images are seen piece by piece, at their own resolution.

    Attributes:
        tile: H, W of a tile in pixels, enlarged to the network's grid and to room for the overlap; best the size of
            training crops.
        overlap: pixels that neighbours share at least.

    Raises:
        ValueError: the tile is empty or the overlap is more than half of it.
    """

    tile: tuple[int, int]
    overlap: int

    def __post_init__(self) -> None:
        if min(self.tile) < 1:
            raise ValueError(f"a tile must have a height and a width of at least 1, not {self.tile}")
        if not 0 <= self.overlap <= min(self.tile) / 2:
            raise ValueError(f"overlap must lie between 0 and half a tile ({min(self.tile) // 2}), not {self.overlap}")


@dataclass(frozen=True)
class Plan:
    """The tiles of one image.

    Attributes:
        size: H, W of the image.
        rows: where rows of tiles begin and end, in pixels of the padded image, top to bottom.
        columns: likewise, left to right.
        overlap: see `Tiling`.
        stride: pixels per cell of the network's outputs.
    """

    size: tuple[int, int]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    overlap: int
    stride: int

    @classmethod
    def of(cls, size: tuple[int, int], tiling: Tiling | None, multiple: int, stride: int) -> "Plan":
        """Tiles that cover an image; one as large as the image if `tiling` is None.

        Args:
            multiple: what the network pads sides to; `stride` divides it.
        """
        tile, overlap = (size, 0) if tiling is None else (tiling.tile, tiling.overlap)
        rows, columns = (spans(n, t, overlap, multiple) for n, t in zip(size, tile, strict=True))
        return cls(size, rows, columns, overlap, stride)

    @property
    def padded(self) -> tuple[int, int]:
        """H, W of the image as the network pads it."""
        return self.rows[-1][1], self.columns[-1][1]

    @property
    def grid(self) -> tuple[int, int]:
        """H, W of the outputs in cells."""
        return self.padded[0] // self.stride, self.padded[1] // self.stride

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.rows) * len(self.columns)


def spans(length: int, tile: int, overlap: int, multiple: int) -> tuple[Span, ...]:
    """Intervals that cover `length`, rounded up to a multiple of `multiple`, and overlap by `overlap` or more."""
    # Neighbours are at least one step of the grid apart, so a tile of one step could not overlap.
    needed = max(tile, overlap + multiple) if overlap else tile
    whole, tile = (-(-n // multiple) * multiple for n in (length, needed))
    if tile >= whole:
        return ((0, whole),)
    step = max(multiple, (tile - overlap) // multiple * multiple)
    starts = [*range(0, whole - tile, step), whole - tile]
    return tuple((start, start + tile) for start in starts)


def weights(intervals: tuple[Span, ...], overlap: int, stride: int) -> list[Float32[np.ndarray, "_"]]:
    """Per interval its share of each of its cells; the shares of a cell add up to 1."""
    end = intervals[-1][1] // stride
    total = np.zeros(end)
    windows = []
    for a, b in intervals:
        start, stop = a // stride, b // stride
        cells = np.arange(start, stop) + 0.5
        window = np.ones(stop - start)
        if overlap and start > 0:
            window *= _rise((cells - start) * stride / overlap)
        if overlap and stop < end:
            window *= _rise((stop - cells) * stride / overlap)
        total[start:stop] += window
        windows.append(window)
    return [
        (window / total[a // stride : b // stride]).astype(np.float32)
        for window, (a, b) in zip(windows, intervals, strict=True)
    ]


def _rise(share: np.ndarray) -> np.ndarray:
    """From 0 at a quarter of an overlap to 1 at three quarters, smoothly; what falls beside it adds up to 1."""
    t = np.clip(2 * share - 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def blended(plan: Plan, look: Callable[[int, int, int, int], Maps]) -> Iterator[Maps]:
    """What the tiles say together, in blocks of whole rows of cells from top to bottom.

    No more than one row of tiles is kept.

    Args:
        plan: the tiles.
        look: (top, left, bottom, right) in pixels of the padded image -> raw outputs [..., h, w] of that tile.
    """
    across = weights(plan.columns, plan.overlap, plan.stride)
    down = weights(plan.rows, plan.overlap, plan.stride)
    pending: dict[Key, Tensor] = {}
    for row, (top, bottom) in enumerate(plan.rows):
        share = torch.from_numpy(down[row])[:, None]
        height = (bottom - top) // plan.stride
        for (left, right), beside in zip(plan.columns, across, strict=True):
            for key, raw in look(top, left, bottom, right).items():
                if plan.count == 1:
                    pending[key] = raw
                    continue
                # What the row above left here is at the top of this one.
                into = pending[key] = _rows_added(pending.get(key), raw, height, plan.grid[1])
                window = (share * torch.from_numpy(beside)).to(raw.device)
                into[..., left // plan.stride : right // plan.stride] += raw * window
        last = row + 1 == len(plan.rows)
        done = height if last else (plan.rows[row + 1][0] - top) // plan.stride
        yield {key: rows[..., :done, :] for key, rows in pending.items()}
        pending = {} if last else {key: rows[..., done:, :].clone() for key, rows in pending.items()}


def _rows_added(rows: Tensor | None, like: Tensor, height: int, width: int) -> Tensor:
    """`rows`, followed by zeros up to `height`."""
    if rows is None:
        return like.new_zeros(*like.shape[:-2], height, width)
    return F.pad(rows, (0, 0, 0, height - rows.shape[-2])) if rows.shape[-2] < height else rows


@dataclass(frozen=True)
class FieldNoise:
    """Standard normal noise that belongs to places of a whole image: tiles that overlap see the same.

    Drawn per (seed, task, step, block of cells), so a tile's noise depends neither on its size nor on its neighbours.

    Attributes:
        seed: of the draw; another seed is another sample.
        top: the tile's first row of cells in the image.
        left: its first column.
    """

    seed: int
    top: int
    left: int

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Drawn on the CPU in float32 whatever the device, so that devices agree."""
        _, channels, height, width = like.shape
        down, across = _touched(self.top, height), _touched(self.left, width)
        noise = torch.empty(channels, len(down) * _BLOCK, len(across) * _BLOCK)
        for i, y in enumerate(down):
            for j, x in enumerate(across):
                generator = torch.Generator().manual_seed(derive_seed(self.seed, "field", task, step, y, x))
                block = torch.empty(channels, _BLOCK, _BLOCK).normal_(generator=generator)
                noise[:, i * _BLOCK : (i + 1) * _BLOCK, j * _BLOCK : (j + 1) * _BLOCK] = block
        top, left = self.top % _BLOCK, self.left % _BLOCK
        noise = noise[:, top : top + height, left : left + width]
        return noise.expand(like.shape).to(device=like.device, dtype=like.dtype)


def _touched(start: int, length: int) -> range:
    """The blocks that some cells lie in."""
    return range(start // _BLOCK, -(-(start + length) // _BLOCK))
