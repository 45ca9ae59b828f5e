"""The task kinds: everything the package knows about segmentation, depth, normals, saliency and boundaries."""

from diffusionmtl.tasks.base import Meter, Task, task_from_settings, task_kinds
from diffusionmtl.tasks.boundary import Boundary
from diffusionmtl.tasks.depth import Depth
from diffusionmtl.tasks.normals import SurfaceNormals
from diffusionmtl.tasks.saliency import Saliency
from diffusionmtl.tasks.segmentation import SemanticSegmentation

__all__ = [
    "Boundary",
    "Depth",
    "Meter",
    "Saliency",
    "SemanticSegmentation",
    "SurfaceNormals",
    "Task",
    "task_from_settings",
    "task_kinds",
]
