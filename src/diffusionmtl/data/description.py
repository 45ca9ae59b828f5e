"""`dataset.yaml`: which tasks a folder of images is labelled for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from diffusionmtl import files
from diffusionmtl.data.guess import guessed_tasks
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.tasks import Task, task_from_settings
from diffusionmtl.tasks.base import name_fault

FILE_NAME = "dataset.yaml"
IMAGES = "images"
_KEYS = ("tasks",)


def dataset_tasks(root: Path) -> tuple[Task, ...]:
    """The tasks that `<root>/dataset.yaml` names, in its order.

    Raises:
        UserError: the folder or the file is missing (the error says what a minimal one would be), the file is no plain
            YAML, or it says something that no task kind knows.
    """
    path = root / FILE_NAME
    if not root.is_dir():
        what = "is a file, a folder was expected" if root.exists() else "no such folder"
        near = "" if root.exists() else files.nearest_beside(root)
        raise UserError(f"{root}: {what}; a data set is a folder with {FILE_NAME} and <split>/{IMAGES}.{near}")
    if not path.is_file():
        raise UserError(_how_to_describe(root))
    described = read_yaml(path)
    if not isinstance(described, dict) or not described:
        raise UserError(f"{path}: must say 'tasks:' and below it one line a task, e.g. depth: {{kind: depth}}")
    for key in described:
        if key not in _KEYS:
            raise UserError(f"{path}: unknown key '{key}'.{nearest(key, _KEYS)} Known: {', '.join(_KEYS)}")
    tasks = described["tasks"]
    if not isinstance(tasks, dict) or not tasks:
        raise UserError(f"{path}: 'tasks' must name at least one task, e.g. tasks: {{depth: {{kind: depth}}}}")
    return tuple(task_from_settings(_checked_name(path, name), said, str(path)) for name, said in tasks.items())


def write_dataset_yaml(root: Path, tasks: Iterable[Task]) -> Path:
    """Write `<root>/dataset.yaml` so that `dataset_tasks` gives `tasks` back; returns its path."""
    path = root / FILE_NAME
    said = {_checked_name(path, task.name): task.settings() for task in tasks}
    text = yaml.safe_dump({"tasks": said}, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    files.write_bytes_atomically(path, text.encode())
    return path


def _checked_name(path: Path, name: Any) -> str:
    if fault := name_fault(name):
        raise UserError(f"{path}: task name '{name}' cannot be the name of a folder of labels; {fault}")
    return str(name)


def _how_to_describe(root: Path) -> str:
    path = root / FILE_NAME
    if (root / IMAGES).is_dir():
        return f"{path}: no such file, and {root} looks like one split of a data set; name the folder above it"
    if not any(root.iterdir()):
        return f"{root}: is empty; a data set is a folder with {FILE_NAME}, <split>/{IMAGES} and <split>/<task>"
    guessed = guessed_tasks(root)
    if not guessed:
        return (
            f"{path}: no such file, and no train/{IMAGES} with labels beside it to guess it from: 'diffusionmtl data "
            "arrange' makes a data set of a folder of images and one of labels per task, named as their images are"
        )
    said = ", ".join(f"{name}: {_flow(settings)}" for name, settings in guessed.items())
    return f"{path}: no such file; write it and name the classes. Guessed from the labels: tasks: {{{said}}}"


def _flow(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False, default_flow_style=True, width=10**9).strip()
