"""The task sets of the published benchmarks: names, classes and factors in the objective (reference tables)."""

from collections.abc import Sequence
from dataclasses import replace

from diffusionmtl.tasks.base import Task
from diffusionmtl.tasks.boundary import Boundary
from diffusionmtl.tasks.depth import Depth
from diffusionmtl.tasks.normals import SurfaceNormals
from diffusionmtl.tasks.saliency import Saliency
from diffusionmtl.tasks.segmentation import SemanticSegmentation

PASCAL_CONTEXT_CLASSES = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor".split()
)
HUMAN_PARTS_CLASSES = ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")
NYUD_CLASSES = tuple("bed books ceiling chair floor furniture objects picture sofa table tv wall window".split())
CITYSCAPES_CLASSES = tuple("flat construction object nature sky human vehicle".split())

# Channels of the condition come in this order, whatever the order in which somebody lists the tasks.
PUBLISHED_ORDER = ("semseg", "human_parts", "sal", "depth", "normals", "edge")


def pascal_context_tasks() -> tuple[Task, ...]:
    """The five tasks of PASCAL-Context."""
    return (
        SemanticSegmentation("semseg", PASCAL_CONTEXT_CLASSES),
        SemanticSegmentation("human_parts", HUMAN_PARTS_CLASSES, weight=2.0),
        Saliency("sal", weight=5.0),
        SurfaceNormals("normals", weight=10.0),
        Boundary("edge", weight=50.0),
    )


def nyud_tasks() -> tuple[Task, ...]:
    """The three tasks of NYUD-v2 with 13 classes."""
    return (SemanticSegmentation("semseg", NYUD_CLASSES), Depth("depth"), SurfaceNormals("normals", weight=10.0))


def with_published_protocols(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The same tasks, headed by the figure that published tables most likely print, mistakes included."""
    return tuple(replace(task, protocol="published") if isinstance(task, Saliency) else task for task in tasks)


def published_task(name: str, channels: int) -> Task | None:
    """What the benchmarks mean by a task of this name with so many output channels; None if they know no such task."""
    single = {"sal": Saliency("sal", weight=5.0), "normals": SurfaceNormals("normals", weight=10.0)}
    single |= {"edge": Boundary("edge", weight=50.0), "depth": Depth("depth")}
    if name in ("semseg", "human_parts") and channels >= 2:
        return SemanticSegmentation(name, _classes(name, channels), weight=2.0 if name == "human_parts" else 1.0)
    task = single.get(name)
    return task if task is not None and task.channels == channels else None


def _classes(name: str, count: int) -> tuple[str, ...]:
    known = {
        ("semseg", 21): PASCAL_CONTEXT_CLASSES,
        ("semseg", 13): NYUD_CLASSES,
        ("semseg", 7): CITYSCAPES_CLASSES,
        ("human_parts", 7): HUMAN_PARTS_CLASSES,
    }
    return known.get((name, count), tuple(f"class {index}" for index in range(count)))
