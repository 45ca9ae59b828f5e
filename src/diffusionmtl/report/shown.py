"""Everything on a page that a network has to run for: pictures, the best and worst images, how answers lie."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import Partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import digest_of
from diffusionmtl.inference.evaluate import shared_tasks
from diffusionmtl.inference.load import load, weights_file
from diffusionmtl.inference.per_image import FINAL, load_per_image
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.report.content import Example, Finding, Ranked
from diffusionmtl.report.examples import covering_images, examples, spread_images
from diffusionmtl.report.log import Metrics
from diffusionmtl.report.measured import FILE_NAME, Measured, read_measured
from diffusionmtl.report.survey import ranked, survey
from diffusionmtl.runfolder import RunFolder

Progress = Callable[[int, int], None]
_SCORED_SPLIT = "val"


@dataclass(frozen=True)
class PictureSettings:
    """Which pictures a report shows.

    Attributes:
        training: how many training images.
        unseen: how many images that training never saw.
        surveyed: over how many unseen images per task answers are held against labels; 0 for none.
        samples: noise draws per image; those of its calibration if the run has one.
        seed: of the noise.
        checkpoint: which weights, last or best.
        device: where to compute.
        data: what the images are of, in the words of `--data`; of what the run was scored on if empty.
    """

    training: int = 2
    unseen: int = 2
    surveyed: int = 24
    samples: int = 8
    seed: int = 0
    checkpoint: str = "last"
    device: str = "cpu"
    data: tuple[str, ...] = ()


USUAL = PictureSettings()


@dataclass(frozen=True)
class Shown:
    """What came of it; `notes` say what could not be."""

    examples: tuple[Example, ...] = ()
    ranked: tuple[Ranked, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def predictor_of(run: RunFolder, pictures: PictureSettings) -> tuple[Predictor | None, tuple[str, ...]]:
    """The network of a run, None before it wrote weights, and what is to be said of it.

    A calibration that does not fit the weights is left out.

    Raises:
        UserError: the weights are damaged.
    """
    if not (run.checkpoints / f"{pictures.checkpoint}.safetensors").is_file():
        return None, ()
    try:
        return load(run.root, pictures.device, pictures.checkpoint), ()
    except UserError as error:
        found = load(run.root, pictures.device, pictures.checkpoint, calibrated=False)
        return found, (f"Without its calibration: {error}",)


def shown_of(
    run: RunFolder,
    predictor: Predictor,
    rivals: Mapping[str, Predictor],
    partition: Partition | None,
    metrics: Metrics | None,
    training: DenseDataset | None,
    unseen: DenseDataset | None,
    pictures: PictureSettings,
    progress: Progress | None = None,
    surveying: Progress | None = None,
) -> Shown:
    """Run a network over what a page shows of it.

    Args:
        rivals: networks to show beside it, by their labels.
        partition: the labels that training saw.
        metrics: its scores.
        training: with those labels.
        unseen: data that training never saw.
        progress: called with (pictures of the examples done, all).
        surveying: called with (images held against their labels done, all).

    Raises:
        UserError: a file of the data or of the run is damaged.
    """
    samples = pictures.samples if predictor.calibration is None else predictor.calibration.samples
    found = _examples(predictor, rivals, partition, training, unseen, pictures, samples, progress)
    if unseen is None:
        return Shown(found)
    extremes, notes = _ranked(run, predictor, rivals, metrics, unseen, pictures, samples)
    if not pictures.surveyed:
        return Shown(found, extremes, (), notes)
    try:
        shared_tasks(predictor.tasks, unseen)
    except UserError as error:
        return Shown(found, extremes, (), (*notes, f"No errors and doubt: {error}"))
    measured, doubts = _measured(run, pictures.checkpoint)
    findings = survey(predictor, unseen, pictures.surveyed, samples, pictures.seed, measured, surveying)
    return Shown(found, extremes, findings, (*notes, *doubts))


def _measured(run: RunFolder, checkpoint: str) -> tuple[Measured | None, tuple[str, ...]]:
    """Uncertainties that were measured before, if with these weights; else what is to be said of them."""
    found = read_measured(run.root)
    if found is None or found.weights == digest_of(weights_file(run.root, checkpoint)):
        return found, ()
    return None, (
        f"{FILE_NAME} was measured with other weights, so uncertainties are those of the few images looked at here; "
        f"measure again with 'diffusionmtl evaluate {run.root} --uncertainty'.",
    )


def _examples(
    predictor: Predictor,
    rivals: Mapping[str, Predictor],
    partition: Partition | None,
    training: DenseDataset | None,
    unseen: DenseDataset | None,
    pictures: PictureSettings,
    samples: int,
    progress: Progress | None,
) -> tuple[Example, ...]:
    wanted: list[tuple[DenseDataset, int, Partition | None]] = []
    if unseen is not None:
        wanted += [(unseen, index, None) for index in spread_images(unseen, pictures.unseen)]
    if training is not None and partition is not None:
        covering = covering_images(partition, training.names, pictures.training)
        wanted += [(training, index, partition) for index in covering]
    shown: list[Example] = []
    for dataset, index, seen in wanted:
        shown += examples(predictor, dataset, [index], seen, samples=samples, seed=pictures.seed, others=rivals)
        if progress is not None:
            progress(len(shown), len(wanted))
    return tuple(shown)


def _ranked(
    run: RunFolder,
    predictor: Predictor,
    rivals: Mapping[str, Predictor],
    metrics: Metrics | None,
    unseen: DenseDataset,
    pictures: PictureSettings,
    samples: int,
) -> tuple[tuple[Ranked, ...], tuple[str, ...]]:
    """Of the scores that the last evaluation kept image by image, if they are of these weights and of this data."""
    if metrics is None or metrics.split != _SCORED_SPLIT or not run.per_image.is_file():
        return (), ()
    kept = load_per_image(run.per_image).get(FINAL, {})
    of_these = metrics.checkpoint == pictures.checkpoint and _same_data(pictures.data or metrics.data, metrics.data)
    found = ranked(predictor, unseen, kept, samples, pictures.seed, others=rivals) if of_these else ()
    if found or not kept:
        return found, ()
    return (), (
        f"No best and worst images: {run.per_image.name} is of other data or weights than this page; evaluate the run "
        "again.",
    )


def _same_data(one: Sequence[str], other: Sequence[str]) -> bool:
    return [Path(name).resolve() for name in one] == [Path(name).resolve() for name in other]
