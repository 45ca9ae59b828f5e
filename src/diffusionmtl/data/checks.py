"""What must hold before training starts, so that it does not fail an hour later."""

from collections.abc import Callable, Sequence, Set

from diffusionmtl.data.base import DenseDataset, read_sample
from diffusionmtl.errors import UserError


def check_tasks_labelled(dataset: DenseDataset) -> None:
    """Refuse a task of which no image has a label; nothing is opened.

    Raises:
        UserError: names the data set and the task.
    """
    wanting = list(dataset.tasks)
    for index in range(len(dataset)):
        have = dataset.annotated(index)
        wanting = [task for task in wanting if task.name not in have]
        if not wanting:
            return
    task = wanting[0]
    raise UserError(
        f"{dataset.name}: task '{task.name}' has no label for any of {len(dataset)} images; add files such as "
        f"{task.name}/{dataset.names[0]}{task.suffixes[0]} or take the task out of dataset.yaml"
    )


def check_samples(
    dataset: DenseDataset,
    visible: Sequence[Set[str]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Read every image and every label that may be seen, once, so that a bad file shows now.

    Args:
        visible: per image, the tasks whose label may be seen; nothing else is opened.
        progress: called with the images done and all of them.

    Raises:
        UserError: the first file that cannot be read; or a task whose labels are valid nowhere in any image.
    """
    empty = {task.name for seen in visible for task in dataset.tasks if task.name in seen}
    example = dict.fromkeys(empty, "")
    for index, seen in enumerate(visible):
        sample = read_sample(dataset, index, seen)
        for task, valid in sample.valid.items():
            if task in empty:
                example[task] = example[task] or sample.name
                if bool(valid.any()):
                    empty.discard(task)
        if progress is not None:
            progress(index + 1, len(visible))
    for task in (t.name for t in dataset.tasks if t.name in empty):
        raise UserError(
            f"{dataset.name}: task '{task}': every label is unknown everywhere (the first is of image "
            f"'{example[task]}'): no pixel to learn from; check the files' unit and format or take the task out"
        )
