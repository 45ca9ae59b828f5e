"""One-to-one matching of predicted and labelled boundary pixels that lie near each other."""

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow


def near_pairs(
    pixels: Int[np.ndarray, "p"], label: Bool[np.ndarray, "h w"], max_distance: float
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
    """All pairs of a pixel and a labelled pixel no further apart than `max_distance` pixels.

    `pixels` are flat indices into the image, unique. Returns positions in `pixels`, ascending, and for each a position
    among the labelled pixels in row-major order.
    """
    reach = int(max_distance)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    within = down**2 + right**2 <= max_distance**2
    # A picture of positions with a rim: every labelled pixel then looks up the whole disc around it at once.
    position = np.full(label.size, -1)
    position[pixels] = np.arange(len(pixels))
    padded = np.pad(position.reshape(label.shape), reach, constant_values=-1)
    row, column = np.nonzero(label)
    found = padded[row[:, None] + reach + down[within], column[:, None] + reach + right[within]]
    label_position, _ = np.nonzero(found >= 0)
    pixel_position = found[found >= 0]
    order = np.argsort(pixel_position, kind="stable")
    return pixel_position[order], label_position[order]


def match(
    pixel_position: Int[np.ndarray, "pairs"],
    label_position: Int[np.ndarray, "pairs"],
    present: Bool[np.ndarray, "p"],
    labels: int,
) -> Int[np.ndarray, "matches"]:
    """Positions of the pixels in one matching of maximum cardinality, ascending; nobody is matched twice.

    Args:
        pixel_position: from `near_pairs`.
        label_position: from `near_pairs`.
        present: the pixels that take part.
        labels: number of labelled pixels.
    """
    taking_part = present[pixel_position]
    neighbours = np.bincount(pixel_position[taking_part], minlength=len(present))
    pixel = np.flatnonzero(neighbours)
    if not len(pixel):
        return pixel
    # Dinic's maximum flow, source -> pixels -> labels -> sink, each edge of capacity 1. scipy's own bipartite matching
    # gives the same cardinality, but on boundaries it now and then takes seconds instead of milliseconds.
    first_label, sink = 1 + len(pixel), 1 + len(pixel) + labels
    targets = [
        np.arange(1, first_label),
        first_label + label_position[taking_part],
        np.full(labels, sink),
    ]
    out_degree = np.concatenate([[len(pixel)], neighbours[pixel], np.ones(labels, dtype=int), [0]])
    starts = np.concatenate([[0], np.cumsum(out_degree)]).astype(np.int32)
    ends = np.concatenate(targets).astype(np.int32)
    capacity = csr_matrix((np.ones(len(ends), dtype=np.int32), ends, starts), shape=(sink + 1, sink + 1))
    flow = maximum_flow(capacity, 0, sink, method="dinic").flow
    from_source = slice(flow.indptr[0], flow.indptr[1])
    return np.sort(pixel[flow.indices[from_source][flow.data[from_source] > 0] - 1])
