"""Scores on a labelled data set, for the final prediction and for the initial one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.evaluation import evaluation_batches, evaluation_labels
from diffusionmtl.data.joined import qualified_name
from diffusionmtl.errors import UserError
from diffusionmtl.inference.predictor import Estimates, Predictor
from diffusionmtl.tasks import Meter, Task
from diffusionmtl.types import TaskLabels


@dataclass(frozen=True)
class Scores:
    """Figures per task, each named with its protocol.

    Attributes:
        images: how many images had a label of the task.
        final: figures of the final prediction.
        initial: figures of the initial prediction; empty for a network without refinement.
    """

    images: dict[str, int]
    final: dict[str, dict[str, float]]
    initial: dict[str, dict[str, float]]


def evaluate(
    predictor: Predictor,
    dataset: DenseDataset,
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    indices: Iterable[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score every task of the network that the data set annotates, at the labels' own resolution.

    Args:
        predictor: the network.
        dataset: with labels; images without a label of a task do not count for it.
        samples: noise draws per image, averaged.
        seed: of the noise, which is drawn per image: batch size and order change nothing.
        batch_size: images of one size at once.
        indices: which images; all if None.
        progress: called with (images done, all).

    Raises:
        UserError: the data set has none of the network's tasks, or one of them differs in its settings.
    """
    shared = _shared_tasks(predictor, dataset)
    chosen = list(range(len(dataset)) if indices is None else indices)
    final: dict[str, Meter] = {name: task.meter() for name, task in shared.items()}
    initial: dict[str, Meter] = {name: task.meter() for name, task in shared.items()}
    counts = dict.fromkeys(shared, 0)
    done = 0
    for batch in evaluation_batches(dataset, chosen, predictor.size, batch_size):
        for size in dict.fromkeys(batch.sizes):
            rows = [row for row, other in enumerate(batch.sizes) if other == size]
            keys = [batch.indices[row] for row in rows]
            found = predictor.estimate(batch.image[rows], keys, samples, seed, size)
            for row, index in enumerate(keys):
                for name, labels in evaluation_labels(dataset, index).items():
                    if name in shared:
                        counts[name] += 1
                        _add(final[name], initial[name], found[shared[name].name], row, labels)
        done += len(batch.indices)
        if progress is not None:
            progress(done, len(chosen))
    refined = predictor.network.refiner is not None
    return Scores(
        images={shared[name].name: count for name, count in counts.items()},
        final={shared[name].name: meter.compute() for name, meter in final.items() if counts[name]},
        initial={shared[name].name: meter.compute() for name, meter in initial.items() if counts[name] and refined},
    )


def _add(final: Meter, initial: Meter, found: Estimates, row: int, labels: TaskLabels) -> None:
    final.update(found.mean[row : row + 1].cpu().float(), labels.value, labels.valid)
    if found.initial is not None:
        initial.update(found.initial[row : row + 1].cpu().float(), labels.value, labels.valid)


def _shared_tasks(predictor: Predictor, dataset: DenseDataset) -> dict[str, Task]:
    """By the data set's word for it, every task of the network that the data set has."""
    shared: dict[str, Task] = {}
    learnt = {task.name: task for task in predictor.network.tasks}
    for other in dataset.tasks:
        # A network trained on joined data sets may call this task after its data set too.
        task = learnt.get(other.name) or learnt.get(qualified_name(other.name, dataset.name))
        if task is None:
            continue
        if task.meaning() != other.meaning():
            raise UserError(
                f"data set '{dataset.name}': task '{other.name}' is {other.kind} with {other.channels} channels, "
                f"but the network learnt {task.kind} with {task.channels}; evaluate on data of the same task set"
            )
        shared[other.name] = task
    if not shared:
        raise UserError(
            f"data set '{dataset.name}' has tasks {', '.join(task.name for task in dataset.tasks)}, the network "
            f"{', '.join(learnt)}: none in common"
        )
    return shared
