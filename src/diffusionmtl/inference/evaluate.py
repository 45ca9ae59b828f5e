"""Scores on a labelled data set, for the final prediction and for the initial one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.evaluation import evaluation_batches, evaluation_labels
from diffusionmtl.data.joined import qualified_name
from diffusionmtl.errors import UserError
from diffusionmtl.inference.per_image import FINAL, INITIAL, PerImage
from diffusionmtl.inference.predictor import Estimates, Predictor
from diffusionmtl.inference.tally import Tally, scoring_pool
from diffusionmtl.tasks import Task


@dataclass(frozen=True)
class Scores:
    """Figures per task, each named with its protocol.

    Attributes:
        images: how many images had a label of the task.
        final: figures of the final prediction.
        initial: figures of the initial prediction; empty for a network without refinement.
        per_image: by part, `final` or `initial`, and task, what each image adds to the headline figure.
    """

    images: dict[str, int]
    final: dict[str, dict[str, float]]
    initial: dict[str, dict[str, float]]
    per_image: dict[str, dict[str, PerImage]] = field(default_factory=dict, compare=False)


def evaluate(
    predictor: Predictor,
    dataset: DenseDataset,
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    indices: Iterable[int] | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score every task of the network that the data set annotates, at the labels' own resolution.

    Args:
        predictor: the network.
        dataset: with labels; images without a label of a task do not count for it, nor those that it does not count.
        samples: noise draws per image, averaged.
        seed: of the noise, which is drawn per image: batch size and order change nothing.
        batch_size: images of one size at once.
        indices: which images; all if None.
        jobs: processes that match boundaries while the network goes on. Any number gives the same figures.
        progress: called with (images done, all).

    Raises:
        UserError: the data set has none of the network's tasks, or one of them differs in its settings.
    """
    shared = shared_tasks(predictor.network.tasks, dataset)
    chosen = list(range(len(dataset)) if indices is None else indices)
    with scoring_pool(jobs) as pool:
        tallies = {part: {name: Tally(task, pool) for name, task in shared.items()} for part in (FINAL, INITIAL)}
        done = 0
        for batch in evaluation_batches(dataset, chosen, predictor.size, batch_size):
            for size in dict.fromkeys(batch.sizes):
                rows = [row for row, other in enumerate(batch.sizes) if other == size]
                keys = [batch.indices[row] for row in rows]
                found = predictor.estimate(batch.image[rows], keys, samples, seed, size)
                for row, index in enumerate(keys):
                    _add(tallies, dataset, index, {word: found[task.name] for word, task in shared.items()}, row)
            done += len(batch.indices)
            if progress is not None:
                progress(done, len(chosen))
        return _scores(tallies, {name: task.name for name, task in shared.items()})


Tallies = dict[str, dict[str, Tally]]


def _add(tallies: Tallies, dataset: DenseDataset, index: int, found: Mapping[str, Estimates], row: int) -> None:
    for name, labels in evaluation_labels(dataset, index).items():
        if name in found and name in dataset.counted(index):
            tallies[FINAL][name].add(index, found[name].mean[row : row + 1], labels)
            before = found[name].initial
            if before is not None:
                tallies[INITIAL][name].add(index, before[row : row + 1], labels)


def _scores(tallies: Tallies, names: dict[str, str]) -> Scores:
    seen = {part: {names[n]: tally for n, tally in of.items() if tally.images} for part, of in tallies.items()}
    figures = {part: {name: tally.figures() for name, tally in of.items()} for part, of in seen.items()}
    return Scores(
        images={names[n]: len(tally.images) for n, tally in tallies[FINAL].items()},
        final=figures[FINAL],
        initial=figures[INITIAL],
        per_image={part: {name: tally.per_image() for name, tally in of.items()} for part, of in seen.items()},
    )


def shared_tasks(tasks: Iterable[Task], dataset: DenseDataset) -> dict[str, Task]:
    """By the data set's word for it, every task of a network that the data set has.

    Raises:
        UserError: none, or one of them differs in its settings.
    """
    shared: dict[str, Task] = {}
    learnt = {task.name: task for task in tasks}
    for other in dataset.tasks:
        # A network trained on joined data sets may call this task after its data set too.
        task = learnt.get(other.name) or learnt.get(qualified_name(other.name, dataset.name))
        if task is None:
            continue
        if task.meaning() != other.meaning():
            raise UserError(
                f"data set '{dataset.name}': task '{other.name}' is {other.kind} with {other.channels} channels, "
                f"but the network learnt {task.unlike(other)}; evaluate on data of the same task set"
            )
        shared[other.name] = task
    if not shared:
        raise UserError(
            f"data set '{dataset.name}' has tasks {', '.join(task.name for task in dataset.tasks)}, the network "
            f"{', '.join(learnt)}: none in common"
        )
    return shared
