"""`diffusionmtl suggest`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from diffusionmtl.build import build_training_set
from diffusionmtl.commands.output import check_claimable, figure, progress_bar, task_numbers, text_table
from diffusionmtl.commands.suggested_files import Suggested, write_suggestions
from diffusionmtl.config import DataSettings, Settings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.partition import COMPLETED, Partition, annotations, as_found, by_people
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.inference.doubt import Doubt, Draws, doubts, pooled_feature
from diffusionmtl.inference.load import load, settings_of_run, weights_file
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.suggest import Pool, Strategy, choose, relative
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.seeds import derive_seed

SHOWN = 40
AS_FOUND = "as-found"
_WITHOUT_HIDDEN = (AS_FOUND, "full", COMPLETED)


@dataclass(frozen=True)
class Asked:
    """What suggestions depend on beside the network and the images.

    Attributes:
        budget: prices may add up to so much; with no price given, the number of pairs.
        prices: by task, of one label; 1 for a task that is not named.
        by: see `inference.suggest.choose`.
        draws: how the network is asked.
    """

    budget: float = 100.0
    prices: tuple[tuple[str, float], ...] = ()
    by: Strategy = "gain"
    draws: Draws = field(default_factory=Draws)


def suggest(
    run: Path,
    data: DataSettings,
    out: Path,
    asked: Asked | None = None,
    *,
    labels: str | None = None,
    checkpoint: str = "last",
    device: str = "cpu",
    calibrated: bool = True,
    progress: bool = True,
    shown: int = SHOWN,
) -> list[Suggested]:
    """Write which (image, task) pairs to annotate next into a new folder.

    No label is opened, and whether there is one for a pair that is not to be seen changes no byte of what is written.

    Args:
        run: the folder of a finished run.
        data: images with the tasks of the run; those it was trained on, or others.
        out: a new folder. It appears once everything in it is there.
        labels: what counts as labelled: as-found, or a partition file. If None what the run saw, or what is there now
            if the run saw all that was.
        calibrated: use the run's `calibration.json`.
        shown: how many images the page shows, the first suggestions first.

    Returns:
        The suggestions, the first first.

    Raises:
        UserError: no run, other tasks, wrong prices, a budget that buys nothing, or nothing left to annotate.
    """
    asked = asked or Asked()
    check_claimable(out, "the suggestions")
    weights = weights_file(run, checkpoint)
    settings = settings_of_run(weights)
    predictor = load(run, device, checkpoint, calibrated=calibrated)
    prices = _prices(asked, [task.name for task in predictor.tasks])
    dataset = build_training_set(data, progress_bar("drawing rooms") if progress else None)
    if dataset.tasks != predictor.tasks:
        raise UserError(
            f"--data {' '.join(data.data)}: its tasks are not those of {run}; give data with the same dataset.yaml"
        )
    partition = _labelled(run, settings, dataset, labels)
    labelled = np.array([[t.name in partition.visible[name] for t in dataset.tasks] for name in dataset.names])
    _check_left(labelled, prices, asked, dataset)
    looked = _look(predictor, dataset, labelled, asked.draws, progress)
    pool = _pool(looked, labelled, prices, [task.name for task in dataset.tasks])
    rng = np.random.default_rng(derive_seed(asked.draws.seed, "suggest"))
    found = [
        Suggested.of(rank, choice, dataset, looked.doubt, looked.sizes, pool)
        for rank, choice in enumerate(choose(pool, float(asked.budget), asked.by, rng), start=1)
    ]
    about = {"by": asked.by, "budget": asked.budget, "prices": dict(asked.prices), **asdict(asked.draws)}
    usual = {task.name: looked.mean(task.name, labelled[:, row]) for row, task in enumerate(dataset.tasks)}
    write_suggestions(out, found, dataset, predictor, partition, asked.draws, usual, about, shown)
    return found


@dataclass(frozen=True)
class _Looked:
    """What was seen in the images, by index.

    Attributes:
        features: of every image.
        doubt: of the images with a pair to suggest.
        sizes: H, W of these.
    """

    features: np.ndarray
    doubt: Mapping[int, Mapping[str, Doubt]]
    sizes: Mapping[int, tuple[int, int]]

    def mean(self, task: str, labelled: np.ndarray) -> float:
        """Uncertainty over the images without a label of the task; 0 if there are none."""
        values = [of[task].uncertainty for index, of in self.doubt.items() if not labelled[index]]
        return sum(values) / max(len(values), 1)


def _look(predictor: Predictor, dataset: DenseDataset, labelled: np.ndarray, draws: Draws, progress: bool) -> _Looked:
    bar = progress_bar("looking") if progress else None
    features: list[np.ndarray] = []
    doubt: dict[int, dict[str, Doubt]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for index in range(len(dataset)):
        image = dataset.image(index)
        features.append(pooled_feature(predictor, image).numpy())
        if not labelled[index].all():
            doubt[index] = doubts(predictor, image, draws)
            _check_numbers(dataset.names[index], doubt[index])
            sizes[index] = (image.shape[-2], image.shape[-1])
        if bar is not None:
            bar(index + 1, len(dataset))
    return _Looked(np.stack(features), doubt, sizes)


def _check_numbers(image: str, found: Mapping[str, Doubt]) -> None:
    for task, doubt in found.items():
        if not all(math.isfinite(value) for value in asdict(doubt).values() if value is not None):
            raise UserError(f"image '{image}': the run's answer for '{task}' holds no numbers (NaN); train it again")


def _pool(looked: _Looked, labelled: np.ndarray, prices: np.ndarray, tasks: list[str]) -> Pool:
    def every(word: str) -> np.ndarray | None:
        found = np.zeros(labelled.shape)
        for index, of in looked.doubt.items():
            row = [getattr(of[task], word) for task in tasks]
            if any(value is None for value in row):
                return None
            found[index] = row
        return relative(found, labelled)

    uncertainty = every("uncertainty")
    assert uncertainty is not None
    others = [found for word in ("moved", "apart") if (found := every(word)) is not None]
    disagreement = sum(others[1:], start=others[0]) / len(others) if others else None
    return Pool(looked.features, labelled, uncertainty, disagreement, prices)


def _labelled(run: Path, settings: Settings, dataset: DenseDataset, labels: str | None) -> Partition:
    """The labels of people that there are; hidden ones are none."""
    found = by_people(as_found(annotations(dataset)), dataset)
    if labels == AS_FOUND:
        return found
    if labels is not None:
        if not Path(labels).is_file():
            raise UserError(f"--labels {labels}: no such file; name a partition file or say {AS_FOUND}")
        return by_people(Partition.load(Path(labels), dataset), dataset)
    if settings.data.labels in _WITHOUT_HIDDEN:
        return found
    path = RunFolder(run).partition
    if not path.is_file():
        raise UserError(f"{run}: no {path.name}, so nobody knows which labels it saw; say --labels {AS_FOUND}")
    try:
        return by_people(Partition.load(path, dataset), dataset)
    except UserError as error:
        raise UserError(f"{error}; for other images than those of the run say --labels {AS_FOUND}") from None


def _prices(asked: Asked, tasks: list[str]) -> np.ndarray:
    given = dict(asked.prices)
    for name in given:
        if name not in tasks:
            raise UserError(f"--price {name}: no such task.{nearest(name, tasks)} Known: {', '.join(tasks)}")
        if not _is_price(given[name]):
            raise UserError(f"--price {name}={given[name]:g}: must be a number above 0")
    return np.array([given.get(task, 1.0) for task in tasks])


def _check_left(labelled: np.ndarray, prices: np.ndarray, asked: Asked, dataset: DenseDataset) -> None:
    if labelled.all():
        raise UserError(
            f"data set '{dataset.name}': every image has a label of every task; nothing is left to annotate"
        )
    if not math.isfinite(asked.budget):
        raise UserError(f"--budget {asked.budget}: must be a number; {(~labelled).sum()} labels are missing in all")
    cheapest = prices[~labelled.all(axis=0)].min()
    if asked.budget < cheapest:
        raise UserError(f"--budget {asked.budget:g}: the cheapest label costs {cheapest:g}; give at least that much")


def suggestions_table(found: Iterable[Suggested], first: int = 10) -> str:
    """The first suggestions, and what all of them come to."""
    every = list(found)
    rows = [
        [str(one.rank), one.image, one.task, f"{100 * one.gain:.3f}", f"{one.price:g}", one.reason]
        for one in every[:first]
    ]
    counts: dict[str, int] = {}
    for one in every:
        counts[one.task] = counts.get(one.task, 0) + 1
    words = ", ".join(f"{task} {count}" for task, count in counts.items())
    gain, price = sum(one.gain for one in every), sum(one.price for one in every)
    sums = (
        f"{len(every)} labels of {len({one.image for one in every})} images for {price:g}: {words}; together they "
        f"speak for {figure(100 * gain)} % of the doubt"
    )
    return "\n".join([text_table(["rank", "image", "task", "gain %", "price", "reason"], rows), sums])


def parse_prices(given: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """`TASK=PRICE` words.

    Raises:
        UserError: a word that is none, or no price.
    """
    return task_numbers("--price", given, _is_price, "TASK=PRICE, a number above 0, semseg=10 for instance")


def _is_price(value: float) -> bool:
    return 0 < value < math.inf
