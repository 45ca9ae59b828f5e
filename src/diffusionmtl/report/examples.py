"""Pictures of what a network makes of some images, beside what is known of them."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.evaluation import evaluation_labels
from diffusionmtl.data.partition import Partition
from diffusionmtl.inference.prediction import Prediction, TaskPrediction
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.sheet import spread_range, top_of
from diffusionmtl.metrics.calibration import Scale
from diffusionmtl.report.content import EXPECTED, SPREAD, TRAINING_IMAGE, UNSEEN_IMAGE, Example, Legend, TaskPanel
from diffusionmtl.report.draw import heat, shrunk
from diffusionmtl.report.tables import INITIAL, REFINED, number_texts
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.base import all_valid
from diffusionmtl.types import TaskLabels

_STEP = 160


def examples(
    predictor: Predictor,
    dataset: DenseDataset,
    indices: Iterable[int],
    partition: Partition | None = None,
    *,
    samples: int = 8,
    seed: int = 0,
    others: Mapping[str, Predictor] | None = None,
) -> list[Example]:
    """Predict images and lay everything side by side.

    Args:
        predictor: whose predictions.
        dataset: with images and whatever labels there are.
        indices: which images.
        partition: the labels that training saw; None for images that training never saw.
        samples: noise draws per image.
        seed: of the noise.
        others: networks to compare with, by their labels.

    Raises:
        UserError: an image or label cannot be read.
    """
    return [_example(predictor, dataset, index, partition, samples, seed, others or {}) for index in indices]


def _example(
    predictor: Predictor,
    dataset: DenseDataset,
    index: int,
    partition: Partition | None,
    samples: int,
    seed: int,
    others: Mapping[str, Predictor],
) -> Example:
    name = dataset.names[index]
    image = dataset.image(index)
    labels = _labels(predictor, dataset, index)
    seen = frozenset[str]() if partition is None else partition.visible.get(name, frozenset())
    prediction = predictor(image, samples, seed)
    path = predictor.steps(image, seed)
    rivals = {label: other(image, 1, seed) for label, other in others.items()}
    # Where training saw every annotation there is, a column of annotations would only repeat the labels seen.
    hidden = not seen.issuperset(labels)
    panels = [
        _panel(
            found,
            labels.get(task),
            task in seen,
            hidden,
            {k: v[task] for k, v in rivals.items() if task in v},
            [step[task] for step in path],
        )
        for task, found in prediction.items()
    ]
    where = UNSEEN_IMAGE if partition is None else TRAINING_IMAGE
    return Example(name, where, _pixels(prediction), tuple(panels))


def _labels(predictor: Predictor, dataset: DenseDataset, index: int) -> dict[str, TaskLabels]:
    """The image's annotations of those of the network's tasks that mean the same in the data set."""
    known = {(task.name, task.kind, task.channels) for task in predictor.network.tasks}
    same = {task.name for task in dataset.tasks if (task.name, task.kind, task.channels) in known}
    return {name: labels for name, labels in evaluation_labels(dataset, index).items() if name in same}


def _pixels(prediction: Prediction) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(prediction.image.cpu().numpy(), 0, -1))


def _panel(
    found: TaskPrediction,
    label: TaskLabels | None,
    seen: bool,
    hidden: bool,
    rivals: Mapping[str, TaskPrediction],
    path: Sequence[Tensor],
) -> TaskPanel:
    task = found.task
    value = found.value
    # One range for all that is laid side by side.
    limits = task.limits(value, all_valid(value)) if label is None else task.limits(label.value[0], label.valid[0])
    annotation = None if label is None else task.draw(label.value[0], label.valid[0], limits)
    initial = found.draw_initial(limits)
    spread, note = _spread(found)
    return TaskPanel(
        task=task.name,
        kind=task.kind,
        refined=np.asarray(found.draw(limits)),
        seen=annotation if seen else None,
        truth=annotation if hidden else None,
        initial=None if initial is None else np.asarray(initial),
        spread=spread,
        spread_name=EXPECTED if isinstance(found.fitted, Scale) else SPREAD,
        spread_note=note,
        caption="" if label is None else _caption(found, label, rivals),
        others={name: np.asarray(rival.draw(limits)) for name, rival in rivals.items()},
        steps=_steps(task, path, limits) if len(path) > 1 else (),
    )


def _steps(task: Task, path: Sequence[Tensor], limits: tuple[float, float] | None) -> tuple[np.ndarray, ...]:
    return tuple(shrunk(task.draw(value.cpu(), limits=limits), _STEP) for value in path)


def _spread(found: TaskPrediction) -> tuple[np.ndarray | None, str]:
    """The heat map of the spread up to its own 99th percentile, and its range in words."""
    if found.uncertainty is None:
        return None, ""
    values = found.uncertainty.float().cpu().numpy()
    top = top_of(found.uncertainty)
    return heat(values, top or 1.0), spread_range(found.task, top)


def _caption(found: TaskPrediction, label: TaskLabels, rivals: Mapping[str, TaskPrediction]) -> str:
    """The headline figure on this image alone, of every prediction shown."""
    task = found.task
    estimates = {name: rival.estimate for name, rival in rivals.items()}
    if found.initial is not None:
        estimates[INITIAL] = found.initial
    estimates[REFINED if found.initial is not None else "prediction"] = found.estimate
    scores = [_score(task, estimate, label) for estimate in estimates.values()]
    if not any(map(math.isfinite, scores)):
        return ""
    words = [f"{name} {text}" for name, text in zip(estimates, number_texts(scores), strict=True)]
    return f"{task.headline} of this image: {', '.join(words)}"


def _score(task: Task, estimate: Float[Tensor, "a h w"], label: TaskLabels) -> float:
    meter = task.meter()
    meter.update(estimate[None].float(), label.value, label.valid)
    return meter.compute()[task.headline]


def covering_images(partition: Partition, names: Sequence[str], count: int) -> list[int]:
    """Positions of `count` images that between them show labels of as many tasks as can be, in the order of `names`."""
    chosen: list[int] = []
    missing: set[str] = set()
    labelled = [index for index, name in enumerate(names) if partition.visible.get(name)]
    while len(chosen) < min(count, len(labelled)):
        missing = missing or {task for index in labelled for task in partition.visible[names[index]]}
        left = [index for index in labelled if index not in chosen]
        best = max(left, key=lambda index: len(missing & partition.visible[names[index]]))
        chosen.append(best)
        missing -= partition.visible[names[best]]
    return sorted(chosen)


def spread_images(dataset: DenseDataset, count: int) -> list[int]:
    """Positions of `count` images, evenly spaced among those with the most annotations."""
    annotations = [len(dataset.annotated(index)) for index in range(len(dataset))]
    most = [index for index, number in enumerate(annotations) if number == max(annotations)]
    count = min(count, len(most))
    return [most[(2 * i + 1) * len(most) // (2 * count)] for i in range(count)]


def legend(task: Task) -> Legend:
    """How to read a task's pictures and figures, in the words of its own documentation."""
    return Legend(task.name, _first_sentence(task.draw), _first_sentence(type(task.meter())), tuple(task.legend()))


def _first_sentence(thing: object) -> str:
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split())
