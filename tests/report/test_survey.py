"""Which images a page looks at, and what it finds there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusionmtl.build import build_network
from diffusionmtl.commands.uncertainty import Looked, about_measurement, save_uncertainty
from diffusionmtl.config import DataSettings
from diffusionmtl.errors import UserError
from diffusionmtl.inference.evaluate import evaluate
from diffusionmtl.inference.per_image import PerImage, save_per_image
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.report.log import Metrics
from diffusionmtl.report.measured import FILE_NAME, read_measured
from diffusionmtl.report.shown import PictureSettings, shown_of
from diffusionmtl.report.survey import RANKS, ranked, ranked_images, survey, surveyed_images
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.tasks import SemanticSegmentation
from tests.report.test_collect import settings
from tests.report.test_reliability import AFTER, BEFORE, measured
from tests.toy import TASK_NAMES, TASKS, ToyDataset

DEPTH = next(task for task in TASKS if task.name == "depth")
ABOUT = {"data": ["toy"], "split": "val", "samples": 4, "ensemble": []}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(build_network(TASKS, settings("feature").network), (32, 32))


def test_each_task_gets_its_share_of_images_evenly():
    data = ToyDataset(10, annotated={index: ["semseg"] for index in range(5)})
    wanted = surveyed_images(data, ["semseg", "depth"], 2)
    assert {task: [i for i, tasks in wanted.items() if task in tasks] for task in ("semseg", "depth")} == {
        "semseg": [2, 7],
        "depth": [6, 8],
    }
    assert not surveyed_images(data, ["semseg"], 0)


def test_best_median_and_worst_by_figures_that_are_known():
    # Pixels and sum of absolute errors: an image without pixels has no figure.
    kept = PerImage((4, 5, 6, 7), np.array([[10.0, 5.0], [0.0, 0.0], [10.0, 1.0], [10.0, 9.0]]))
    assert ranked_images(DEPTH, kept) == {"best": 6, "median": 4, "worst": 7}
    assert ranked_images(DEPTH, PerImage((1, 2), np.ones((2, 2)))) == {}
    assert ranked_images(DEPTH, PerImage((1, 2, 3), np.ones((3, 0)))) == {}


def test_findings_are_of_every_task_and_pictures_of_the_extremes(predictor):
    data = ToyDataset(4)
    found = survey(predictor, data, 2, samples=2, seed=0)
    assert [finding.task for finding in found] == list(TASK_NAMES)
    assert all(finding.note == "Over 2 images of 4, evenly spaced." for finding in found)
    assert {finding.task: len(finding.charts) for finding in found} == {
        "semseg": 1, "depth": 1, "normals": 1, "saliency": 1, "edge": 0
    }  # fmt: skip
    assert all(counts.counts.sum() == 2 * 24 * 32 for finding in found for counts in finding.charts)
    scores = evaluate(predictor, data)
    shown = ranked(predictor, data, scores.per_image["final"], samples=2, seed=0)
    assert {one.task for one in shown} == set(TASK_NAMES)
    for one in shown:
        assert tuple(one.examples) == RANKS
        assert all([panel.task for panel in example.panels] == [one.task] for example in one.examples.values())
    assert not ranked(predictor, ToyDataset(3), scores.per_image["final"], samples=1, seed=0), "scores of other data"


def test_what_was_measured_before_is_taken_for_it(predictor, tmp_path: Path):
    tasks = {"depth": measured("m", False, BEFORE, None), "semseg": measured("wrong", True, BEFORE, AFTER)}
    save_uncertainty(tmp_path / FILE_NAME, "title", tasks, ABOUT)
    found = read_measured(tmp_path)
    assert found is not None
    assert found.tasks == tasks
    seen = {one.task: one for one in survey(predictor, ToyDataset(1), 1, samples=2, seed=0, measured=found)}
    assert seen["depth"].uncertainty == tasks["depth"]
    assert "over 2 images of toy, split 'val', with 4 noise draws" in seen["depth"].measured
    assert seen["normals"].measured == ""
    assert read_measured(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "text", ["", "{}", '{"tasks": {"depth": {}}, "data": [], "split": "", "samples": 1}', "[" * 9999]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UserError, match="not measured uncertainties"):
        read_measured(tmp_path)


def test_data_of_other_tasks_is_noted_not_fatal(predictor, tmp_path: Path):
    other = ToyDataset(1)
    other.tasks = (SemanticSegmentation("semseg", classes=("a", "b")),)
    seen = shown_of(RunFolder(tmp_path), predictor, {}, None, None, None, other, PictureSettings(unseen=0, samples=1))
    assert not seen.findings
    assert "No errors and doubt" in seen.notes[0] and "2 channels" in seen.notes[0]


def test_what_was_measured_of_other_weights_is_not_taken(predictor, tmp_path: Path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    for name in ("last", "best"):
        (run.checkpoints / f"{name}.safetensors").write_text(name)
    last = about_measurement(tmp_path, DataSettings(), "val", Looked())
    best = about_measurement(tmp_path, DataSettings(), "val", Looked(checkpoint="best"))
    for about, taken in ((last, True), (best, False), ({**last, "weights": None}, False)):
        save_uncertainty(tmp_path / FILE_NAME, "title", {"depth": measured("m", False, BEFORE, None)}, about)
        pictures = PictureSettings(unseen=0, surveyed=1, samples=1)
        seen = shown_of(run, predictor, {}, None, None, None, ToyDataset(1), pictures)
        assert any(finding.measured for finding in seen.findings) == taken
        assert any("measured with other weights" in note for note in seen.notes) != taken


def test_images_are_ranked_by_scores_of_these_weights_and_this_data_alone(predictor, tmp_path: Path):
    run, data = RunFolder(tmp_path), ToyDataset(3)
    save_per_image(run.per_image, evaluate(predictor, data).per_image)
    scored = Metrics((str(tmp_path / "toy"),), "val", 1, 0, "last", {}, {}, {})
    for checkpoint, words, there in (
        ("last", (), True),
        ("last", (f"{tmp_path}/x/../toy/",), True),
        ("last", ("other",), False),
        ("best", (), False),
    ):
        pictures = PictureSettings(unseen=0, surveyed=0, samples=1, checkpoint=checkpoint, data=words)
        seen = shown_of(run, predictor, {}, None, scored, None, data, pictures)
        assert bool(seen.ranked) == there
        assert any("other data or weights" in note for note in seen.notes) != there


def test_without_labels_there_is_nothing_to_find(predictor):
    assert survey(predictor, ToyDataset(2, annotated={0: [], 1: []}), 2, samples=1, seed=0) == ()
