"""Who may see what: the protocols, the text file and the hold-out."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.data import partition as p
from diffusionmtl.data.partition import Partition
from diffusionmtl.errors import UserError
from tests.toy import TASK_NAMES, ToyDataset

TASKS = ("a", "b", "c")

annotated_sets = st.lists(st.frozensets(st.sampled_from(TASKS)), min_size=1, max_size=12).map(
    lambda sets: {f"image {i}": tasks for i, tasks in enumerate(sets)}
)


def everything(n: int, tasks: tuple[str, ...] = TASKS) -> dict[str, frozenset[str]]:
    return {f"image {i}": frozenset(tasks) for i in range(n)}


def unevenness(loads: list[int]) -> list[int]:
    return sorted(loads, reverse=True)


class TestOneLabel:
    @given(n=st.integers(0, 40), seed=st.integers(0, 5))
    def test_exactly_one_and_balanced_to_one(self, n: int, seed: int):
        made = p.one_label(everything(n), TASKS, seed)
        assert all(len(seen) == 1 for seen in made.visible.values())
        counts = made.counts(TASKS).values()
        assert max(counts) - min(counts) <= 1

    @given(annotated=annotated_sets, seed=st.integers(0, 5))
    def test_as_balanced_as_any_choice_can_be(self, annotated: dict[str, frozenset[str]], seed: int):
        made = p.one_label(annotated, TASKS, seed)
        for name, seen in made.visible.items():
            assert len(seen) == min(1, len(annotated[name]))
            assert seen <= annotated[name]
        # Every reachable triple of loads, by adding one image after another.
        reachable = {(0, 0, 0)}
        for options in annotated.values():
            if options:
                reachable = {
                    tuple(load + (t == task) for t, load in zip(TASKS, loads, strict=True))
                    for loads in reachable
                    for task in options
                }
        best = min(unevenness(list(loads)) for loads in reachable)
        assert unevenness(list(made.counts(TASKS).values())) == best

    def test_a_greedy_choice_is_put_right_over_two_steps(self):
        annotated = {f"a {i}": frozenset("a") for i in range(6)}
        annotated |= {f"ab {i}": frozenset("ab") for i in range(6)}
        annotated |= {f"bc {i}": frozenset("bc") for i in range(6)}
        for seed in range(10):
            assert set(p.one_label(annotated, TASKS, seed).counts(TASKS).values()) == {6}

    def test_which_task_an_image_gets_is_random(self):
        got = Counter(next(iter(p.one_label(everything(3), TASKS, seed).visible["image 0"])) for seed in range(300))
        assert set(got) == set(TASKS)
        assert min(got.values()) > 60

    def test_people_are_spread_over_the_tasks(self):
        # Of 900 images 300 also have parts, and 225 of those 300 are needed for an even share.
        tasks = ("semseg", "normals", "edge", "parts")
        annotated = {f"image {i}": frozenset(tasks if i % 3 == 0 else tasks[:3]) for i in range(900)}
        made = p.one_label(annotated, tasks, 0)
        assert set(made.counts(tasks).values()) == {225}


class TestRandomLabel:
    @given(annotated=annotated_sets, seed=st.integers(0, 5))
    def test_at_least_one_and_never_all(self, annotated: dict[str, frozenset[str]], seed: int):
        for name, seen in p.random_label(annotated, TASKS, seed).visible.items():
            assert seen <= annotated[name]
            assert len(seen) >= min(1, len(annotated[name]))
            assert len(seen) <= max(min(1, len(annotated[name])), len(annotated[name]) - 1)

    def test_number_and_choice_are_uniform(self):
        tasks = ("a", "b", "c", "d")
        made = p.random_label(everything(6000, tasks), tasks, 0)
        by_number = Counter(len(seen) for seen in made.visible.values())
        assert by_number.keys() == {1, 2, 3}
        assert all(abs(count - 2000) < 6 * np.sqrt(6000 * 2 / 9) for count in by_number.values())
        pairs = Counter(seen for seen in made.visible.values() if len(seen) == 2)
        assert pairs.keys() == {frozenset(pair) for pair in combinations(tasks, 2)}
        assert all(abs(count - by_number[2] / 6) < 6 * np.sqrt(by_number[2] * 5 / 36) for count in pairs.values())

    def test_published_counts_of_pascal_context_are_likely(self):
        # About 1,713 of the 4,998 training images show people; the published file has these numbers of labels.
        tasks = ("semseg", "human_parts", "sal", "normals", "edge")
        without = frozenset(tasks) - {"human_parts"}
        annotated = {f"image {i}": frozenset(tasks) if i < 1713 else without for i in range(4998)}
        by_number = Counter(len(seen) for seen in p.random_label(annotated, tasks, 0).visible.values())
        for number, published in zip((1, 2, 3, 4), (1538, 1529, 1541, 390), strict=True):
            assert abs(by_number[number] - published) < 150


@pytest.mark.parametrize("make", [p.one_label, p.random_label])
def test_seeds(make):
    annotated = everything(30)
    assert make(annotated, TASKS, 3) == make(annotated, TASKS, 3)
    assert make(annotated, TASKS, 3).digest() != make(annotated, TASKS, 4).digest()


def test_as_found_and_full_show_what_there_is():
    toy = ToyDataset(3, annotated={0: ["depth"], 1: []})
    for mode in ("as-found", "full"):
        made = p.make_partition(mode, toy, seed=0)
        assert made.visible == {
            "image 0": frozenset({"depth"}),
            "image 1": frozenset(),
            "image 2": frozenset(TASK_NAMES),
        }


def test_digest_is_that_of_what_is_seen():
    seen = Partition({"x": frozenset("ab"), "y": frozenset("c"), "z": frozenset()}, "here")
    assert seen.digest() == Partition({"y": frozenset("c"), "x": frozenset("ba")}, "there").digest()
    assert seen.digest() != Partition({"x": frozenset("a"), "y": frozenset("c")}, "here").digest()
    assert seen.digest() != Partition({"x": frozenset("abc"), "y": frozenset()}, "here").digest()
    # `printf 'x\tdepth' | sha256sum`: it stands in run folders and must not change.
    assert Partition({"x": frozenset({"depth"})}, "").digest() == "bd3750d16c192236"


class TestFile:
    def write(self, folder: Path, *lines: str) -> Path:
        path = folder / "partition.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def test_round_trip(self, tmp_path: Path):
        toy = ToyDataset(7, annotated={2: []})
        made = p.make_partition("random", toy, seed=1)
        made.save(tmp_path / "new folder" / "partition.txt")
        read = p.make_partition(str(tmp_path / "new folder" / "partition.txt"), toy, seed=9)
        assert read.visible == made.visible
        assert read.digest() == made.digest()

    def test_what_a_person_reads(self, tmp_path: Path):
        made = Partition({"image 1": frozenset({"depth", "edge"}), "image 0": frozenset()}, "one label, seed 0")
        made.save(tmp_path / "partition.txt")
        lines = (tmp_path / "partition.txt").read_text().splitlines()
        assert lines[0] == "# one label, seed 0"
        assert made.digest() in lines[1]
        assert lines[3:] == ["image 1\tdepth\tedge", "image 0"]

    def test_images_left_out_show_nothing(self, tmp_path: Path):
        path = self.write(tmp_path, "\ufeff# by hand", "", "image 1\tdepth \t edge\t", "# image 0\tdepth")
        read = Partition.load(path, ToyDataset(3))
        assert read.visible == {"image 0": frozenset(), "image 1": frozenset({"depth", "edge"}), "image 2": frozenset()}

    def test_a_name_that_looks_like_a_comment(self, tmp_path: Path):
        toy = ToyDataset(2)
        toy.names = ("#1", "# 2")
        made = p.make_partition("full", toy, seed=0)
        made.save(tmp_path / "partition.txt")
        assert Partition.load(tmp_path / "partition.txt", toy).visible == made.visible

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("image 9\tdepth", r"line 2: data set 'toy' has no image 'image 9'\. Did you mean 'image \d'\?"),
            ("image 0 depth", r"line 2: data set 'toy' has no image 'image 0 depth'.*separated by tabs"),
            ("image 0\tdeph", r"line 2: data set 'toy' has no task 'deph'\. Did you mean 'depth'\?"),
            ("image 1\tdepth", r"line 2: image 'image 1' has no annotation for 'depth'"),
            ("image 2\tdepth", r"line 2: image 'image 2' stands twice"),
        ],
    )
    def test_mistakes_are_named_with_their_line(self, tmp_path: Path, line: str, complaint: str):
        path = self.write(tmp_path, "image 2\tdepth", line)
        with pytest.raises(UserError, match=complaint) as caught:
            Partition.load(path, ToyDataset(3, annotated={1: ["edge"]}))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_not_a_file(self, tmp_path: Path):
        with pytest.raises(UserError, match=r"neither a file nor one of as-found.*Did you mean 'random'"):
            p.make_partition("randm", ToyDataset(2), seed=0)
        with pytest.raises(UserError, match="is a folder, a file was expected"):
            p.make_partition(str(tmp_path), ToyDataset(2), seed=0)

    def test_not_text(self, tmp_path: Path):
        path = tmp_path / "partition.txt"
        path.write_bytes(b"\x80\x02}q\x00.")
        with pytest.raises(UserError, match="not a text file"):
            Partition.load(path, ToyDataset(2))

    def test_a_name_that_would_break_the_file_is_refused(self, tmp_path: Path):
        with pytest.raises(UserError, match="rename the image"):
            Partition({"a\tb": frozenset()}, "").save(tmp_path / "partition.txt")
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_written(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot be written"):
            Partition({}, "").save(tmp_path / "file" / "partition.txt")


class TestHoldOut:
    @given(annotated=annotated_sets, fraction=st.sampled_from([0.0, 0.1, 0.3, 0.7]), seed=st.integers(0, 3))
    def test_both_sides_are_all_of_it_and_no_task_leaves_training(
        self, annotated: dict[str, frozenset[str]], fraction: float, seed: int
    ):
        seen = Partition(annotated, "")
        train, dev = p.hold_out(seen, fraction, seed)
        assert sorted(train + dev) == sorted(annotated)
        assert (train, dev) == p.hold_out(seen, fraction, seed)
        remaining = seen.only(train).counts(TASKS)
        assert all(remaining[task] > 0 for task, count in seen.counts(TASKS).items() if count)
        assert all(annotated[name] for name in dev)

    def test_each_task_gives_its_share(self):
        made = p.one_label(everything(100, ("a", "b", "c", "d")), ("a", "b", "c", "d"), 0)
        train, dev = p.hold_out(made, 0.2, 0)
        assert set(made.only(dev).counts("abcd").values()) == {5}
        assert set(made.only(train).counts("abcd").values()) == {20}

    def test_a_rare_task_is_on_both_sides(self):
        annotated = {f"image {i}": frozenset("a") for i in range(40)} | {"r0": frozenset("b"), "r1": frozenset("b")}
        train, dev = p.hold_out(Partition(annotated, ""), 0.1, 0)
        assert Partition(annotated, "").only(train).counts("ab") == {"a": 36, "b": 1}
        assert Partition(annotated, "").only(dev).counts("ab") == {"a": 4, "b": 1}

    def test_fully_labelled_images_give_the_fraction(self):
        train, dev = p.hold_out(Partition(everything(50), ""), 0.1, 0)
        assert (len(train), len(dev)) == (45, 5)

    @pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
    def test_not_a_fraction(self, fraction: float):
        with pytest.raises(UserError, match="--holdout"):
            p.hold_out(Partition(everything(5), ""), fraction, 0)
