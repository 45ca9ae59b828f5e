"""`diffusionmtl compare`: methods, label settings and seeds, each trained and scored alike."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffusionmtl.build import ROOMS, build_dataset, build_network, build_training_set
from diffusionmtl.commands.cell import DONE, FAILED, Cell, Outcome, outcome_of, read_record, save_outcome, state_of
from diffusionmtl.commands.output import progress_bar, writable_folder
from diffusionmtl.commands.pool import work
from diffusionmtl.commands.variants import Variant, variant_settings
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.checks import check_tasks_labelled
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.data.partition import COMPLETED, PROTOCOLS, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.per_image import load_per_image
from diffusionmtl.report.comparison import FULL, SINGLE_TASK, Comparison, Row
from diffusionmtl.report.comparison_text import write_comparison
from diffusionmtl.report.log import read_metrics
from diffusionmtl.report.published_table import Setting, setting_of
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Task
from diffusionmtl.training.run import check_machine

# They decide how fast a run goes and how it is kept, not what comes out of it.
_INDIFFERENT = ("workers", "checkpoint_every", "max_pixels")

Key = tuple[str, str, int]
"""Labels, method, seed: what a row of the comparison is called."""


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        settings: of every cell, but for what its method changes.
        labels: words of `--labels`, or partition files.
        seeds: of weights, order, noise and, unless `label_seed` says otherwise, of the partition.
        label_seed: one partition for all seeds; each seed its own if None.
        split: scored split.
        samples: noise draws per image.
        checkpoint: last or best.
        images: file with the names of the images to score, one a line; all of the split if None.
    """

    settings: Settings
    variants: Sequence[Variant]
    labels: Sequence[str] = ("one",)
    seeds: Sequence[int] = (0,)
    label_seed: int | None = None
    split: str = "val"
    samples: int = 1
    checkpoint: str = "last"
    images: Path | None = None


def compare(plan: Plan, out: Path, jobs: int = 1) -> Comparison:
    """Train and score every cell that is not done yet, and write table, CSV and figure.

    Failed cells are recorded with their reason and tried again by the next call.

    Args:
        jobs: cells at once.

    Raises:
        UserError: bad data, settings or folder, or a folder that holds cells of other settings.
        Stopped, KeyboardInterrupt: interrupted; the same call goes on, and what is done has been written.
    """
    check_machine(plan.settings.train)
    _check_variants(plan)
    cells = planned_cells(plan, out)
    tasks, settings = _checked_data(plan, any(outcome_of(cell).state != DONE for cell in cells.values()))
    writable_folder(out)
    try:
        _work_through(_in_order(cells), jobs, out)
    finally:
        comparison = Comparison(tasks, tuple(_row(key, cell) for key, cell in cells.items()), settings)
        write_comparison(out, comparison)
    return comparison


def planned_cells(plan: Plan, out: Path) -> dict[Key, Cell]:
    """Every row and the cell that it shows; an upper bound with full labels is one cell for all label settings.

    Raises:
        UserError: a cell was begun with other settings.
    """
    names = _label_names(plan.labels)
    cells: dict[Key, Cell] = {}
    for labels, folder in names.items():
        for variant in plan.variants:
            for seed in plan.seeds:
                cell = _cell(plan, out, variant, labels, "full" if variant.full else folder, seed)
                _check_unchanged(cell)
                cells[folder, variant.name, seed] = cell
    return cells


def _cell(plan: Plan, out: Path, variant: Variant, labels: str, folder: str, seed: int) -> Cell:
    words = {"labels": labels, "seed": seed, "label_seed": seed if plan.label_seed is None else plan.label_seed}
    settings = changed(plan.settings, **{**words, **variant_settings(plan.settings, variant)})
    method = variant.name.removeprefix(FULL)
    return Cell(
        out / "cells" / folder / f"{method}-seed{seed}.json",
        out / folder / method / f"seed{seed}",
        settings,
        plan.split,
        plan.samples,
        plan.checkpoint,
        None if plan.images is None else str(plan.images),
    )


def _label_names(labels: Sequence[str]) -> dict[str, str]:
    """Per word of `--labels` the name of its folder."""
    names = {word: word if word in PROTOCOLS else Path(word).stem for word in labels}
    if len(set(names.values())) < len(labels):
        raise UserError(f"--labels {' '.join(labels)}: two go by one name; rename a file, or name each once")
    return names


def _check_variants(plan: Plan) -> None:
    for variant in plan.variants:
        if "size" in variant.changes and ROOMS in plan.settings.data.data:
            raise UserError(f"--variants: {variant.name}: size would draw other rooms; it must be the same for all")


def _check_unchanged(cell: Cell) -> None:
    if not cell.record.is_file():
        return
    # As read back: what a record from before a setting existed does not say is that setting's default.
    kept, asked = read_record(cell.record)[0].asked(), cell.asked()
    for group in asked:
        for word in {**asked[group], **kept[group]}:
            before, now = kept[group].get(word), asked[group].get(word)
            if word not in _INDIFFERENT and before != now:
                raise UserError(
                    f"{cell.record}: was begun with {word} {before}, not {now}; choose another --out, "
                    f"or remove this file and {cell.folder}"
                )


def _checked_data(plan: Plan, training: bool) -> tuple[tuple[Task, ...], dict[str, Setting]]:
    """Find out what can be wrong with data and networks, and draw rooms once, before there are several processes.

    Args:
        training: something is left to train, so that weights to begin with have to be there.

    Returns:
        The tasks, and per name of labels which tables in print they belong beside.
    """
    dataset = build_dataset(plan.settings.data, "train", progress_bar("drawing rooms"))
    check_tasks_labelled(dataset)
    settings: dict[str, Setting] = {}
    for labels, name in _label_names(plan.labels).items():
        shown = build_training_set(replace(plan.settings.data, labels=labels)) if labels == COMPLETED else dataset
        source = make_partition(labels, shown, plan.seeds[0]).source
        if setting := setting_of(plan.settings.data.data, plan.split, dataset.tasks, labels, source):
            settings[name] = setting
    scored = build_dataset(plan.settings.data, plan.split, progress_bar("drawing rooms"))
    if plan.images is not None:
        listed_images(plan.images, scored)
    for variant in plan.variants:
        network = changed(plan.settings, **{**variant.changes, "pretrained": False}).network
        network = network if training else replace(network, backbone_weights=None)
        build_network(dataset.tasks[:1] if network.method == SINGLE_TASK else dataset.tasks, network)
    return dataset.tasks, settings


def _in_order(cells: Mapping[Key, Cell]) -> list[Cell]:
    """Each cell once, all methods of the first seed first: what is there after a while is already a comparison."""
    by_seed = sorted(cells.items(), key=lambda item: item[0][2])
    return list({cell.record: cell for _, cell in by_seed}.values())


def _work_through(cells: Sequence[Cell], jobs: int, out: Path) -> None:
    seconds = {cell.record: outcome_of(cell).seconds for cell in cells if outcome_of(cell).state == DONE}
    waiting = [cell for cell in cells if cell.record not in seconds]
    print(f"{len(cells)} cells, {len(seconds)} done already", flush=True)
    for cell in waiting:
        if not cell.record.is_file():
            save_outcome(cell, Outcome())
    began, trained, left = time.monotonic(), 0.0, {cell.record: cell for cell in waiting}
    for cell, outcome in work(waiting, jobs):
        del left[cell.record]
        trained += outcome.seconds
        if outcome.state == DONE:
            seconds[cell.record] = outcome.seconds
        ended = f"failed: {outcome.reason}" if outcome.state == FAILED else f"trained in {_duration(outcome.seconds)}"
        # Scoring, starting and several at once are in the ratio of what has passed to what training took.
        pace = (time.monotonic() - began) / max(trained, 1e-9)
        rest = _duration(pace * expected_seconds(list(left), seconds))
        number = f"[{len(cells) - len(left)}/{len(cells)}]"
        print(f"{number} {cell.folder.relative_to(out)}: {ended}; about {rest} left", flush=True)


def expected_seconds(waiting: Sequence[Path], known: Mapping[Path, float]) -> float:
    """How long training the waiting cells will take, by their records: as long as others of the same method, or of any.

    Args:
        known: seconds of those that are done.
    """
    by_method: dict[str, list[float]] = {}
    for record, seconds in known.items():
        by_method.setdefault(_method(record), []).append(seconds)
    overall = sum(known.values()) / max(1, len(known))
    means = {method: sum(seconds) / len(seconds) for method, seconds in by_method.items()}
    return sum((means.get(_method(record), overall) for record in waiting), start=0.0)


def _method(record: Path) -> str:
    return record.stem.rpartition("-seed")[0]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _row(key: Key, cell: Cell) -> Row:
    labels, method, seed = key
    outcome = outcome_of(cell)
    counts = {"params": outcome.parameters, "gmac": outcome.gmac, "steps": outcome.steps, "seconds": outcome.seconds}
    # A network costs something: 0 is what was not found out yet.
    cost = {name: float(count) for name, count in counts.items() if count}
    if outcome.state != DONE:
        return Row(labels, method, seed, state_of(cell, outcome), outcome.reason, cost)
    metrics = read_metrics(RunFolder(cell.folder))
    if metrics is None:
        raise UserError(f"{cell.folder}: its scores are gone; remove {cell.record} to score it again")
    per_image = load_per_image(RunFolder(cell.folder).per_image)
    return Row(labels, method, seed, DONE, "", cost, metrics.final, metrics.initial, per_image, metrics.notes)
