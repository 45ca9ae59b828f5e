"""What `diffusionmtl suggest` writes: a table, a task list for labelling tools, a partition and a page."""

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from diffusionmtl.commands.output import writable_folder
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import Partition
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.doubt import ENTROPY, Doubt, Draws, answers_and_doubts, uncertainty_unit
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.suggest import Choice, Pool
from diffusionmtl.report.draw import heat
from diffusionmtl.report.suggestions import Card, Row, page
from diffusionmtl.tasks import Task

TABLE, TASK_LIST, PAGE, PARTITION = "suggestions.csv", "tasks.json", "suggestions.html", "partition.txt"
_BRIGHTEST = 3.0
"""How many times the usual uncertainty is drawn brightest, or an entropy of 1 if that is less."""


@dataclass(frozen=True)
class Suggested:
    """One pair to annotate, a line of the table.

    Attributes:
        rank: 1 for the first.
        gain: the share of all doubt that its label speaks for when its turn comes.
        price: of the label.
        uncertainty: mean over the pixels, in `unit`.
        unit: `entropy` (0 to 1), or the task's unit of spread.
        times_usual: the uncertainty as a multiple of its mean over the task's pairs without a label.
        disagreement: likewise how far refinement moved the answer and how far its edges lie apart from those of the
            other tasks; None if nothing is known of it.
        alike: likeness, 0 to 1, to the nearest image that has a label of the task or is to have one before.
        speaks_for: how many images of the pool it speaks for.
        height, width: of the image.
        reason: the same in words.
    """

    rank: int
    image: str
    task: str
    gain: float
    price: float
    uncertainty: float
    unit: str
    times_usual: float
    disagreement: float | None
    alike: float
    speaks_for: float
    height: int
    width: int
    reason: str

    @classmethod
    def of(
        cls,
        rank: int,
        choice: Choice,
        dataset: DenseDataset,
        doubt: Mapping[int, Mapping[str, Doubt]],
        sizes: Mapping[int, tuple[int, int]],
        pool: Pool,
    ) -> "Suggested":
        """What is to be said of a choice."""
        task = dataset.tasks[choice.task]
        at = (choice.image, choice.task)
        times, apart = float(pool.uncertainty[at]), None if pool.disagreement is None else float(pool.disagreement[at])
        return cls(
            rank=rank,
            image=dataset.names[choice.image],
            task=task.name,
            gain=choice.gain,
            price=choice.price,
            uncertainty=doubt[choice.image][task.name].uncertainty,
            unit=uncertainty_unit(task),
            times_usual=times,
            disagreement=apart,
            alike=choice.alike,
            speaks_for=choice.speaks_for,
            height=sizes[choice.image][0],
            width=sizes[choice.image][1],
            reason=reason(times, apart, choice),
        )


def reason(times: float, disagreement: float | None, choice: Choice) -> str:
    """Why a pair was chosen, in words."""
    parts = [f"{times:.1f}x the usual uncertainty"]
    if disagreement is not None:
        parts.append(f"{disagreement:.1f}x the usual disagreement")
    parts.append(f"speaks for {choice.speaks_for:.1f} image(s)")
    near = choice.alike >= 0.005
    parts.append(f"{100 * choice.alike:.0f} % like one with this label" if near else "like none with this label")
    return "; ".join(parts)


def write_suggestions(
    out: Path,
    found: Sequence[Suggested],
    dataset: DenseDataset,
    predictor: Predictor,
    partition: Partition,
    draws: Draws,
    usual: Mapping[str, float],
    about: Mapping[str, Any],
    shown: int,
) -> None:
    """Write everything into a new folder, which has its name only once all of it is there.

    Args:
        partition: the labels that there are.
        usual: per task, the mean uncertainty of the pairs without a label.
        about: what was asked for.
        shown: how many images the page shows.
    """
    writable_folder(out.parent)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        write_bytes_atomically(part / TABLE, table_text(found).encode())
        listed = task_list(found, dataset, about)
        write_bytes_atomically(part / TASK_LIST, (json.dumps(listed, indent=1, ensure_ascii=False) + "\n").encode())
        with_suggested(partition, found, about).save(part / PARTITION)
        cards = _cards(found, dataset, predictor, draws, usual, shown)
        write_bytes_atomically(part / PAGE, page(cards, _lead(found, shown)).encode())
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def table_text(found: Sequence[Suggested]) -> str:
    """The suggestions as CSV, a line each, the first first; empty where nothing is known."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [f.name for f in fields(Suggested)], lineterminator="\n")
    writer.writeheader()
    for one in found:
        row = asdict(one)
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return stream.getvalue()


def task_list(found: Sequence[Suggested], dataset: DenseDataset, about: Mapping[str, Any]) -> dict[str, Any]:
    """The suggestions in the form of COCO: images and categories, no annotation yet, and `tasks`, which is ours.

    A class of a segmentation is a category with its task as supercategory; a task of another kind is one category.
    No two categories have one name.
    `file_name` is the image's name in the data set with its suffix, as below `images/`.
    """
    categories, of_task = _categories(dataset.tasks)
    index_of = {name: index for index, name in enumerate(dataset.names)}
    of_image = _by_image(found)
    ids = {name: number for number, name in enumerate(of_image, start=1)}
    kinds = {task.name: task.kind for task in dataset.tasks}
    return {
        "info": {"description": f"Labels to make next for {dataset.name}", "version": "1", **about},
        "licenses": [],
        "images": [
            {
                "id": ids[name],
                "file_name": file_name(dataset, index_of[name]),
                "height": several[0].height,
                "width": several[0].width,
                "tasks": [one.task for one in several],
            }
            for name, several in of_image.items()
        ],
        "categories": categories,
        "annotations": [],
        "tasks": [
            {
                "id": one.rank,
                "image_id": ids[one.image],
                "task": one.task,
                "kind": kinds[one.task],
                "category_ids": of_task[one.task],
                "gain": one.gain,
                "price": one.price,
                "reason": one.reason,
            }
            for one in found
        ],
    }


def _categories(tasks: Sequence[Task]) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """All categories, and per task the ids of its own.

    Labelling tools know a category by its name alone, so a name that two tasks would give is preceded by the task's.
    """
    words = {task.name: tuple(getattr(task, "classes", ())) for task in tasks}
    given = Counter(name for task in tasks for name in words[task.name] or (task.name,))
    categories: list[dict[str, Any]] = []
    of_task: dict[str, list[int]] = {}
    for task in tasks:
        for word in words[task.name] or (task.name,):
            name = f"{task.name}/{word}" if given[word] > 1 else word
            above = task.name if words[task.name] else task.kind
            categories.append({"id": len(categories) + 1, "supercategory": above, "name": name})
            of_task.setdefault(task.name, []).append(len(categories))
    return categories, of_task


def _by_image(found: Sequence[Suggested]) -> dict[str, list[Suggested]]:
    """In the order of their first suggestions."""
    of_image: dict[str, list[Suggested]] = {}
    for one in found:
        of_image.setdefault(one.image, []).append(one)
    return of_image


def file_name(dataset: DenseDataset, index: int) -> str:
    """Of an image below `images/`; an image that is not a file is called a PNG."""
    path = dataset.path(index, None)
    stored = None if path is not None else dataset.stored(index, None)
    suffix = path.suffix if path is not None else ".png" if stored is None else stored.suffix
    return dataset.names[index] + suffix


def with_suggested(partition: Partition, found: Sequence[Suggested], about: Mapping[str, Any]) -> Partition:
    """The labels that there are and those that are suggested."""
    more: dict[str, set[str]] = {}
    for one in found:
        more.setdefault(one.image, set()).add(one.task)
    visible = {name: tasks | more.get(name, set()) for name, tasks in partition.visible.items()}
    return Partition(visible, f"{partition.source}; and {len(found)} labels suggested by {about['by']}")


def _lead(found: Sequence[Suggested], shown: int) -> str:
    images = len({one.image for one in found})
    return (
        f"The first {min(shown, images)} of {images} images to annotate, {len(found)} labels in all. Beside each task "
        f"is what the network answers now, and where it is unsure: brightest at {_BRIGHTEST:g} times what is usual "
        "for the task, or where all answers are equally probable."
    )


def _top(one: Suggested, usual: float) -> float:
    most = _BRIGHTEST * usual
    return min(most, 1.0) if one.unit == ENTROPY else most


def _cards(
    found: Sequence[Suggested],
    dataset: DenseDataset,
    predictor: Predictor,
    draws: Draws,
    usual: Mapping[str, float],
    shown: int,
) -> Iterator[Card]:
    index_of = {name: index for index, name in enumerate(dataset.names)}
    by_name = {task.name: task for task in predictor.tasks}
    for name, several in list(_by_image(found).items())[:shown]:
        image = dataset.image(index_of[name])
        seen = answers_and_doubts(predictor, image, {one.task for one in several}, draws)
        rows = [
            Row(
                rank=one.rank,
                task=one.task,
                gain=one.gain,
                price=one.price,
                reason=one.reason,
                answer=by_name[one.task].draw(seen[one.task][0]),
                doubt=heat(seen[one.task][1].numpy(), _top(one, usual[one.task])),
            )
            for one in several
        ]
        yield Card(name, np.ascontiguousarray(image.permute(1, 2, 0).numpy()), tuple(rows))
