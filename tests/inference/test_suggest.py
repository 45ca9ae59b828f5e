"""Which pairs are chosen, from numbers made up to have one right answer."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusionmtl.inference import likeness
from diffusionmtl.inference.suggest import Objective, Pool, choose, relative

STRATEGIES = ("gain", "diversity", "uncertainty", "random")


def pool(features, labelled=None, uncertainty=None, prices=None, tasks=2) -> Pool:
    features = np.asarray(features, dtype=np.float64)
    shape = (len(features), tasks)
    labelled = np.zeros(shape, dtype=bool) if labelled is None else np.asarray(labelled)
    uncertainty = np.ones(shape) if uncertainty is None else np.asarray(uncertainty, dtype=np.float64)
    prices = np.ones(tasks) if prices is None else np.asarray(prices, dtype=np.float64)
    return Pool(features, labelled, relative(uncertainty, labelled), None, prices)


def chosen(of: Pool, budget: float, by="gain", seed=0) -> list[tuple[int, int]]:
    return [(c.image, c.task) for c in choose(of, float(budget), by, np.random.default_rng(seed))]


def clusters(count: int, each: int, spread=0.05, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * np.eye(count)
    return np.repeat(centres, each, axis=0) + spread * rng.normal(size=(count * each, count))


@pytest.mark.parametrize("by", ["gain", "diversity"])
def test_of_near_duplicates_one_is_chosen(by):
    found = chosen(pool(clusters(5, 6), tasks=1), 5, by)
    assert sorted(image // 6 for image, _ in found) == [0, 1, 2, 3, 4]


def test_of_exact_duplicates_the_second_adds_nothing():
    features = np.repeat(np.eye(3), 2, axis=0)
    found = choose(pool(features, tasks=1), 6.0, "gain", np.random.default_rng(0))
    assert [c.gain > 0 for c in found] == [True] * 3 + [False] * 3
    assert [c.alike for c in found] == pytest.approx([0] * 3 + [1] * 3)
    assert sorted(c.image // 2 for c in found[:3]) == [0, 1, 2]


def test_what_is_labelled_speaks_for_its_kind():
    labelled = np.zeros((30, 1), dtype=bool)
    labelled[:6] = True
    labelled[12] = True
    found = chosen(pool(clusters(5, 6), labelled, tasks=1), 3)
    assert sorted(image // 6 for image, _ in found) == [1, 3, 4]


def test_doubt_decides_where_all_is_alike_unlike():
    doubt = np.ones((8, 2))
    doubt[5, 1], doubt[2, 0] = 9, 8
    found = chosen(pool(np.eye(8), uncertainty=doubt), 8)
    assert set(found[:2]) == {(5, 1), (2, 0)}


def test_uncertainty_alone_takes_duplicates():
    doubt = np.ones((30, 1))
    doubt[6:12] = 5
    of = pool(clusters(5, 6), uncertainty=doubt, tasks=1)
    assert all(6 <= image < 12 for image, _ in chosen(of, 4, "uncertainty"))
    assert sum(6 <= image < 12 for image, _ in chosen(of, 4)) <= 2


def test_prices_are_weighed_and_kept():
    of = pool(np.eye(10), prices=[10, 1])
    assert {task for _, task in chosen(of, 9)} == {1}
    doubt = np.ones((10, 2))
    doubt[3, 0] = 10_000
    assert chosen(pool(np.eye(10), uncertainty=doubt, prices=[4, 1]), 12)[0] == (3, 0)


def test_a_label_that_is_worth_the_whole_budget_is_not_lost_to_a_cheap_one():
    doubt = np.zeros((6, 2))
    doubt[0, 0], doubt[1, 1] = 0.15, 1.0
    of = Pool(np.eye(6), np.zeros((6, 2), dtype=bool), doubt, None, np.array([1.0, 8.0]))
    # Per price the first adds 0.130 and the second 0.109; after the first the second cannot be paid.
    assert chosen(of, 8) == [(1, 1)]
    assert chosen(of, 9)[:2] == [(0, 0), (1, 1)]


def test_a_task_that_is_nearly_done_counts_as_its_missing_labels_do():
    labelled = np.zeros((20, 2), dtype=bool)
    labelled[2:, 0] = True
    of = pool(np.eye(20), labelled)
    gains = Objective(of, of.doubt, 4.0, np.random.default_rng(0)).gains()[~labelled]
    assert gains.min() > 0.8 * gains.max()


def test_of_pairs_that_add_nothing_the_doubtful_come_first(monkeypatch):
    for word in ("MOST", "FEWEST"):
        monkeypatch.setattr(likeness, word, 3)
    doubt = np.random.default_rng(1).random((8, 1))
    of = pool(np.eye(8), uncertainty=doubt, tasks=1)
    rest = [c for c in choose(of, 8.0, "gain", np.random.default_rng(0)) if c.gain == 0]
    assert len(rest) == 5
    assert [c.image for c in rest] == sorted((c.image for c in rest), key=lambda image: -doubt[image, 0])


@pytest.mark.parametrize("by", STRATEGIES)
@given(seed=st.integers(0, 10_000), budget=st.floats(0.5, 30))
@settings(max_examples=10)
def test_whatever_is_asked(by, seed, budget):
    rng = np.random.default_rng(seed)
    labelled = rng.random((9, 3)) < 0.3
    of = pool(rng.normal(size=(9, 4)), labelled, rng.random((9, 3)), rng.choice([0.1, 1, 2.5], 3), tasks=3)
    found = choose(of, budget, by, np.random.default_rng(seed))
    pairs = [(c.image, c.task) for c in found]
    assert len(set(pairs)) == len(pairs) and not any(labelled[pair] for pair in pairs)
    spent = sum(c.price for c in found)
    assert spent <= budget * (1 + 1e-8)
    left = [
        of.prices[t] for i, t in itertools.product(range(9), range(3)) if not labelled[i, t] and (i, t) not in pairs
    ]
    assert all(price > budget - spent - 1e-6 for price in left)
    assert all(c.gain >= 0 and 0 <= c.alike <= 1 for c in found) and sum(c.gain for c in found) <= 1 + 1e-9
    assert pairs == chosen(of, budget, by, seed)
    if by == "gain":
        worth = [c.gain / c.price for c in found]
        equal = len(set(of.prices)) == 1
        assert not equal or all(a >= b - 1e-12 for a, b in itertools.pairwise(worth))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_a_lazy_choice_is_that_of_trying_all(seed):
    rng = np.random.default_rng(seed)
    labelled = rng.random((7, 2)) < 0.2
    of = pool(rng.normal(size=(7, 3)), labelled, rng.random((7, 2)))
    objective = Objective(of, np.where(labelled, 0.0, of.doubt), 5.0, np.random.default_rng(0))
    for choice in choose(of, 5.0, "gain", np.random.default_rng(0)):
        gains = np.where(labelled, -1.0, objective.gains())
        assert choice.gain == pytest.approx(gains.max(), abs=1e-12)
        objective.take(choice.image, choice.task)
        labelled[choice.image, choice.task] = True


def test_a_large_pool_is_spoken_for_by_some(monkeypatch):
    monkeypatch.setattr(likeness, "MOST", 60)
    monkeypatch.setattr(likeness, "FEWEST", 60)
    of = pool(clusters(4, 100), tasks=1)
    found = choose(of, 4.0, "gain", np.random.default_rng(0))
    assert sorted(c.image // 100 for c in found) == [0, 1, 2, 3]
    assert 200 < sum(c.speaks_for for c in found) < 500


def test_chance_draws_every_pair_alike():
    of = pool(np.eye(5), tasks=2)
    firsts = {chosen(of, 1, "random", seed)[0] for seed in range(200)}
    assert len(firsts) == 10


def test_relative_has_mean_one_over_open_pairs():
    labelled = np.array([[True, False], [False, False], [False, True]])
    found = relative(np.array([[9.0, 0.0], [1.0, 0.0], [3.0, 5.0]]), labelled)
    assert found.tolist() == [[0, 1], [0.5, 1], [1.5, 0]]
