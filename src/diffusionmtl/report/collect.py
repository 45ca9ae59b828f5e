"""From run folders to a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusionmtl.build import restore_run
from diffusionmtl.config import REPRODUCED, Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import Partition
from diffusionmtl.errors import UserError
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.content import Report, Table
from diffusionmtl.report.examples import legend
from diffusionmtl.report.log import Log, Metrics, curves_of, read_log, read_metrics
from diffusionmtl.report.provenance import (
    circumstances,
    evaluation_words,
    partition_words,
    read_partition,
    repeat_command,
    settings_table,
)
from diffusionmtl.report.published_table import OURS_TOGETHER, BesidePublished, Setting, beside_published, setting_of
from diffusionmtl.report.shown import USUAL, PictureSettings, Progress, Shown, predictor_of, shown_of
from diffusionmtl.report.started import began_words
from diffusionmtl.report.tables import (
    INITIAL,
    REFINED,
    Scores,
    coverage_table,
    figure_tables,
    gain,
    gain_text,
    headline,
    headline_table,
    number_texts,
    run_columns,
)
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import Task

_SCORES = 3
# Of as few images another draw of them would move a figure by more than most methods differ.
_FEW = 30


@dataclass(frozen=True)
class Run:
    """Everything but weights that a report needs of a run folder."""

    folder: RunFolder
    settings: Settings
    tasks: tuple[Task, ...]
    partition: Partition | None
    log: Log
    metrics: Metrics | None


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: it is not one, or a file in it is damaged.
    """
    run = RunFolder(folder)
    if not run.config.is_file():
        raise UserError(
            f"{folder}: not a run folder (no config.yaml); give the folder that 'diffusionmtl train --out' wrote"
        )
    settings, tasks = restore_run(read_yaml(run.config), str(run.config))
    return Run(run, settings, tasks, read_partition(run), read_log(run), read_metrics(run))


def beside_print(run: Run, metrics: Metrics) -> BesidePublished | None:
    """Scores of a run beside those in print; None unless they are of a benchmark, under labels that are in print."""
    setting = _setting(run, metrics)
    return None if setting is None else beside_published(setting, run.tasks, run_columns(metrics), metrics.images)


def _setting(run: Run, metrics: Metrics) -> Setting | None:
    source = "" if run.partition is None else run.partition.source
    return setting_of(metrics.data, metrics.split, run.tasks, run.settings.data.labels, source)


def _runs_beside_print(runs: Mapping[str, Run]) -> list[BesidePublished]:
    """Scores of several runs beside those in print, a table for each setting that is in print."""
    groups: dict[Setting, dict[str, tuple[Run, Metrics]]] = {}
    for label, run in runs.items():
        setting = None if run.metrics is None else _setting(run, run.metrics)
        if setting is not None and run.metrics is not None:
            groups.setdefault(setting, {})[label] = (run, run.metrics)
    found = []
    for setting, members in groups.items():
        columns = {label: metrics.final for label, (_, metrics) in members.items()}
        tasks = list({task.name: task for run, _ in members.values() for task in run.tasks}.values())
        images = {task: count for _, metrics in members.values() for task, count in metrics.images.items()}
        found.append(beside_published(setting, tasks, columns, images, OURS_TOGETHER))
    return [beside for beside in found if beside is not None]


def _data_notes(runs: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(note for run in runs if run.metrics is not None for note in run.metrics.notes))


def report_of_run(
    folder: Path,
    training: DenseDataset | None = None,
    unseen: DenseDataset | None = None,
    *,
    pictures: PictureSettings = USUAL,
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
    surveying: Progress | None = None,
) -> Report:
    """What one run did: its scores, curves, pictures, labels and settings.

    Args:
        folder: the run.
        training: its training data, for pictures with the labels that it saw; no such pictures if None.
        unseen: data that it never saw.
        pictures: which pictures.
        facts: more lines for how it was made, training time for instance.
        notes: what else a reader must know.
        progress: called with (pictures done, all).
        surveying: called with (images held against their labels done, all).

    Raises:
        UserError: not a run folder, damaged, or data that cannot be read.
    """
    run = read_run(folder)
    predictor, doubts = predictor_of(run.folder, pictures)
    shown = Shown(notes=("Training has written no weights yet, so there are no pictures.",))
    if predictor is not None:
        seen = (run.partition, run.metrics, training, unseen)
        shown = shown_of(run.folder, predictor, {}, *seen, pictures, progress, surveying)
    columns = {} if run.metrics is None else run_columns(run.metrics)
    beside = None if run.metrics is None else beside_print(run, run.metrics)
    return Report(
        title=f"Run {folder.resolve().name}",
        lead=_lead(run),
        highlights=(*_scores(run), *_refinement(run), *_counts(run)),
        tables=(
            *_score_tables(run.tasks, columns, INITIAL, run.metrics),
            *([beside.table] if beside is not None else []),
        ),
        curves=curves_of({"": run.log}, [task.name for task in run.tasks]),
        examples=shown.examples,
        ranked=shown.ranked,
        findings=shown.findings,
        legends=tuple(map(legend, run.tasks)),
        coverage=coverage_table(run.tasks, run.partition, run.metrics) if run.partition else None,
        provenance=_provenance({"": run}, facts),
        settings=settings_table({"value": run.settings}),
        command=repeat_command(run.settings, folder),
        notes=(*doubts, *notes, *shown.notes, *_notes(run, beside)),
    )


def _notes(run: Run, beside: BesidePublished | None) -> list[str]:
    """What must be known of one run's scores."""
    unscored = [] if run.metrics else [f"Not scored yet: diffusionmtl evaluate {run.folder.root}"]
    reproduced = [f"Reproduced: {REPRODUCED}."] if run.settings.data.reproduce else []
    return [*unscored, *_too_few(run), *(beside.notes if beside else ()), *_data_notes([run]), *reproduced]


def report_of_comparison(
    folders: Sequence[tuple[str, Path]],
    training: DenseDataset | None = None,
    unseen: DenseDataset | None = None,
    *,
    title: str = "Comparison",
    pictures: PictureSettings = USUAL,
    facts: Mapping[str, str] | None = None,
    command: str = "",
    progress: Progress | None = None,
    surveying: Progress | None = None,
) -> Report:
    """Several runs side by side; the first is what the others are measured against, the last the one in the pictures.

    Args:
        folders: label and folder of each run, at least two; labels differ.
        training: the training data of the last run.
        unseen: data that none of them saw.
        title: of the page.
        pictures: which pictures.
        facts: more lines for how it was made.
        command: what to type to make all of it again; the commands of the runs if empty.
        progress: called with (pictures done, all).
        surveying: called with (images held against their labels done, all).

    Raises:
        UserError: a folder is not a run, or damaged, or data cannot be read.
    """
    runs = {label: read_run(folder) for label, folder in folders}
    if len(runs) != len(folders) or len(runs) < 2:
        raise ValueError("a comparison needs two or more runs with labels that differ")
    (first, baseline), *_, (last, main) = runs.items()
    predictors = {label: predictor_of(run.folder, pictures) for label, run in runs.items()}
    rivals = {label: found for label, (found, _) in predictors.items() if found and label != last}
    predictor, shown = predictors[last][0], Shown()
    if predictor is not None:
        seen = (main.partition, main.metrics, training, unseen)
        shown = shown_of(main.folder, predictor, rivals, *seen, pictures, progress, surveying)
    columns = _comparison_columns(runs)
    beside = _runs_beside_print(runs)
    commands = "\n".join(repeat_command(run.settings, run.folder.root) for run in runs.values())
    return Report(
        title=title,
        lead=_lead(main),
        highlights=(*_advantage(first, baseline, last, main), *_refinement(main), *_counts(main)),
        tables=(*_score_tables(main.tasks, columns, first, main.metrics), *(one.table for one in beside)),
        curves=curves_of({label: run.log for label, run in runs.items()}, [task.name for task in main.tasks]),
        examples=shown.examples,
        ranked=shown.ranked,
        findings=shown.findings,
        legends=tuple(map(legend, main.tasks)),
        coverage=coverage_table(main.tasks, main.partition, main.metrics) if main.partition else None,
        provenance=_provenance(runs, facts),
        settings=settings_table({label: run.settings for label, run in runs.items()}),
        command=command or commands,
        notes=(
            "Each network was trained once, from one seed: small differences may be chance.",
            *dict.fromkeys(note for one in beside for note in one.notes),
            *(f"{label}: {doubt}" for label, (_, doubts) in predictors.items() for doubt in doubts),
            *shown.notes,
            *_data_notes(runs.values()),
            *(f"{label}: not scored yet." for label, run in runs.items() if run.metrics is None),
        ),
    )


def _comparison_columns(runs: Mapping[str, Run]) -> dict[str, Scores]:
    columns: dict[str, Scores] = {}
    for label, run in runs.items():
        if run.metrics is None:
            continue
        if run.metrics.initial:
            columns[f"{label}, {INITIAL}"] = run.metrics.initial
        columns[label] = run.metrics.final
    return columns


def _score_tables(
    tasks: Sequence[Task], columns: Mapping[str, Scores], reference: str, metrics: Metrics | None
) -> list[Table]:
    if not columns or metrics is None:
        return []
    against = reference if reference in columns else next(iter(columns))
    images = max(metrics.images.values(), default=0)
    caption = f"Headline figures on {images:,} images of {', '.join(metrics.data)}, split '{metrics.split}'"
    return [headline_table(tasks, columns, against, caption), *figure_tables(tasks, columns)]


def _lead(run: Run) -> str:
    names = [task.name for task in run.tasks]
    many = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    method = {
        "feature": "DiffusionMTL with Feature Diffusion",
        "prediction": "DiffusionMTL with Prediction Diffusion",
        "multitask": "the multi-task baseline",
        "singletask": "a single-task network",
        "xtc": "the multi-task baseline with cross-task consistency (XTC)",
    }[run.settings.network.method]
    labels = f" Labels that training saw: {run.partition.source}." if run.partition else ""
    return f"One network for {many}: {method} on {run.settings.network.backbone}.{labels}"


def _counts(run: Run) -> list[tuple[str, str]]:
    if run.partition is None:
        return []
    images = len(run.partition.visible)
    labels = sum(run.partition.counts([task.name for task in run.tasks]).values())
    possible = images * len(run.tasks)
    return [
        (f"{images:,}", "training images, with those held out"),
        (f"{labels:,}", f"labels seen; {possible:,} would be all tasks of all images"),
    ]


def _scores(run: Run) -> list[tuple[str, str]]:
    """The headline figures of the first tasks."""
    if run.metrics is None:
        return []
    scored = [task for task in run.tasks if task.name in run.metrics.final][:_SCORES]
    texts = number_texts([headline(task, run.metrics.final) for task in scored])
    return [
        (text, f"{task.headline} of {task.name}, {'higher' if task.higher_is_better else 'lower'} is better")
        for task, text in zip(scored, texts, strict=True)
    ]


def _too_few(run: Run) -> list[str]:
    counts = run.metrics.images if run.metrics else {}
    few: dict[int, list[str]] = {}
    for task, count in counts.items():
        if 0 < count < _FEW:
            few.setdefault(count, []).append(task)
    said = "; ".join(f"{', '.join(tasks)} on {count} image{'s' * (count > 1)}" for count, tasks in few.items())
    return [f"Scored on few images, so that small differences may be chance: {said}."] if few else []


def _refinement(run: Run) -> list[tuple[str, str]]:
    if run.metrics is None or not run.metrics.initial:
        return []
    change = gain(run.tasks, run.metrics.final, run.metrics.initial)
    return [] if change is None else [(gain_text(change), f"mean gain of {REFINED} on {INITIAL} predictions")]


def _advantage(first: str, baseline: Run, last: str, main: Run) -> list[tuple[str, str]]:
    if baseline.metrics is None or main.metrics is None:
        return []
    change = gain(main.tasks, main.metrics.final, baseline.metrics.final)
    return [] if change is None else [(gain_text(change), f"Δm of {last} against {first}")]


def _provenance(runs: Mapping[str, Run], facts: Mapping[str, str] | None) -> dict[str, str]:
    said = {
        "labels": {label: partition_words(run.partition) for label, run in runs.items() if run.partition},
        "seeds": {
            label: f"training {run.settings.train.seed}, labels {run.settings.data.label_seed}"
            for label, run in runs.items()
        },
        "training began": {label: begun for label, run in runs.items() if (begun := began_words(run.folder))},
        "scored on": {label: evaluation_words(run.metrics) for label, run in runs.items() if run.metrics},
    }
    lines: dict[str, str] = {}
    for name, words in said.items():
        if len(words) == len(runs) and len(set(words.values())) == 1:
            lines[name] = next(iter(words.values()))
        else:
            lines |= {f"{name}, {label}": text for label, text in words.items()}
    return {**lines, **(facts or {}), **circumstances()}
