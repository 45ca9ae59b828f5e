"""Disparity: inverse depth, up to a factor that is the data set's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from diffusionmtl.labels import LabelMap
from diffusionmtl.tasks.depth import Depth, DepthMap


class DisparityMap(LabelMap):
    """Inverse depth [1 H W], 0 where things are infinitely far."""

    def zoomed(self, scale: float) -> "DisparityMap":
        """A zoom by s shows things as if they were s times nearer, so at s times the disparity."""
        return self.like(self.plain() * scale)

    def as_published(self) -> DepthMap:
        """Divided by a zoom as if it were depth (XTC's code)."""
        return self.plain().as_subclass(DepthMap)


@dataclass(frozen=True)
class Disparity(Depth):
    """Disparity per pixel, read from a 16-bit PNG (value x scale) or a `.npy`; one unit all over the data set.

    Loss and scores are those of depth, in the unit of the labels. The default scale makes a PNG's whole range 1.

    Attributes:
        scale: disparity per unit of an integer file.
        limit: labels beyond this are an error.
    """

    scale: float = 1 / 65535

    kind: ClassVar[str] = "disparity"
    label_type: ClassVar[type[LabelMap]] = DisparityMap
    unit: ClassVar[str] = "disparity"
    spread_unit: ClassVar[str] = "disparity"
    nearness: ClassVar[float] = 1.0

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """None: any number may be a disparity."""
        return []
