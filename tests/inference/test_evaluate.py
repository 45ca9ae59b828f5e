"""Scores: perfect for a network that knows the labels, and the same however the data are batched and ordered."""

import math

import pytest
import torch
from torch.nn import functional as F

from diffusionmtl.build import build_network
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.rooms.dataset import RoomsDataset
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.errors import UserError
from diffusionmtl.inference.evaluate import evaluate
from diffusionmtl.inference.load import load
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals
from diffusionmtl.types import Canvas, InitialOutput, NetworkOutput
from tests.toy import TASK_NAMES, TASKS, ToyDataset, labels_at

SURE = 30.0
ERRORS = ("absErr", "relErr", "rmse", "mErr", "medErr")


def seen_labels(red, green):
    """Those of the toys, but with a thin boundary away from the border: there the protocol's thinning has no choice."""
    line = (red > 0.5) & (red <= 0.5 + 1 / red.shape[-1]) & (green > 0.1) & (green < 0.9)
    return {**labels_at(red, green), "edge": line[None].as_subclass(Boundary.label_type)}


class ThinToys(ToyDataset):
    def __init__(self):
        super().__init__(3, sizes=((96, 128), (120, 90)))

    def label(self, index, task):
        image = self.image(index).float() / 255
        return seen_labels(image[0], image[1])[task], super().label(index, task)[1]


class Oracle(Network):
    """Reads the labels off the toy pictures, which say where they are, and answers with them as raw outputs."""

    def __init__(self, wrong: bool = False):
        torch.nn.Module.__init__(self)
        self.tasks, self.refiner = TASKS, None
        self.wrong = wrong

    def initial(self, image):
        size = (image.shape[-2], image.shape[-1])
        by_task = {task.name: [] for task in TASKS}
        for picture in image.float() / 255:
            labels = seen_labels(picture[0], picture[1])
            for task in TASKS:
                by_task[task.name].append(self._raw(task, torch.as_tensor(labels[task.name])))
        return InitialOutput({}, {name: torch.stack(raw) for name, raw in by_task.items()}, Canvas(size, size))

    def finish(self, initial, noise, rows=None, watch=None):
        rows = {task.name: torch.arange(len(initial.predictions[task.name])) for task in TASKS}
        return NetworkOutput(initial.predictions, {}, rows, initial.canvas)

    def _raw(self, task, label):
        if isinstance(task, SemanticSegmentation):
            index = (label[0].long() + self.wrong) % task.channels
            return SURE * F.one_hot(index, task.channels).permute(2, 0, 1).float()
        if isinstance(task, Saliency | Boundary):
            raw = SURE * (2.0 * label.float() - 1.0) * (-1 if self.wrong else 1)
            return torch.cat([-raw, raw]) if task.channels == 2 else raw
        return -label.float() if self.wrong and isinstance(task, SurfaceNormals) else label.float() * (1 + self.wrong)


def is_error(figure: str) -> bool:
    return figure.startswith(ERRORS)


@pytest.fixture(scope="module")
def perfect():
    return evaluate(Predictor(Oracle(), None), ThinToys())


@pytest.mark.parametrize("task", TASK_NAMES)
def test_a_perfect_prediction_scores_the_best_value_in_every_metric(perfect, task):
    for figure, value in perfect.final[task].items():
        best = 0.0 if is_error(figure) else 1.0 if "delta" in figure and value <= 1 else 100.0
        assert value == pytest.approx(best, abs=2e-2 if task == "normals" else 1e-3), figure
    assert perfect.initial == {}
    assert perfect.images == dict.fromkeys(TASK_NAMES, 3)


def test_a_wrong_prediction_scores_worse_in_every_metric(perfect):
    wrong = evaluate(Predictor(Oracle(wrong=True), None), ThinToys()).final
    for task in TASK_NAMES:
        for figure, value in wrong[task].items():
            best = perfect.final[task][figure]
            assert value > best if is_error(figure) else value < best, (task, figure)


@pytest.fixture(scope="module")
def predictor():
    """A refining network of the toy task set whose noise is strong enough to be seen in the figures."""
    words = dict(backbone="test_efficientnet", width=16, blocks=1, token_stride=2, noise_start=0.3, noise_end=0.5)
    return Predictor(build_network(TASKS, changed(Settings(), **words).network), (32, 32))


def assert_close(one, other):
    assert one.images == other.images
    for mine, theirs in ((one.final, other.final), (one.initial, other.initial)):
        assert mine.keys() == theirs.keys()
        for task in mine:
            assert mine[task] == pytest.approx(theirs[task], rel=1e-4, abs=1e-4, nan_ok=True), task


def test_batches_and_order_change_nothing(predictor):
    dataset = ToyDataset(7, sizes=((24, 32), (33, 20), (24, 32)))
    one = evaluate(predictor, dataset, samples=2, batch_size=1)
    assert_close(one, evaluate(predictor, dataset, samples=2, batch_size=4))
    assert_close(one, evaluate(predictor, dataset, samples=2, batch_size=3, indices=[6, 2, 0, 4, 1, 5, 3]))


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(predictor):
    dataset = ToyDataset(3)
    one, again, other = (evaluate(predictor, dataset, seed=seed) for seed in (0, 0, 1))
    assert one == again or repr(one) == repr(again)  # NaN is not equal to itself
    assert one.final["depth"] != other.final["depth"]
    assert one.initial["depth"] == other.initial["depth"]


def test_images_without_a_label_do_not_count(predictor):
    annotated = {0: ("depth", "edge"), 1: ("depth",), 2: (), 3: ("edge", "semseg"), 4: ("depth",)}
    dataset = ToyDataset(5, annotated=annotated)
    scores = evaluate(predictor, dataset)
    assert scores.images == {"semseg": 1, "depth": 3, "normals": 0, "saliency": 0, "edge": 2}
    assert set(scores.final) == set(scores.initial) == {"semseg", "depth", "edge"}
    only = evaluate(predictor, ToyDataset(5, annotated={**annotated, 3: ()}), indices=[0, 1, 4])
    assert only.final["depth"] == pytest.approx(scores.final["depth"], rel=1e-5)


def test_pixels_without_a_label_do_not_count():
    """A band where nothing is known does not spoil a perfect score."""
    scores = evaluate(Predictor(Oracle(), None), ToyDataset(2, invalid=9))
    assert scores.final["depth"]["rmse@pooled"] == pytest.approx(0, abs=1e-4)
    assert scores.final["semseg"]["pixelAcc@pooled"] == pytest.approx(100)


def test_progress_counts_images(predictor):
    seen = []
    evaluate(predictor, ToyDataset(5), batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


class Renamed(ToyDataset):
    def __init__(self, *tasks):
        super().__init__(2)
        self.tasks = tasks


def test_another_task_set_is_refused(predictor):
    with pytest.raises(UserError, match=r"has tasks heat, the network semseg, .*: none in common"):
        evaluate(predictor, Renamed(Depth("heat")))
    with pytest.raises(UserError, match="task 'semseg' is segmentation with 2 channels, but the network learnt"):
        evaluate(predictor, Renamed(SemanticSegmentation("semseg", classes=("a", "b"))))
    with pytest.raises(UserError, match="task 'depth' is saliency with"):
        evaluate(predictor, Renamed(Saliency("depth")))


def test_classes_of_another_order_are_refused(predictor):
    turned = SemanticSegmentation("semseg", classes=("table", "chair", "floor", "wall"))
    with pytest.raises(UserError, match="task 'semseg' is segmentation with 4 channels") as raised:
        evaluate(predictor, Renamed(turned))
    words = "'wall' as class 0, here 'table', 'floor' as class 1, here 'chair', 'chair' as class 2, here 'floor'"
    assert f"the network learnt other classes: {words}, and 1 more;" in str(raised.value)


def test_a_trained_run_is_scored_on_some_tasks(tiny_run):
    rooms = SelectedTasks(RoomsDataset.open("val", 2, (32, 32)), ["depth"])
    scores = evaluate(load(tiny_run), rooms)
    assert list(scores.final) == ["depth"]
    assert all(math.isfinite(value) for value in scores.final["depth"].values())
