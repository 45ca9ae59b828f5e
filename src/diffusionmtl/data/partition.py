"""Which labels training may see.

Partly labelled data has images each annotated for only some tasks. A `Partition` says so for every image, whether
that is how the data came (`as_found`) or whether labels are hidden on purpose, to study what partial labels cost. A
partition is readable text, can be reviewed and shared, and names what it shows by a hash.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusionmtl import files
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.published_partitions import is_published_partition, read_published_partition
from diffusionmtl.errors import UserError, nearest

Annotated = Mapping[str, frozenset[str]]

MAX_BYTES = 200_000_000
COMPLETED = "completed"


@dataclass(frozen=True)
class Partition:
    """The (image, task) pairs whose labels may be seen.

    Attributes:
        visible: per image name the names of its visible tasks; an image may have none.
        source: where this came from, for a person to read.
    """

    visible: Annotated
    source: str

    def digest(self) -> str:
        """16 hexadecimal digits that are equal exactly for partitions that show the same labels.

        Neither the order of images and tasks nor images without a label count.
        """
        lines = ("\t".join([name, *sorted(tasks)]) for name, tasks in sorted(self.visible.items()) if tasks)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def counts(self, tasks: Iterable[str]) -> dict[str, int]:
        """How many images show each task."""
        return {task: sum(task in seen for seen in self.visible.values()) for task in tasks}

    def only(self, names: Iterable[str]) -> "Partition":
        """The same for some of the images, in the order of `names`."""
        return Partition({name: self.visible[name] for name in names}, self.source)

    def of_tasks(self, tasks: Iterable[str]) -> "Partition":
        """The same for some of the tasks; images that show none of them stay, without a label."""
        chosen = frozenset(tasks)
        return Partition({name: seen & chosen for name, seen in self.visible.items()}, self.source)

    def save(self, path: Path) -> None:
        """Write it as text: comments, then per line an image and its visible tasks, separated by tabs.

        Raises:
            UserError: an image's name cannot stand in such a file, or the file cannot be written.
        """
        for name in self.visible:
            if any(separator in name for separator in "\t\n\r"):
                raise UserError(f"{path}: image name {name!r} holds a tab or line break; rename the image")
        head = [f"# {self.source}", f"# digest {self.digest()}", "# image<tab>visible task<tab>visible task ..."]
        rows = ["\t".join([name, *sorted(tasks)]) for name, tasks in self.visible.items()]
        try:
            files.write_bytes_atomically(path, "\n".join([*head, *rows, ""]).encode())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None

    @classmethod
    def load(cls, path: Path, dataset: DenseDataset) -> "Partition":
        """Read what `save` wrote, what a person wrote alike, or a published binary partition.

        Images that it leaves out have no visible label. Of a published one, tasks that the data set lacks are left out.

        Raises:
            UserError: the file cannot be read, or names an image, task or annotation that the data set lacks.
        """
        known = annotations(dataset)
        if is_published_partition(path):
            return cls._published(path, known, dataset)
        visible: dict[str, frozenset[str]] = {}
        for number, line in enumerate(_lines(path), start=1):
            name, *tasks = line.split("\t")
            if not line.strip() or (line.startswith("#") and name not in known):
                continue
            where = f"{path}, line {number}"
            if name in visible:
                raise UserError(f"{where}: image '{name}' stands twice; keep one line for it")
            visible[name] = _checked(where, name, [task.strip() for task in tasks], known, dataset)
        return cls({name: visible.get(name, frozenset()) for name in dataset.names}, str(path))

    @classmethod
    def _published(cls, path: Path, known: Annotated, dataset: DenseDataset) -> "Partition":
        found = read_published_partition(path)
        words = {task.name for task in dataset.tasks}
        if not words & found.tasks:
            raise UserError(
                f"{path}: is about {', '.join(sorted(found.tasks))}; data set '{dataset.name}' has no such task"
            )
        if found.rows is not None and found.rows != len(dataset):
            raise UserError(
                f"{path}: has a row for each of {found.rows} images, data set '{dataset.name}' has {len(dataset)}"
            )
        hint = f"Images are matched by name, as in {dataset.names[0]}; this partition is of another data set or split"
        visible = {
            name: _checked(str(path), name, sorted(tasks & words), known, dataset, hint)
            for name, tasks in found.visible.items()
        }
        return cls({name: visible.get(name, frozenset()) for name in dataset.names}, found.source)


def listed(path: Path, dataset: DenseDataset) -> tuple[str, ...]:
    """The images of a data set that stand in a partition file, in its order, with a label or without.

    Raises:
        UserError: the file cannot be read.
    """
    names = dict.fromkeys(line.split("\t")[0] for line in _lines(path))
    known = frozenset(dataset.names)
    return tuple(name for name in names if name in known)


def _lines(path: Path) -> list[str]:
    try:
        text = files.read_bytes(path, MAX_BYTES, "a partition").decode("utf-8-sig")
        return text.replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8, so not a partition") from None


def _checked(
    where: str,
    name: str,
    tasks: list[str],
    known: Annotated,
    dataset: DenseDataset,
    hint: str = "Mend the line or take it out; a line is an image name and its visible tasks, separated by tabs",
) -> frozenset[str]:
    if name not in known:
        raise UserError(
            f"{where}: data set '{dataset.name}' has no image '{name[:80]}'.{nearest(name[:80], known)} {hint}"
        )
    wanted = frozenset(tasks) - {""}
    words = [task.name for task in dataset.tasks]
    for task in sorted(wanted - set(words)):
        raise UserError(
            f"{where}: data set '{dataset.name}' has no task '{task[:80]}'.{nearest(task[:80], words)} "
            f"Known: {', '.join(words)}"
        )
    for task in sorted(wanted - known[name]):
        raise UserError(
            f"{where}: image '{name}' has no annotation for '{task}'; take '{task}' off this line or add it"
        )
    return wanted


def annotations(dataset: DenseDataset) -> dict[str, frozenset[str]]:
    """Per image, in the data set's order, the tasks for which it has an annotation."""
    return {name: frozenset(dataset.annotated(index)) for index, name in enumerate(dataset.names)}


def _informative(dataset: DenseDataset) -> dict[str, frozenset[str]]:
    return {name: dataset.informative(index) for index, name in enumerate(dataset.names)}


def as_found(annotated: Annotated) -> Partition:
    """Every annotation there is, for data that is partly labelled by itself."""
    return Partition(dict(annotated), "as found")


def full(annotated: Annotated) -> Partition:
    """Every annotation there is, for data of which the other partitions hide some."""
    return Partition(dict(annotated), "full")


def one_label(annotated: Annotated, tasks: Sequence[str], seed: int) -> Partition:
    """Exactly one of each image's annotations, such that the tasks come out as equal in number as they can.

    They differ by at most one where every image is annotated for every task.

    Args:
        annotated: per image its annotations, in a fixed order. Leave out what must never be chosen.
        tasks: the whole task set, in a fixed order.
    """
    rng = np.random.default_rng(seed)
    choices = [tuple(t for t in tasks if t in annotated[name]) for name in annotated]
    chosen = _balanced(choices, [tasks[int(i)] for i in rng.permutation(len(tasks))], rng)
    visible = {name: frozenset(task) for name, task in zip(annotated, chosen, strict=True)}
    return Partition(visible, f"one label per image, seed {seed}")


def _balanced(choices: list[tuple[str, ...]], tasks: list[str], rng: np.random.Generator) -> list[list[str]]:
    """One of each image's choices, or none if it has none: a semi-matching of images to tasks with the smallest loads.

    Greedy in random order, then improved along paths that move one image each from task to task, from a task with much
    to one with at least two fewer. Without such a path no other choice is more even (Harvey et al. 2006).
    """
    held: dict[tuple[tuple[str, ...], str], list[int]] = {}
    load = dict.fromkeys(tasks, 0)
    for image in rng.permutation(len(choices)):
        options = choices[image]
        if options:
            task = min((t for t in tasks if t in options), key=load.__getitem__)
            held.setdefault((options, task), []).append(int(image))
            load[task] += 1
    while path := _relief(held, load):
        for source, target in itertools.pairwise(path):
            options = next(o for o, t in held if t == source and target in o and held[o, t])
            held.setdefault((options, target), []).append(held[options, source].pop())
        load[path[0]] -= 1
        load[path[-1]] += 1
    chosen: list[list[str]] = [[] for _ in choices]
    for (_, task), images in held.items():
        for image in images:
            chosen[image] = [task]
    return chosen


def _relief(held: Mapping[tuple[tuple[str, ...], str], list[int]], load: Mapping[str, int]) -> list[str]:
    """The shortest way to move load from one task to another that has at least two fewer; empty if there is none."""
    ways: dict[str, set[str]] = {task: set() for task in load}
    for (options, task), images in held.items():
        if images:
            ways[task].update(options)
    for start in sorted(load, key=load.__getitem__, reverse=True):
        came = {start: start}
        queue = [start]
        for here in queue:
            for there in load:
                if there in ways[here] and there not in came:
                    came[there] = here
                    queue.append(there)
        end = min(queue, key=load.__getitem__)
        if load[start] - load[end] >= 2:
            path = [end]
            while path[-1] != start:
                path.append(came[path[-1]])
            return path[::-1]
    return []


def random_label(annotated: Annotated, tasks: Sequence[str], seed: int) -> Partition:
    """Of each image's K_i annotations n at random, n uniform in 1..K_i - 1; the only one if K_i is 1.

    This is the random-label protocol of the published benchmarks: an image never keeps all its labels.
    """
    rng = np.random.default_rng(seed)
    visible: dict[str, frozenset[str]] = {}
    for name in annotated:
        options = [task for task in tasks if task in annotated[name]]
        if len(options) > 1:
            kept = int(rng.integers(1, len(options)))
            options = [options[i] for i in rng.choice(len(options), size=kept, replace=False)]
        visible[name] = frozenset(options)
    return Partition(visible, f"random labels per image, seed {seed}")


PROTOCOLS: Mapping[str, Callable[[Annotated, Sequence[str], int], Partition]] = {
    "as-found": lambda annotated, tasks, seed: as_found(annotated),
    "full": lambda annotated, tasks, seed: full(annotated),
    "one": one_label,
    "random": random_label,
    COMPLETED: lambda annotated, tasks, seed: Partition(dict(annotated), "as found, completed by predictions"),
}

DRAWN = ("one", "random")
"""The protocols that choose by chance, which must not spend a choice on a label that says nothing."""


def make_partition(mode: str, dataset: DenseDataset, seed: int) -> Partition:
    """The partition that `--labels` asks for: as-found, full, one, random, completed, or the path of a partition file.

    Raises:
        UserError: neither a known word nor a usable file; or nothing is completed.
    """
    if mode == COMPLETED and not any(dataset.predicted(index) for index in range(len(dataset))):
        raise UserError(
            f"--labels {COMPLETED}: data set '{dataset.name}' brings no predicted labels here; 'diffusionmtl complete' "
            "writes a folder with some, for --data of 'diffusionmtl train'"
        )
    if mode in PROTOCOLS:
        known = _informative(dataset) if mode in DRAWN else annotations(dataset)
        return PROTOCOLS[mode](known, [task.name for task in dataset.tasks], seed)
    path = Path(mode)
    if not path.exists():
        raise UserError(
            f"--labels {mode}: neither a file nor one of {', '.join(PROTOCOLS)}."
            f"{nearest(mode, PROTOCOLS) or files.nearest_beside(path)}"
        )
    return Partition.load(path, dataset)


def by_people(partition: Partition, dataset: DenseDataset) -> Partition:
    """The same without labels that are predictions; images that show nothing else stay, without a label."""
    seen = {name: partition.visible.get(name, frozenset()) for name in dataset.names}
    return Partition({n: tasks - dataset.predicted(i) for i, (n, tasks) in enumerate(seen.items())}, partition.source)


def hold_out(partition: Partition, fraction: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cut a development set from a training set, so that the set that is reported is never looked at.

    Of each task's labels about `fraction` go to the development set, at least one if the task has two and the cut does
    not take another task's last one. Images without a label stay where they are.

    Args:
        fraction: share to hold out, 0 <= fraction < 1.

    Returns:
        The names to train on and the names held out, both in the partition's order.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"--holdout {fraction}: must lie in [0, 1)")
    tasks = sorted(frozenset[str]().union(*partition.visible.values()))
    counts = partition.counts(tasks)
    held = dict.fromkeys(tasks, 0)
    dev: set[str] = set()
    order = list(partition.visible)
    order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    for task in sorted(tasks, key=counts.__getitem__):
        wanted = max(round(fraction * counts[task]), min(1, counts[task] - 1)) if fraction > 0 else 0
        for name in order:
            seen = partition.visible[name]
            if held[task] >= wanted:
                break
            if task in seen and name not in dev and all(held[t] + 1 < counts[t] for t in seen):
                dev.add(name)
                for t in seen:
                    held[t] += 1
    names = partition.visible
    return tuple(name for name in names if name not in dev), tuple(name for name in names if name in dev)
