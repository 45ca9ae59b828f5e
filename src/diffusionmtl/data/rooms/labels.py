"""Labels that are read off the instance map."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from diffusionmtl.data.rooms.parts import SEMSEG_CLASSES

_PERSON = SEMSEG_CLASSES.index("person")


def instance_edges(instances: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose right or lower neighbour belongs to another instance."""
    edge = np.zeros(instances.shape, bool)
    edge[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    edge[:-1] |= instances[:-1] != instances[1:]
    return edge


def salient(
    semseg: UInt8[np.ndarray, "h w"],
    instances: Int[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    standing: Bool[np.ndarray, " i"],
) -> Bool[np.ndarray, "h w"]:
    """The people if any are visible, else the most prominent free-standing thing, else nothing.

    Prominence is visible area, each pixel weighted by its nearness (1 / depth) and by a Gaussian around the image's
    middle (sigma: a third of each side), so that a near thing in the middle beats a larger one behind it or cut off by
    the border. `standing[i]` tells whether instance i may be it.
    """
    people = semseg == _PERSON
    if people.any():
        return people
    height, width = instances.shape
    y, x = (np.linspace(-1.5, 1.5, n) for n in (height, width))
    weight = np.exp(-0.5 * (np.square(y)[:, None] + np.square(x))) / depth
    score = np.bincount(instances.ravel(), weights=weight.ravel(), minlength=len(standing)) * standing
    return (instances == score.argmax()) & (score.max() > 0)
