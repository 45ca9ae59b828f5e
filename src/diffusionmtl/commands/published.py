"""`diffusionmtl import`."""

from collections.abc import Sequence
from pathlib import Path

from diffusionmtl.build import build_network, describe_run, sketched
from diffusionmtl.commands.output import claim_folder
from diffusionmtl.commands.train import config_text
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.load import check_described
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.models.published import (
    check_published,
    load_published,
    published_settings,
    published_tasks,
    read_published,
    tasks_in_words,
)
from diffusionmtl.runfolder import RunFolder

PUBLISHED_TRAINING = {
    "data": ("pascal-context",),
    "size": (512, 512),
    "fit": False,
    "epochs": 100,
    "batch": 6,
    "optimizer": "adam",
    "lr": 2e-5,
    "weight_decay": 1e-6,
    "schedule": "poly",
    "clip": 10.0,
    "initial_weight": 0.5,
}


def import_published(file: Path, out: Path, tasks_said: Sequence[str] = ()) -> str:
    """Turn a published checkpoint into a run that `evaluate`, `predict` and `train --resume-weights` accept.

    Args:
        tasks_said: NAME=KIND for tasks that the published benchmarks do not have.

    Raises:
        UserError: not such a checkpoint, or its weights do not all fit; `out` is taken.
    """
    checkpoint = read_published(file)
    tasks = published_tasks(checkpoint, tasks_in_words(checkpoint, tasks_said))
    sizes = published_settings(checkpoint)
    # The published test protocol leaves images at their own resolution; training settings are those of the release.
    try:
        settings = changed(Settings(network=sizes), **PUBLISHED_TRAINING)
    except UserError as error:
        raise UserError(f"{file}: not a checkpoint of the published network: {error}") from None
    check_described(settings, tasks, checkpoint.tensors, str(file))
    check_published(sketched(tasks, sizes), checkpoint)
    network = build_network(tasks, sizes)
    load_published(network, checkpoint)
    claim_folder(out, "this run")
    run = RunFolder(out)
    write_bytes_atomically(run.config, config_text(settings, tasks).encode())
    progress = {"epoch": checkpoint.epoch or 0, "step": checkpoint.iteration or 0}
    save_network(network, run.checkpoints / "last.safetensors", {**describe_run(settings, tasks), "progress": progress})
    names = ", ".join(task.name for task in tasks)
    return f"{out}: {len(checkpoint.tensors)} tensors, tasks {names}. Next: diffusionmtl predict {out} IMAGE --out DIR"
