"""The drawn rooms as a data set: kept on disk, drawn once, the same however they were drawn."""

import multiprocessing
import os

import numpy as np
import pytest
import torch

from diffusionmtl.cache import default_cache
from diffusionmtl.data.base import read_sample
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.rooms import chunks, draw_room
from diffusionmtl.data.rooms.chunks import FIELDS, RoomStore, draw_missing
from diffusionmtl.data.rooms.dataset import RoomsDataset, export_rooms, rooms_tasks
from diffusionmtl.errors import UserError

SIZE = (16, 24)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def rooms(cache):
    return RoomsDataset.open("train", 3, SIZE, cache=cache)


@pytest.fixture
def chunk(monkeypatch):
    """Rooms to a file, few."""
    monkeypatch.setattr(chunks, "CHUNK", 3)
    return 3


@pytest.fixture
def drawn(monkeypatch):
    """The seeds that are drawn while the test runs."""
    seeds = []

    def spy(seed, size):
        seeds.append(seed)
        return draw_room(seed, size)

    monkeypatch.setattr(chunks, "draw_room", spy)
    return seeds


def test_a_sample_is_the_drawn_room(rooms):
    room = draw_room(2, SIZE)
    sample = read_sample(rooms, 2, rooms.annotated(2))
    assert torch.equal(sample.image, torch.from_numpy(room.image).permute(2, 0, 1))
    assert torch.equal(sample.labels["normals"], torch.from_numpy(room.normals).permute(2, 0, 1))
    for name in ("semseg", "depth", "edge", "saliency", "human_parts"):
        assert torch.equal(sample.labels[name][0], torch.from_numpy(getattr(room, name)))
    assert all(valid.all() for valid in sample.valid.values())
    for task in rooms.tasks:
        assert type(sample.labels[task.name]) is task.label_type
        assert sample.labels[task.name].dtype == task.label_dtype
        assert task.name in FIELDS


def test_rooms_are_drawn_once_and_a_larger_count_adds(tmp_path, drawn, chunk):
    told = []
    RoomsDataset.open("train", 2, SIZE, cache=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert drawn == [0, 1]
    assert told == [(1, 2), (2, 2)]
    drawn.clear()
    for count in (2, 1):
        assert len(RoomsDataset.open("train", count, SIZE, cache=tmp_path)) == count
    assert drawn == []
    RoomsDataset.open("train", chunk + 1, SIZE, cache=tmp_path)
    assert sorted(drawn) == list(range(chunk + 1))
    drawn.clear()
    RoomsDataset.open("train", chunk + 2, SIZE, cache=tmp_path)
    assert drawn == [chunk, chunk + 1]  # a full chunk is never drawn again


def test_an_interrupted_drawing_continues_with_the_chunk_it_was_in(tmp_path, drawn, chunk):
    def interrupt(done, _):
        if done == chunk + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RoomsDataset.open("train", chunk + 3, SIZE, cache=tmp_path, progress=interrupt)
    drawn.clear()
    rooms = RoomsDataset.open("train", chunk + 3, SIZE, cache=tmp_path)
    assert drawn == [chunk, chunk + 1, chunk + 2]
    np.testing.assert_array_equal(rooms.image(chunk).permute(1, 2, 0), draw_room(chunk, SIZE).image)


def test_a_damaged_file_is_drawn_again(tmp_path):
    rooms = RoomsDataset.open("val", 1, SIZE, cache=tmp_path)
    whole = rooms.image(0)
    damaged = next(tmp_path.rglob("image-00000.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"image-00000\.npy: drawn rooms are missing or damaged; start again"):
        rooms.image(0)
    assert torch.equal(RoomsDataset.open("val", 1, SIZE, cache=tmp_path).image(0), whole)


def test_several_processes_draw_the_same_rooms(tmp_path):
    alone, together = (RoomStore(tmp_path / name, 7, (8, 12)) for name in ("alone", "together"))
    count = chunks.CHUNK + 2
    told = []
    draw_missing(alone, count, workers=1)
    list(chunks._in_processes(together, together.jobs(count), 2))
    assert together.jobs(count) == []
    for name in FIELDS:
        for chunk in (0, 1):
            assert together.path(name, chunk).read_bytes() == alone.path(name, chunk).read_bytes()
    draw_missing(together, count, lambda done, total: told.append(done))
    assert told == []


def test_what_a_failed_process_leaves_is_drawn_here(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(chunks, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(chunks.sys, "executable", "/bin/false" if os.path.exists("/bin/false") else "false")
    store = RoomStore(tmp_path, 0, (8, 8))
    draw_missing(store, chunk + 1, workers=2)
    assert store.jobs(chunk + 1) == []


def _draw_in_daemon(cache, answers):
    answers.put(len(RoomsDataset.open("train", 2, (8, 8), cache=cache)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to keep the test short")
def test_a_data_loader_worker_can_draw(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    worker = context.Process(target=_draw_in_daemon, args=(tmp_path, answers), daemon=True)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert answers.get() == 2


def test_splits_and_seeds_have_rooms_of_their_own(cache, rooms):
    others = [
        RoomsDataset.open("val", 3, SIZE, cache=cache),
        RoomsDataset.open("train", 3, SIZE, seed=1, cache=cache),
    ]
    pictures = {bytes(d.image(i).numpy().tobytes()) for d in [rooms, *others] for i in range(3)}
    assert len(pictures) == 9


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSIONMTL_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("DIFFUSIONMTL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "diffusionmtl"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "test"}, r"rooms: no split 'test'; rooms are drawn for train and val"),
        ({"count": 0}, r"rooms: count 0 is not between 1 and"),
        ({"count": 5_000_001}, r"rooms: count 5000001 is not between 1 and 5,000,000"),
        ({"seed": -1}, r"rooms: seed -1 is negative; use 0 or more"),
        ({"size": (0, 8)}, r"rooms: size 0x8 must be at least 1x1"),
    ],
)
def test_arguments_out_of_range(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        RoomsDataset.open(**{"split": "train", "count": 1, "size": SIZE, "cache": tmp_path, **changed})


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path):
    (tmp_path / "rooms").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"rooms/v\d.*cannot be kept there.*DIFFUSIONMTL_CACHE"):
        RoomsDataset.open("train", 1, SIZE, cache=tmp_path)


def test_there_is_no_room_beyond_the_count(rooms):
    # The chunk on disk holds three rooms; a data set of two must not lend the third.
    fewer = RoomsDataset(rooms._store, 2)
    with pytest.raises(IndexError):
        fewer.image(2)


def test_exported_rooms_are_a_folder_that_reads_back(cache, rooms, tmp_path):
    out = tmp_path / "out"
    visible = {"train": {"room-00000": {"depth", "normals"}, "room-00002": {"semseg"}}}
    told = []
    export_rooms(out, {"train": 3, "val": 1}, SIZE, visible=visible, cache=cache, progress=lambda *at: told.append(at))
    assert told[-1] == (4, 4)
    train, val = (FolderDataset.open(out, split) for split in ("train", "val"))
    assert train.tasks == rooms_tasks()
    assert [train.annotated(i) for i in range(3)] == [{"depth", "normals"}, frozenset(), {"semseg"}]
    assert val.annotated(0) == {task.name for task in rooms_tasks()}
    assert torch.equal(train.image(1), rooms.image(1))
    assert torch.equal(train.label(0, "depth")[0], rooms.label(0, "depth")[0])
    assert torch.equal(train.label(2, "semseg")[0], rooms.label(2, "semseg")[0])
    with pytest.raises(UserError, match="exists and is not an empty folder; name a new one"):
        export_rooms(out, {"train": 1}, SIZE, cache=cache)
