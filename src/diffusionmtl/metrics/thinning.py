"""Parallel thinning of many masks at once: two subiterations after Lam, Lee and Suen (1992), run to convergence.

The masks of a stack are bits of 64-bit words, one word per pixel for 64 masks, so a condition on the eight neighbours
is a handful of bit operations for all masks together; and only pixels that are set in some mask are visited. The
thresholds of one probability map, whose masks share nearly all their pixels, cost hardly more than one mask.
"""

import math

import numpy as np
from jaxtyping import Bool, Int, UInt64

WORD = 64
"""Masks per word."""

# Anticlockwise from the east, the order in which the conditions are stated; offsets (row, column).
_NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))

_LOWEST_BITS = np.array([(1 << count) - 1 for count in range(WORD + 1)], dtype=np.uint64)


def thin(mask: Bool[np.ndarray, "*batch h w"]) -> Bool[np.ndarray, "*batch h w"]:
    """Lines one pixel wide, of the same connectedness, in the place of the regions of each mask.

    Pixels beyond the image count as unset. Thinning a result again changes nothing. Each mask of the batch is thinned
    by itself.
    """
    height, width = mask.shape[-2:]
    masks = mask.reshape(math.prod(mask.shape[:-2]), height * width)
    pixels = np.flatnonzero(masks.any(axis=0))
    thinned = thin_words(pack(masks[:, pixels]), pixels, (height, width))
    out = np.zeros_like(masks)
    out[:, pixels] = unpack(thinned, len(masks))
    return out.reshape(mask.shape)


def pack(masks: Bool[np.ndarray, "k p"]) -> UInt64[np.ndarray, "words p"]:
    """K masks over the same pixels as bits: mask k is bit k % 64 of word k // 64."""
    words = -(-len(masks) // WORD)
    padded = np.zeros((words * WORD, masks.shape[1]), dtype=bool)
    padded[: len(masks)] = masks
    per_pixel = padded.reshape(words, WORD, masks.shape[1]).swapaxes(1, 2)
    as_bytes = np.ascontiguousarray(np.packbits(per_pixel, axis=-1, bitorder="little"))
    return as_bytes.view("<u8")[..., 0].astype(np.uint64)


def pack_nested(levels: Int[np.ndarray, "p"], count: int) -> UInt64[np.ndarray, "words p"]:
    """`pack` of `count` masks of which mask k is set where `levels > k`."""
    starts = np.arange(0, count, WORD)
    return _LOWEST_BITS[np.clip(np.minimum(levels, count) - starts[:, None], 0, WORD)]


def unpack(words: UInt64[np.ndarray, "words p"], count: int) -> Bool[np.ndarray, "k p"]:
    """The first `count` masks of what `pack` packed."""
    as_bytes = np.ascontiguousarray(words, dtype="<u8")[..., None].view(np.uint8)
    per_pixel = np.unpackbits(as_bytes, axis=-1, bitorder="little")
    return per_pixel.swapaxes(1, 2).reshape(len(words) * WORD, words.shape[1])[:count].astype(bool)


def thin_words(
    words: UInt64[np.ndarray, "words p"], pixels: Int[np.ndarray, "p"], shape: tuple[int, int]
) -> UInt64[np.ndarray, "words p"]:
    """`thin` for packed masks given at `pixels` only.

    Args:
        words: the packed masks at these pixels.
        pixels: flat indices into an image of `shape`, ascending, unique; every mask is unset elsewhere.
        shape: height and width.
    """
    padded_width = shape[1] + 2
    flat = (pixels // shape[1] + 1) * padded_width + pixels % shape[1] + 1
    offsets = np.array([row * padded_width + column for row, column in _NEIGHBOURS])
    canvas = np.zeros((len(words), (shape[0] + 2) * padded_width), dtype=np.uint64)
    canvas[:, flat] = words
    for plane in canvas:
        _thin_plane(plane, flat, offsets)
    return canvas[:, flat]


def _thin_plane(plane: UInt64[np.ndarray, "pixels"], flat: Int[np.ndarray, "p"], offsets: Int[np.ndarray, "8"]) -> None:
    """Thin one word per pixel in place.

    What was not deletable stays so until something next to it goes, so a subiteration visits the surroundings of what
    was deleted since it last came by: by the other one and by itself.
    """
    active = flat[plane[flat] != 0]
    last, before_last = active, active
    around = np.append(offsets, 0)[:, None]
    touched = np.zeros(len(plane), dtype=bool)
    second = False
    while len(last) or len(before_last):
        deleted = _deletable(plane[active + offsets[:, None]], second) & plane[active]
        plane[active] ^= deleted
        last, before_last = active[deleted != 0], last
        touched[:] = False
        touched[last + around] = True
        touched[before_last + around] = True
        active = np.flatnonzero(touched & (plane != 0))
        second = not second


def _deletable(x: UInt64[np.ndarray, "8 p"], second: bool) -> UInt64[np.ndarray, "p"]:
    """Bits of the pixels that a subiteration may delete, given their neighbours anticlockwise from the east."""
    # G1: going round, exactly one crossing from unset to set.
    crossings = [~x[k] & (x[k + 1] | x[(k + 2) % 8]) for k in (0, 2, 4, 6)]
    ab, cd = crossings[0] ^ crossings[1], crossings[2] ^ crossings[3]
    one_crossing = (ab ^ cd) & ~(crossings[0] & crossings[1]) & ~(crossings[2] & crossings[3])
    # G2: the neighbours, taken as four pairs in either of two ways, hold two or three set pairs at the least.
    two, four = _two_and_four([x[k] | x[k + 1] for k in (0, 2, 4, 6)])
    other_two, other_four = _two_and_four([x[k + 1] | x[(k + 2) % 8] for k in (0, 2, 4, 6)])
    not_an_end = two & other_two & ~(four & other_four)
    # G3: the first subiteration takes from the north-east side, the second from the south-west.
    keep = (x[5] | x[6] | ~x[3]) & x[4] if second else (x[1] | x[2] | ~x[7]) & x[0]
    return one_crossing & not_an_end & ~keep


def _two_and_four(pairs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bits where at least two, and where all four of the pairs are set."""
    a, b, c, d = pairs
    first, last = a & b, c & d
    return first | last | ((a ^ b) & (c ^ d)), first & last
