"""`diffusionmtl train`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from diffusionmtl.build import (
    build_dataset,
    build_network,
    build_training_data,
    build_training_set,
    check_batch,
    describe_run,
    is_built_in,
    restore_run,
)
from diffusionmtl.commands.output import BEGUN, begin_folder, check_claimable, progress_bar
from diffusionmtl.config import REPRODUCED, Settings, TrainSettings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.checks import check_samples, check_tasks_labelled
from diffusionmtl.data.partition import DRAWN, Partition, by_people, listed, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.load import weights_file
from diffusionmtl.models.origin import backbone_origin
from diffusionmtl.models.pretrained import load_weights, read_network
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.processes import is_first
from diffusionmtl.report.comparison import SINGLE_TASK
from diffusionmtl.report.started import Started, save_started, started_now
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Task
from diffusionmtl.training.run import check_machine, fit


def train(
    settings: Settings, out: Path, resume: bool = False, progress: bool = True, start_from: Path | None = None
) -> RunFolder:
    """Train a network in a new run folder, or go on with an interrupted one.

    Everything that can be wrong with the data or the settings is found before training starts, and before anything is
    written.

    Args:
        settings: what to train. A run that is resumed keeps those it was started with: they must agree or be defaults.
        out: the run folder.
        resume: continue in it.
        progress: draw progress bars.
        start_from: a run or weights file whose weights to begin with; same tasks and sizes.

    Raises:
        UserError: bad data, settings, weights or folder.
        Stopped: interrupted; the run can be resumed.
    """
    run = RunFolder(out)
    first = is_first(settings.train.processes)
    progress = progress and first
    if resume:
        settings, tasks = resumed_settings(run, settings)
    elif run.resumable and first:
        raise UserError(f"--out {out}: holds a run already; continue it with --resume or choose another folder")
    elif first:
        check_claimable(out, "this run")
    check_machine(settings.train)
    start = None if start_from is None or resume else read_network(weights_file(start_from))[0]
    dataset = build_training_set(settings.data, progress_bar("drawing rooms") if progress else None)
    if resume and dataset.tasks != tasks:
        raise UserError(
            f"{run.config}: the tasks of {' '.join(settings.data.data)} have changed since; undo or start anew"
        )
    check_tasks_labelled(dataset)
    partition = _partition_to_resume(run, dataset) if resume else _partition(settings, dataset)
    network = build_network(dataset.tasks, settings.network, settings.train.seed)
    check_batch(network, settings)
    if start is not None:
        load_weights(network, start, str(start_from))
    data = build_training_data(settings, dataset, partition)
    if first:
        _introduce(settings, partition, dataset)
    if first and not resume:
        visible = [partition.visible[name] for name in dataset.names]
        started = _started(settings, start_from)
        fitted = settings.data.size if settings.data.fit else None
        doubts = check_samples(dataset, visible, progress_bar("checking data") if progress else None, fitted)
        _warn(doubts, settings)
        _claim(run, settings, dataset, partition, data.held_out, started)
    elif first:
        (out / BEGUN).unlink(missing_ok=True)
    fit(network, settings, data, run, resume=resume and run.resumable, progress=progress)
    return run


def _claim(
    run: RunFolder,
    settings: Settings,
    dataset: DenseDataset,
    partition: Partition,
    held_out: Sequence[str],
    started: Started,
) -> None:
    """Write all that going on with the run takes, its settings last: with these there is a run to be resumed."""
    note = begin_folder(run.root, "this run")
    partition.save(run.partition)
    write_bytes_atomically(run.held_out, "".join(f"{name}\n" for name in held_out).encode())
    save_started(run, started)
    write_bytes_atomically(run.config, config_text(settings, dataset.tasks).encode())
    note.unlink()


def _started(settings: Settings, start_from: Path | None) -> Started:
    """What the run will note of its start; says aloud what the licence of pretrained weights asks."""
    started = started_now(backbone_origin(settings.network), start_from)
    if started.backbone is not None and (caution := started.backbone.caution()):
        print(f"warning: {caution}", file=sys.stderr)
    return started


def _warn(doubts: Sequence[str], settings: Settings) -> None:
    """Aloud, what looks wrong about somebody's own data."""
    for doubt in doubts if not any(map(is_built_in, settings.data.data)) else ():
        print(f"warning: {doubt} (look: diffusionmtl data inspect {settings.data.data[0]})", file=sys.stderr)


def _introduce(settings: Settings, partition: Partition, dataset: DenseDataset) -> None:
    print(partition_summary(partition, dataset))
    if settings.data.reproduce:
        print(f"reproduce: {REPRODUCED}")
    for caveat in dataset.caveats:
        print(f"note: {caveat}")


def _partition(settings: Settings, dataset: DenseDataset) -> Partition:
    """What `--labels` asks for.

    A single task is drawn among all tasks, so that its network sees no more labels of it than one for all tasks does.
    """
    labels, seed = settings.data.labels, settings.data.label_seed
    if settings.network.method != SINGLE_TASK or labels not in DRAWN or not settings.data.tasks:
        return make_partition(labels, dataset, seed)
    whole = build_dataset(replace(settings.data, tasks=()), "train")
    return make_partition(labels, whole, seed).of_tasks(settings.data.tasks)


def _partition_to_resume(run: RunFolder, dataset: DenseDataset) -> Partition:
    """What the run saw.

    Raises:
        UserError: images came or went. Others would then be held out, and chance would fall differently.
    """
    partition = Partition.load(run.partition, dataset)
    known = frozenset(listed(run.partition, dataset))
    new = [name for name in dataset.names if name not in known]
    if new:
        raise UserError(
            f"--resume: {len(new)} image(s) came to data set '{dataset.name}' since this run was started, {new[0]} for "
            "one; take them away until it is done, or start another run"
        )
    return partition


def partition_summary(partition: Partition, dataset: DenseDataset) -> str:
    """One line: where a partition comes from, its hash and how many labels of each task it shows."""
    names = [task.name for task in dataset.tasks]
    counts, people = partition.counts(names), by_people(partition, dataset).counts(names)
    hidden = sum(not tasks for tasks in partition.visible.values())
    predicted = {task: f" ({count - people[task]} predicted)" for task, count in counts.items() if count > people[task]}
    shown = ", ".join(f"{task} {count}{predicted.get(task, '')}" for task, count in counts.items())
    without = f"; {hidden} without any label are left out" if hidden else ""
    return f"labels: {partition.source} [{partition.digest()}]: {shown} of {len(dataset)} images{without}"


def config_text(settings: Settings, tasks: Sequence[Task]) -> str:
    """`config.yaml` of a run."""
    head = "# Settings of this run, in the words of `diffusionmtl train --help`, and its task set.\n"
    if settings.data.reproduce:
        head += f"# reproduce: {REPRODUCED}\n"
    return head + yaml.safe_dump(describe_run(settings, tasks), sort_keys=False, allow_unicode=True)


def resumed_settings(run: RunFolder, asked: Settings) -> tuple[Settings, tuple[Task, ...]]:
    """The settings and tasks that a run was started with.

    How many processes share the work is not part of a run: devices, nodes and strategy are those asked for now.

    Raises:
        UserError: there is no run, or `asked` has a setting that is neither a default nor the run's.
    """
    if not run.config.is_file():
        raise UserError(f"--resume: {run.root} holds no run (no config.yaml); start one without --resume")
    settings, tasks = restore_run(read_yaml(run.config), str(run.config))
    settings = _spread_over(settings, asked.train)
    kept, default = settings.flat(), Settings().flat()
    for name, value in asked.flat().items():
        if value not in (kept[name], default[name]):
            raise UserError(
                f"--{name.replace('_', '-')} {value}: the run in {run.root} was started with {kept[name]} and --resume "
                "keeps that; leave the option out or start another run"
            )
    return settings, tasks


def _spread_over(settings: Settings, asked: TrainSettings) -> Settings:
    """As many images per step as the run was started with, over the processes that are there now.

    Raises:
        UserError: they cannot be shared out evenly.
    """
    together = settings.train.batch * settings.train.processes
    if together % asked.processes:
        raise UserError(
            f"--devices {asked.devices}: the run's {together} images per step cannot be shared by {asked.processes} "
            f"processes; resume with a number that divides {together}"
        )
    place = {"devices": asked.devices, "nodes": asked.nodes, "strategy": asked.strategy}
    return replace(settings, train=replace(settings.train, batch=together // asked.processes, **place))
