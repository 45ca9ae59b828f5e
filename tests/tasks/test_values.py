"""What a person may write about a task in YAML, and what is said when it does not fit."""

import dataclasses

import pytest
import yaml

from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals, task_from_settings
from diffusionmtl.tasks.values import fitting


def read(text):
    return task_from_settings("mine", yaml.safe_load(text), "d.yaml")


@pytest.mark.parametrize(
    "task",
    [
        Boundary("mine", weight=3.0, positive_weight=0.8, ignore=100),
        Depth("mine", scale=0.01, limit=20.0),
        Saliency("mine", ignore=7),
        SemanticSegmentation("mine", classes=("no", "1", "été"), ignore=0),
        SurfaceNormals("mine", frame="opencv"),
    ],
    ids=lambda task: task.kind,
)
def test_settings_come_back_through_yaml(task):
    assert read(yaml.safe_dump(task.settings())) == task
    assert {f.name for f in dataclasses.fields(task)} >= set(task.settings()) - {"kind"}


def test_numbers_that_yaml_takes_for_text_or_integers():
    task = read("{kind: depth, scale: 1e-3, limit: 20}")
    assert (task.scale, task.limit) == (0.001, 20.0)
    assert type(task.limit) is float


def test_class_names_may_be_numbers():
    assert read("{kind: segmentation, classes: [1, 2.5, x]}").classes == ("1", "2.5", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: depth, scale: metres}", "scale must be a number, not 'metres'"),
        ("{kind: depth, scale: true}", "scale must be a number, not True"),
        ("{kind: depth, scale: .nan}", "scale must be a number, not nan"),
        ("{kind: depth, scale: 0}", "scale and limit must be positive"),
        ("{kind: depth, weight: -1}", "weight must be 0 or more, not -1.0"),
        ("{kind: depth, weight: [1]}", r"weight must be a number, not \[1\]"),
        ("{kind: segmentation}", "classes must list at least two class names"),
        ("{kind: segmentation, classes: 5}", "classes must be a list of names, e.g. .*, not 5"),
        ("{kind: segmentation, classes: car}", "classes must be a list of names, e.g. .*, not 'car'"),
        ("{kind: segmentation, classes: [yes, no]}", "unquoted yes, no, .* as True; put the name in quotes"),
        ("{kind: segmentation, classes: [[a], b]}", r"a list of names, not of \['a'\]"),
        ("{kind: segmentation, classes: [a, a]}", "a class name stands twice"),
        ("{kind: segmentation, classes: [a, b], ignore: none}", "ignore must be a whole number, not 'none'"),
        ("{kind: boundary, ignore: 300}", "ignore must lie between 0 and 255, not 300"),
        ("{kind: saliency, ignore: 1.5}", "ignore must be a whole number, not 1.5"),
        ("{kind: saliency, ignore: -1}", "ignore must lie between 0 and 255, not -1"),
        ("{kind: normals, frame: blender}", "frame must be opengl or opencv, not 'blender'"),
        ("{kind: [depth]}", "unknown kind"),
        ("{kind: dept}", "unknown kind 'dept'. Did you mean 'depth'.*Known: boundary, depth"),
        ("{kind: depth, scales: 1}", "unknown key 'scales' for kind 'depth'. Did you mean 'scale'"),
        ("{kind: depth, 3: 1}", "unknown key '3' for kind 'depth'"),
        ("{kind: depth, name: x}", "unknown key 'name'"),
        ("depth", "needs a kind, e.g. mine: {kind: "),
        ("{scale: 1}", "needs a kind"),
    ],
)
def test_what_does_not_fit_is_named(text, message):
    with pytest.raises(UserError, match=rf"^d\.yaml: task 'mine':? .*{message}") as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_types_that_are_not_understood_let_everything_through():
    assert fitting("x", [1, 2], "list[int]") == (1, 2)
    assert fitting("x", {"a": 1}, dict[str, int]) == {"a": 1}
    assert fitting("x", [1, 2], tuple[int, int]) == (1, 2)
