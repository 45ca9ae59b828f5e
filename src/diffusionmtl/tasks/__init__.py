"""The task kinds: segmentation, depth, disparity, normals, saliency and boundaries."""

from diffusionmtl.tasks.base import Meter, Task, task_from_settings, task_kinds
from diffusionmtl.tasks.boundary import Boundary
from diffusionmtl.tasks.depth import Depth
from diffusionmtl.tasks.disparity import Disparity
from diffusionmtl.tasks.normals import SurfaceNormals
from diffusionmtl.tasks.saliency import Saliency
from diffusionmtl.tasks.segmentation import SemanticSegmentation

__all__ = [
    "Boundary",
    "Depth",
    "Disparity",
    "Meter",
    "Saliency",
    "SemanticSegmentation",
    "SurfaceNormals",
    "Task",
    "task_from_settings",
    "task_kinds",
]
