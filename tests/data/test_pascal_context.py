"""PASCAL-Context, read from a miniature copy of its archive."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from scipy import ndimage
from skimage.morphology import thin as other_thin

from diffusionmtl.data.checks import check_samples
from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.data.partition import make_partition
from diffusionmtl.data.pascal_context import PART_CLASS, PascalContext, laplacian_edges, region_boundaries
from diffusionmtl.data.selected import SelectedTasks
from diffusionmtl.errors import UserError
from diffusionmtl.tasks.published import PASCAL_CONTEXT_CLASSES
from tests.data import miniatures as m
from tests.data.miniatures import read

TASKS = ("semseg", "human_parts", "sal", "normals", "edge")


@pytest.fixture
def root(tmp_path) -> Path:
    return m.pascal_context(tmp_path / "PASCALContext")


class TestLabels:
    def test_names_and_tasks(self, root):
        dataset = PascalContext.open(root, "train")
        assert dataset.names == m.IDS["train"] and tuple(task.name for task in dataset.tasks) == TASKS
        assert PascalContext.open(root.parent, "val").names == m.IDS["val"]
        assert all(dataset.annotated(i) == set(TASKS) for i in range(len(dataset)))
        check_samples(dataset, [dataset.annotated(i) for i in range(len(dataset))])

    def test_the_image_is_the_jpeg(self, root):
        dataset = PascalContext.open(root, "train")
        expected = np.asarray(Image.open(root / "JPEGImages" / "2008_000002.jpg"))
        assert np.array_equal(dataset.image(0).permute(1, 2, 0).numpy(), expected)

    @pytest.mark.parametrize("index", [0, 1])
    def test_classes_come_from_either_folder(self, root, index):
        label, valid = read(PascalContext.open(root, "train"), "semseg", index)
        assert [PASCAL_CONTEXT_CLASSES[i] for i in label[0, 5, [0, 10, 25]]] == ["background", "person", "tvmonitor"]
        assert not valid[0].any() and valid[1:].all()

    def test_voc_goes_before_context(self, root):
        m.write_png(root / "semseg" / "VOC12" / "2008_000007.png", np.full(m.SIZE, 7, np.uint8))
        assert (read(PascalContext.open(root, "train"), "semseg", 1)[0] == 7).all()

    def test_twenty_four_parts_become_six(self, root):
        label, valid = read(PascalContext.open(root, "train"), "human_parts")
        assert valid.all()
        at = {(3, 3): 1, (7, 3): 1, (10, 3): 2, (9, 8): 4, (13, 8): 4, (17, 3): 5, (21, 3): 6, (12, 22): 0, (0, 0): 0}
        assert {place: int(label[0][place]) for place in at} == at

    def test_later_parts_lie_over_earlier_ones(self, root):
        over = m.thing("person", 15, [m.part("torso", 0, 0, 10, 10), m.part("luarm", 5, 5, 10, 10)])
        m.write_anno(root / "human_parts" / "2008_000002.mat", "x", [over])
        label, _ = read(PascalContext.open(root, "train"), "human_parts")
        assert label[0, 4, 4] == 2 and label[0, 6, 6] == 3

    def test_every_part_of_a_person_has_its_class(self):
        assert len(PART_CLASS) == 24
        assert Counter(PART_CLASS.values()) == {1: 10, 2: 2, 3: 2, 4: 4, 5: 2, 6: 4}

    def test_without_people_parts_are_known_nowhere(self, root):
        label, valid = read(PascalContext.open(root, "train"), "human_parts", 1)
        assert label.shape == (1, *m.SIZE) and not valid.any()

    def test_a_person_without_parts_shows_none(self, root):
        m.write_anno(root / "human_parts" / "2008_000002.mat", "x", [m.STANDING_FAR_AWAY])
        assert not read(PascalContext.open(root, "train"), "human_parts")[1].any()

    def test_saliency_is_cut_at_one_half(self, root):
        label, valid = read(PascalContext.open(root, "train"), "sal")
        assert np.array_equal(label[0], m.rectangle(4, 4, 8, 8).astype(bool)) and valid.all()

    def test_normals_are_what_red_green_and_blue_say(self, root):
        dataset = PascalContext.open(root, "train")
        label, valid = read(dataset, "normals")
        np.testing.assert_allclose(label[:, 5, 20], [0, 0, 1], atol=0.01)
        np.testing.assert_allclose(label[:, 5, 5], [1, 0, 0], atol=0.01)
        assert not valid[:2, :2].any() and valid.sum() == valid.size - 4
        assert not dataset.normals_masked

    def test_normals_count_in_the_classes_that_both_files_name(self, root):
        m.write_normal_classes(root)
        dataset = PascalContext.open(root, "train")
        _, valid = read(dataset, "normals")
        expected = m.label_map() != 284
        expected[:2, :2] = False
        assert dataset.normals_masked and np.array_equal(valid, expected)

    def test_normals_without_the_class_files_are_said_to_count_everywhere(self, root):
        unmasked = PascalContext.open(root, "val")
        assert "nyu_classes.json" in unmasked.caveats[0] and "more pixels than in print" in unmasked.caveats[0]
        assert SelectedTasks(unmasked, ["sal"]).caveats == JoinedDataset([unmasked]).caveats == unmasked.caveats
        assert PascalContext.open(root, "val", ["sal"]).caveats == ()
        m.write_normal_classes(root)
        assert PascalContext.open(root, "val").caveats == ()

    def test_edges_of_training_and_of_the_benchmark(self, root):
        trained, valid = read(PascalContext.open(root, "train"), "edge")
        scored, _ = read(PascalContext.open(root, "val"), "edge")
        assert valid.all()
        labels = m.label_map().astype(np.int64)
        assert np.array_equal(trained[0], laplacian_edges(labels))
        assert np.array_equal(scored[0], region_boundaries(labels))
        for lines in (trained[0], scored[0]):
            assert lines[3, 14:18].sum() == 1 and lines[20, 14:18].sum() == 1 and lines[10:14, 25].sum() == 1
            assert not lines[:, :13].any()
        forced = PascalContext.open(root, "val", edges="laplacian")
        assert np.array_equal(read(forced, "edge")[0], trained)

    @pytest.mark.parametrize("seed", range(5))
    def test_edges_agree_with_other_peoples_tools(self, seed):
        rng = np.random.default_rng(seed)
        labels = np.kron(rng.integers(0, 460, (5, 6)), np.ones((7, 6), np.int64))
        bordered = np.pad(labels, 1, mode="reflect").astype(float)
        kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)
        response = ndimage.convolve(bordered, kernel)[1:-1, 1:-1]
        assert np.array_equal(laplacian_edges(labels), other_thin(np.abs(response) > 0))

    def test_a_label_of_another_size_is_fitted_to_its_image(self, root):
        small = np.zeros((m.SIZE[0] // 2, m.SIZE[1] // 2), np.uint8)
        small[:, 8:] = 255
        m.write_png(root / "sal_distill" / "2008_000002.png", small)
        label, _ = read(PascalContext.open(root, "train"), "sal")
        assert label.shape == (1, *m.SIZE) and label[0, :, 16:].all() and not label[0, :, :16].any()


class TestPeople:
    @pytest.mark.parametrize("listed", [True, False])
    def test_drawn_partitions_spend_no_choice_on_the_parts_of_nobody(self, tmp_path, listed):
        dataset = PascalContext.open(m.pascal_context(tmp_path, parts_list=listed), "train")
        assert [dataset.has_people(i) for i in range(3)] == [name in m.PEOPLE for name in dataset.names]
        seen = [make_partition(mode, dataset, seed).visible for mode in ("one", "random") for seed in range(30)]
        assert not any("human_parts" in visible["2008_000007"] for visible in seen)
        assert any("human_parts" in visible["2008_000002"] for visible in seen)
        assert {len(visible["2008_000007"]) for visible in seen} == {1, 2, 3}
        assert {len(visible["2008_000002"]) for visible in seen} == {1, 2, 3, 4}
        assert "human_parts" in make_partition("full", dataset, 0).visible["2008_000007"]

    def test_the_list_is_believed(self, root):
        (root / "human_parts" / "2008_000002.mat").write_bytes(b"unread")
        assert PascalContext.open(root, "train").has_people(0)

    def test_views_of_the_data_know_it_too(self, root):
        dataset = PascalContext.open(root, "train")
        chosen = SelectedTasks(dataset, ["human_parts", "sal"])
        assert chosen.informative(0) == {"human_parts", "sal"} and chosen.informative(1) == {"sal"}
        assert JoinedDataset([chosen, dataset]).informative(1) == {"sal"}


class TestBadInput:
    def test_a_folder_of_something_else(self, tmp_path):
        (tmp_path / "holiday").mkdir()
        with pytest.raises(UserError, match=r"expected JPEGImages, .*; found holiday\. Published by .*ATRC"):
            PascalContext.open(tmp_path, "train")
        with pytest.raises(UserError, match=r"found no such folder\. Published by"):
            PascalContext.open(tmp_path / "nowhere", "train")

    def test_another_split(self, root):
        with pytest.raises(UserError, match="no split 'test'; it has train and val"):
            PascalContext.open(root, "test")

    @pytest.mark.parametrize(
        ("file", "says"),
        [
            ("JPEGImages/2008_000007.jpg", "the image of"),
            ("semseg/pascal-context/2008_000007.png", "the label of task 'semseg' of"),
            ("human_parts/2008_000007.mat", "the label of task 'human_parts' of"),
            ("sal_distill/2008_000007.png", "the label of task 'sal' of"),
            ("normals_distill/2008_000007.png", "the label of task 'normals' of"),
            ("pascal-context/trainval/2008_000007.mat", "the label of task 'edge' of"),
        ],
    )
    def test_a_file_is_missing_in_the_middle(self, root, file, says):
        (root / file).unlink()
        with pytest.raises(UserError, match=rf"{file}: no such file, {says}.*\(1 of 3 are missing\); unpack") as error:
            PascalContext.open(root, "train")
        assert "\n" not in str(error.value)
        assert len(PascalContext.open(root, "val")) == 2

    def test_files_of_tasks_that_nobody_asks_for_may_be_missing(self, root):
        for folder in ("human_parts", "normals_distill", "pascal-context"):
            shutil.rmtree(root / folder)
        dataset = PascalContext.open(root, "train", tasks=["semseg", "sal"])
        assert [task.name for task in dataset.tasks] == ["semseg", "sal"]

    def test_the_class_maps_that_mask_normals_are_missing(self, root):
        m.write_normal_classes(root)
        (root / "pascal-context" / "trainval" / "2008_000007.mat").unlink()
        with pytest.raises(UserError, match=r"2008_000007\.mat: no such file, the class map that masks the normals"):
            PascalContext.open(root, "train", tasks=["normals"])

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("2008_000002\n../secret\n", "line 2: '../secret' is no image name"),
            ("2008_000002\n2008_000002\n", "line 2: image '2008_000002' stands twice"),
            ("\n\n", "lists no image"),
        ],
    )
    def test_a_list_of_something_else(self, root, text, says):
        (root / "ImageSets" / "Context" / "train.txt").write_text(text)
        with pytest.raises(UserError, match=rf"train\.txt.*{says}"):
            PascalContext.open(root, "train")

    def test_no_list(self, root):
        (root / "ImageSets" / "Context" / "train.txt").unlink()
        with pytest.raises(UserError, match=r"train\.txt: no such file; it lists"):
            PascalContext.open(root, "train")

    def test_a_class_that_does_not_exist(self, root):
        m.write_png(root / "semseg" / "VOC12" / "2008_000002.png", np.full(m.SIZE, 40, np.uint8))
        with pytest.raises(UserError, match=r"2008_000002\.png: class index 40"):
            PascalContext.open(root, "train").label(0, "semseg")

    def test_normals_without_colour(self, root):
        m.write_png(root / "normals_distill" / "2008_000002.png", np.full(m.SIZE, 40, np.uint8))
        with pytest.raises(UserError, match=r"2008_000002\.png: normals need three numbers"):
            PascalContext.open(root, "train").label(0, "normals")

    def test_saliency_in_colour(self, root):
        m.write_png(
            root / "sal_distill" / "2008_000002.png",
            np.arange(m.SIZE[0] * m.SIZE[1] * 3, dtype=np.uint8).reshape(*m.SIZE, 3),
        )
        with pytest.raises(UserError, match=r"2008_000002\.png: a yes-or-no label needs one whole number"):
            PascalContext.open(root, "train").label(0, "sal")

    def test_a_label_of_another_picture(self, root):
        m.write_png(root / "sal_distill" / "2008_000002.png", np.zeros((m.SIZE[0], m.SIZE[1] + 30), np.uint8))
        with pytest.raises(
            UserError, match=r"task 'sal': the label is 24x62 and its image 24x32 \(height x width\), another"
        ):
            PascalContext.open(root, "train").label(0, "sal")

    @pytest.mark.parametrize(
        ("variables", "says"),
        [
            ({"other": np.zeros((3, 3))}, "has no variable 'anno'"),
            ({"anno": np.zeros((3, 3))}, "anno has 9 elements"),
            ({"anno": np.zeros((1, 1))}, "anno has no field 'objects'"),
            ({"anno": {"objects": np.zeros((2, 2))}}, "objects is .*, no struct"),
            ({"anno": {"objects": {"class": "person"}}}, "objects has no field 'class_ind'"),
            ({"anno": {"objects": {"class_ind": "fifteen"}}}, "'class_ind' is no number"),
            ({"anno": {"objects": {"class_ind": 15.0, "parts": {"mask": 1.0}}}}, "parts has no field 'part_name'"),
            ({"anno": {"objects": {"class_ind": 15.0, "parts": {"part_name": 3.0}}}}, "'part_name' is no text"),
            (
                {"anno": {"objects": {"class_ind": 15.0, "parts": {"part_name": "head", "mask": "head"}}}},
                "'mask' is no map",
            ),
        ],
    )
    def test_parts_in_another_struct(self, root, variables, says):
        m.write_mat(root / "human_parts" / "2008_000002.mat", **variables)
        with pytest.raises(UserError, match=rf"2008_000002\.mat: .*{says}") as error:
            PascalContext.open(root, "train").label(0, "human_parts")
        assert "\n" not in str(error.value)

    def test_a_part_that_no_person_has(self, root):
        wrong = m.thing("person", 15, [m.part("haed", 0, 0, 3, 3)])
        m.write_anno(root / "human_parts" / "2008_000002.mat", "x", [wrong])
        with pytest.raises(UserError, match=r"a person has no part 'haed'\. Did you mean 'head'"):
            PascalContext.open(root, "train").label(0, "human_parts")

    def test_parts_of_several_sizes(self, root):
        odd = {"part_name": "torso", "mask": np.ones((3, 3), np.uint8)}
        things = [{"class": "person", "class_ind": 15, "parts": m.structs([m.part("head", 0, 0, 3, 3), odd])}]
        m.write_anno(root / "human_parts" / "2008_000002.mat", "x", things)
        with pytest.raises(UserError, match="the masks of its parts differ in size"):
            PascalContext.open(root, "train").label(0, "human_parts")

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            (np.full(m.SIZE, 460), "values outside 0 to 459"),
            (np.full(m.SIZE, 0.5), "values outside"),
            (np.zeros((2, 2, 2)), "3 dimensions"),
            (np.array(["a"]), "expected whole numbers"),
        ],
    )
    def test_a_class_map_of_another_kind(self, root, labels, says):
        m.write_mat(root / "pascal-context" / "trainval" / "2008_000002.mat", LabelMap=labels)
        with pytest.raises(UserError, match=rf"2008_000002\.mat: .*{says}"):
            PascalContext.open(root, "train").label(0, "edge")

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"MATLAB 5.0" + bytes(200)])
    def test_no_mat_file_at_all(self, root, content):
        (root / "human_parts" / "2008_000002.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"2008_000002\.mat: not a readable \.mat file|has no variable 'anno'"):
            PascalContext.open(root, "train").label(0, "human_parts")

    def test_a_truncated_mat_file(self, root):
        path = root / "human_parts" / "2008_000002.mat"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(UserError, match=r"2008_000002\.mat: not a readable \.mat file"):
            PascalContext.open(root, "train").label(0, "human_parts")

    @pytest.mark.parametrize("text", ["[1, 2]", '{"2008_000002": 15}', "{", '{"2008_000002": ["person"]}'])
    def test_a_list_of_categories_of_another_kind(self, root, text):
        (root / "ImageSets" / "Parts" / "train.txt").write_text(text)
        with pytest.raises(UserError, match=r"Parts/train\.txt: (expected JSON|not readable as JSON)"):
            PascalContext.open(root, "train")

    def test_classes_of_normals_from_different_releases(self, root):
        m.write_normal_classes(root, count=160)
        with pytest.raises(UserError, match=r"nyu_classes\.json: shares 161 classes .*, the published pair 170"):
            PascalContext.open(root, "train")
        (root / "context_classes.json").write_text(json.dumps(["a", "b"]))
        with pytest.raises(UserError, match=r"context_classes\.json: expected JSON, a number per class"):
            PascalContext.open(root, "train")


def test_the_miniature_is_what_matlab_would_have_saved(root):
    """Struct arrays come back as the reader's source describes them."""
    anno = scipy.io.loadmat(root / "human_parts" / "2008_000002.mat")["anno"]
    assert anno.shape == (1, 1) and anno.dtype.names == ("imname", "objects")
    objects = anno[0, 0]["objects"]
    assert objects.shape == (1, 2) and objects.dtype.names == ("class", "class_ind", "mask", "parts")
    assert objects[0, 1]["class_ind"].tolist() == [[15]] and objects[0, 1]["parts"].shape == (1, 7)
    assert torch.is_tensor(PascalContext.open(root, "train").image(0))
