"""DiffusionMTL: one network for every dense task, learnt from partly labelled images.

The public names are loaded when they are first used: importing this package costs nothing, and the command line can
print its help without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusionmtl.api import create
    from diffusionmtl.errors import UserError
    from diffusionmtl.inference.load import load
    from diffusionmtl.inference.prediction import Prediction, TaskPrediction
    from diffusionmtl.inference.predictor import Predictor
    from diffusionmtl.inference.tiles import Tiling
    from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals, Task

__version__ = "0.1.0"

_HOME = {
    "Boundary": "diffusionmtl.tasks",
    "Depth": "diffusionmtl.tasks",
    "Prediction": "diffusionmtl.inference.prediction",
    "Predictor": "diffusionmtl.inference.predictor",
    "Saliency": "diffusionmtl.tasks",
    "SemanticSegmentation": "diffusionmtl.tasks",
    "SurfaceNormals": "diffusionmtl.tasks",
    "Task": "diffusionmtl.tasks",
    "TaskPrediction": "diffusionmtl.inference.prediction",
    "Tiling": "diffusionmtl.inference.tiles",
    "UserError": "diffusionmtl.errors",
    "create": "diffusionmtl.api",
    "load": "diffusionmtl.inference.load",
}

__all__ = [
    "Boundary",
    "Depth",
    "Prediction",
    "Predictor",
    "Saliency",
    "SemanticSegmentation",
    "SurfaceNormals",
    "Task",
    "TaskPrediction",
    "Tiling",
    "UserError",
    "create",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'diffusionmtl' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
