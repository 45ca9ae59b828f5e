"""How alike images are, and that a table of it keeps within its bounds."""

import numpy as np
import pytest

from diffusionmtl.inference import likeness as module
from diffusionmtl.inference.likeness import (
    MOST,
    directions,
    likeness,
    likeness_table,
    neighbours,
    reach,
    reference_count,
)


def dense(table, images: int) -> np.ndarray:
    found = np.zeros((images, len(table.references)))
    for image in range(images):
        columns, values = table.row(image)
        found[image, columns] = values
    return found


def test_likeness_and_reach():
    points = np.array([[0.0], [1.0], [3.0]])
    assert reach(points, 1) == pytest.approx(1.0)  # squared distances to the nearest: 1, 1, 4
    assert reach(points[:1], 1) == 0
    assert likeness(points, points, 4.0).tolist() == [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]]
    assert likeness(points, points, 0.0).tolist() == np.eye(3).tolist()
    assert neighbours(100, 5, 50.0) == 10 and neighbours(100, 5, 0.0) == 99 and neighbours(100, 5, 1e9) == 1


def test_the_reach_of_many_is_that_of_some(monkeypatch):
    points = np.random.default_rng(0).normal(size=(400, 3))
    every = reach(points, 20)
    monkeypatch.setattr(module, "_MEDIAN_OF", 200)
    assert reach(points, 20) == pytest.approx(every, rel=0.15) and reach(points, 20) != every


def test_directions_know_no_scale():
    features = np.random.default_rng(0).normal(size=(6, 3))
    other = features * [1.0, 50.0, 1e-4] + [3.0, -1.0, 0.0]
    assert directions(other) == pytest.approx(directions(features))
    assert directions(np.ones((4, 2))).tolist() == np.zeros((4, 2)).tolist()


def test_a_table_holds_every_likeness(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 7)
    points = directions(np.random.default_rng(0).normal(size=(30, 5)))
    table = likeness_table(points, 3, 12.0, np.random.default_rng(0))
    assert table.references.tolist() == list(range(30))
    assert table.squared_reach == pytest.approx(reach(points, neighbours(30, 3, 12.0)))
    assert dense(table, 30) == pytest.approx(likeness(points, points, table.squared_reach), abs=1e-6)
    assert 30 < len(table.values) < 900 and (table.values > 0).all()


def test_as_many_references_as_there_is_room_for():
    assert reference_count(10_000, 6, 160.0) == 10_000  # of 375 likenesses each
    assert reference_count(100_000, 6, 160.0) == 8533
    assert reference_count(100_000, 6, 60_000.0) == MOST
    assert reference_count(100_000, 6, 1.0) == 320 and reference_count(1_000_000, 6, 1.0) == 256
    assert reference_count(5, 6, 0.0) == 5


def test_a_table_never_outgrows_its_room(monkeypatch):
    # Three in four lie on one spot, which the median of the distances does not tell.
    scattered, spot = np.random.default_rng(0).normal(size=(50, 4)), np.tile([9.0, 0, 0, 0], (150, 1))
    points = directions(np.concatenate([scattered, spot]))
    monkeypatch.setattr(module, "ENTRIES", 3000)
    monkeypatch.setattr(module, "FEWEST", 4)
    table = likeness_table(points, 1, 100.0, np.random.default_rng(0))
    assert len(table.values) <= 6000 and 4 <= len(table.references) < 200
    assert dense(table, 200) == pytest.approx(likeness(points, points[table.references], table.squared_reach), abs=1e-6)
