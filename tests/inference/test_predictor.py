"""A predictor answers for any image, the same for the same seed, and says how sure it is."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import diffusionmtl as dm
from diffusionmtl.build import build_network
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.description import write_dataset_yaml
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.inference.predictor import Predictor, to_image
from diffusionmtl.seeds import derive_seed
from tests.toy import TASKS

SMALL = dict(backbone="test_efficientnet", width=16, blocks=1, token_stride=2, noise_start=0.3, noise_end=0.5)
# What the spread of draws can be at most: half the probability mass for two-class tasks, 180 degrees, a mass of one.
LARGEST_SPREAD = {"semseg": 1.0, "depth": float("inf"), "normals": 180.0, "saliency": 0.5, "edge": 0.5}


def network(method: str = "feature", seed: int = 0):
    return build_network(TASKS, changed(Settings(), **SMALL, method=method).network, seed)


@pytest.fixture(scope="module", params=["feature", "prediction", "multitask"])
def predictor(request):
    return Predictor(network(request.param), (32, 48))


@pytest.fixture(scope="module")
def diffusing():
    return Predictor(network(), None)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(one: dm.Prediction, other: dm.Prediction) -> None:
    for name in one:
        assert torch.equal(one[name].estimate, other[name].estimate), name
        for spread, also in (
            (one[name].uncertainty, other[name].uncertainty),
            (one[name].initial, other[name].initial),
        ):
            assert (spread is None) == (also is None)
            assert spread is None or torch.equal(spread, also), name


@pytest.mark.parametrize("size", [(7, 9), (33, 65), (1, 1), (1, 40), (64, 5)])
@pytest.mark.parametrize("fitted", [True, False])
def test_an_image_of_any_size_is_answered_at_its_own(size, fitted):
    prediction = Predictor(network(), (32, 48) if fitted else None)(picture(*size), samples=2)
    assert list(prediction) == [task.name for task in TASKS]
    for task in TASKS:
        answer = prediction[task.name]
        assert answer.value.shape[-2:] == answer.estimate.shape[-2:] == size
        assert answer.uncertainty.shape == answer.initial.shape[-2:] == size
        assert answer.to_numpy().shape == (size if task.kind != "normals" else (*size, 3))
        assert bool(answer.estimate.isfinite().all())


def test_one_seed_is_one_answer_and_another_seed_another(predictor):
    image = picture(20, 30)
    one = predictor(image, samples=2, seed=7)
    assert_same(one, predictor(image, samples=2, seed=7))
    other = predictor(image, samples=2, seed=8)
    refined = predictor.network.refiner is not None
    for name in one:
        assert torch.equal(one[name].estimate, other[name].estimate) != refined, name


def test_a_predictor_leaves_the_random_state_alone(diffusing):
    state = torch.get_rng_state()
    diffusing(picture(8, 8), samples=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_prediction_is_the_mean_of_the_draws_and_the_uncertainty_their_spread(diffusing):
    image = torch.from_numpy(picture(16, 24)).permute(2, 0, 1)[None]
    found = diffusing.estimate(image, [0], 3, 5)
    # The draws one by one: sample i of seed 5 has noise of its own, whatever the number of samples.
    with torch.inference_mode():
        outputs = [diffusing.network(image, SeededNoise(derive_seed(5, "sample", i), [0])) for i in range(3)]
    for task in TASKS:
        draws = torch.stack([task.activate(o.canvas.to_image(o.final[task.name])) for o in outputs])
        torch.testing.assert_close(found[task.name].mean, draws.mean(dim=0))
        torch.testing.assert_close(found[task.name].spread, task.spread(draws))
        assert not torch.equal(draws[0], draws[1])


def test_uncertainty_is_in_range_and_absent_for_one_draw(predictor):
    image = picture(20, 30)
    for samples in (1, 4):
        prediction = predictor(image, samples=samples)
        for name, answer in prediction.items():
            if samples == 1 or predictor.network.refiner is None:
                assert answer.uncertainty is None
                assert answer.draw_uncertainty() is None
                continue
            assert float(answer.uncertainty.min()) >= 0
            assert float(answer.uncertainty.max()) <= LARGEST_SPREAD[name]
            assert float(answer.uncertainty.max()) > 0
            assert answer.draw_uncertainty().size == (30, 20)


def test_more_draws_do_not_change_the_first(diffusing):
    """The draws of 2 samples are among those of 4: their means differ by what the other two say."""
    image = torch.from_numpy(picture(16, 16)).permute(2, 0, 1)[None]
    two, four = (diffusing.estimate(image, [0], n, 0)["depth"].mean for n in (2, 4))
    three = diffusing.estimate(image, [0], 3, 0)["depth"].mean
    third, fourth = 3 * three - 2 * two, 4 * four - 3 * three
    torch.testing.assert_close(four, (2 * two + third + fourth) / 4)
    assert not torch.equal(two, four)


def test_an_answer_depends_on_its_own_key_only(predictor):
    images = torch.from_numpy(np.stack([picture(16, 24, seed) for seed in range(3)])).permute(0, 3, 1, 2)
    together = predictor.estimate(images, [4, 9, 2], 2, 0)
    turned = predictor.estimate(images[[2, 0]], [2, 4], 2, 0)
    for row, key, image in zip(range(3), (4, 9, 2), images, strict=True):
        alone = predictor.estimate(image[None], [key], 2, 0)
        for name in alone:
            torch.testing.assert_close(together[name].mean[row], alone[name].mean[0], atol=1e-5, rtol=1e-4)
    for name in turned:
        torch.testing.assert_close(turned[name].mean[0], together[name].mean[2], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(turned[name].mean[1], together[name].mean[0], atol=1e-5, rtol=1e-4)


def test_every_form_of_an_image_is_the_same_image(diffusing, tmp_path):
    array = picture(11, 13)
    path = tmp_path / "photo.png"
    Image.fromarray(array).save(path)
    forms = [
        array,
        Image.fromarray(array),
        path,
        str(path),
        torch.from_numpy(array).permute(2, 0, 1),
        torch.from_numpy(array).permute(2, 0, 1).float() / 255,
        (array / 255).astype(np.float64),
        np.asfortranarray(array),
        np.flip(np.flip(array, 0).copy(), 0),
    ]
    expected = diffusing(array)
    for form in forms:
        assert torch.equal(to_image(form), torch.from_numpy(array).permute(2, 0, 1))
    assert_same(diffusing(path), expected)
    assert_same(diffusing(forms[4]), expected)


def test_grey_and_transparent_images():
    grey = picture(5, 6)[..., 0]
    assert torch.equal(to_image(grey), torch.from_numpy(np.stack([grey] * 3)))
    assert torch.equal(to_image(Image.fromarray(grey)), to_image(grey))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert torch.equal(to_image(deep), to_image(grey))
    transparent = np.dstack([picture(5, 6), grey])
    assert torch.equal(to_image(Image.fromarray(transparent)), to_image(transparent[..., :3]))


def test_an_image_lent_is_not_kept(diffusing):
    array = picture(6, 6)
    prediction = diffusing(array)
    before = prediction.image.clone()
    array[:] = 0
    assert torch.equal(prediction.image, before)
    array.flags.writeable = False
    to_image(array)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 3), np.int64), ValueError),
        (np.full((4, 4, 3), 2.0), ValueError),
        (np.full((4, 4, 3), np.nan), ValueError),
        (np.zeros((2, 3, 4, 4), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (torch.zeros(4, 4, 3), ValueError),
        (torch.zeros(1, 3, 4, 4), ValueError),
        (Path("nowhere.png"), UserError),
        ("nowhere.png", UserError),
    ],
)
def test_what_is_no_image_is_refused(diffusing, image, error):
    with pytest.raises(error) as raised:
        diffusing(image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([picture(4, 4), picture(5, 4)], "one image at a time; loop over them, or use diffusionmtl predict"),
        ([Image.fromarray(picture(4, 4))], "one image at a time"),
        (["a.png", "b.png"], "one image at a time"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one image at a time"),
        (torch.zeros(2, 3, 4, 4), "one image at a time"),
        (b"\x89PNG", r"not bytes; open it with PIL: Image.open\(io.BytesIO\(data\)\)"),
        (io.BytesIO(b"\x89PNG"), r"not BytesIO; open it with PIL: Image.open\(file\)"),
    ],
)
def test_what_is_no_single_image_is_told_how_to_go_on(image, words):
    with pytest.raises(ValueError, match=words):
        to_image(image)


def test_a_predictor_says_what_it_answers(predictor, diffusing):
    assert repr(predictor) == f"Predictor({', '.join(t.name for t in TASKS)}; images fitted into 32x48; on cpu)"
    assert "any size" in repr(diffusing)


@pytest.mark.parametrize("samples", [0, -1])
def test_there_is_at_least_one_draw(diffusing, samples):
    with pytest.raises(ValueError, match="samples"):
        diffusing(picture(8, 8), samples=samples)


def test_what_is_saved_is_a_data_set(diffusing, tmp_path):
    write_dataset_yaml(tmp_path, TASKS)
    predictions = {}
    for i, size in enumerate([(9, 12), (10, 7)]):
        stem = f"bild {i}"
        predictions[stem] = diffusing(picture(*size, seed=i), samples=2)
        written = predictions[stem].save(tmp_path / "val", stem)
        assert written[-1] == tmp_path / "val/pictures" / f"{stem}.png"
        assert all(path.is_file() for path in written)
        (tmp_path / "val/images").mkdir(exist_ok=True)
        Image.fromarray(picture(*size, seed=i)).save(tmp_path / "val/images" / f"{stem}.png")
    dataset = FolderDataset.open(tmp_path, "val")
    assert dataset.tasks == TASKS
    for index, name in enumerate(dataset.names):
        assert dataset.annotated(index) == {task.name for task in TASKS}
        for task in TASKS:
            label, valid = dataset.label(index, task.name)
            value = predictions[name][task.name].value
            assert bool(valid.all())
            expected = value >= 0.5 if task.kind in ("saliency", "boundary") else value
            tolerance = 0.01 if task.kind == "normals" else 1e-6
            torch.testing.assert_close(torch.as_tensor(label).float(), expected.float(), atol=tolerance, rtol=1e-3)
        spread = np.load(tmp_path / "val/uncertainty/depth" / f"{name}.npy")
        assert np.array_equal(spread, predictions[name]["depth"].uncertainty.numpy())


@pytest.mark.parametrize("stem", ["../x", "a/../../x", "/tmp/x", "", ".", "a//b", "..\\x", "a\nb", "x" * 300])
def test_nothing_is_saved_outside_the_folder(diffusing, tmp_path, stem):
    """`../x` would be one file for every task, beside the folder."""
    with pytest.raises(UserError, match="stem .* name of the image") as raised:
        diffusing(picture(4, 4)).save(tmp_path / "answers", stem)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_stem_may_name_subfolders(diffusing, tmp_path):
    written = diffusing(picture(4, 4)).save(tmp_path, "kitchen/a..b.c")
    assert tmp_path / "depth/kitchen/a..b.c.npy" in written and all(path.is_file() for path in written)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_held_sideways_is_turned_as_its_file_is(tmp_path, orientation):
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = orientation
    Image.fromarray(picture(5, 7)).save(tmp_path / "photo.png", exif=tag)
    opened = Image.open(tmp_path / "photo.png")
    assert torch.equal(to_image(opened), to_image(tmp_path / "photo.png"))
    assert to_image(opened).shape == ((3, 7, 5) if orientation > 4 else (3, 5, 7))


def test_steps_end_in_the_prediction(diffusing):
    image = picture(12, 20)
    steps = diffusing.steps(image, seed=3)
    assert len(steps) == diffusing.network.refiner.schedule.steps
    assert list(steps[0]) == [task.name for task in TASKS]
    prediction = diffusing(image, seed=3)
    for task in TASKS:
        torch.testing.assert_close(steps[-1][task.name], prediction[task.name].value)
    assert not torch.equal(steps[0]["depth"], steps[-1]["depth"])
    assert Predictor(network("multitask"), None).steps(image) == []


def test_pictures_of_a_prediction(diffusing):
    prediction = diffusing(picture(12, 20), samples=2)
    two_rows, one_row = prediction.draw(), diffusing(picture(12, 20)).draw()
    assert two_rows.width == one_row.width == 8 * 20 * (1 + len(TASKS)), "20 cells are enlarged to what a name needs"
    assert one_row.height > 8 * 12 and two_rows.height >= one_row.height
    assert prediction["depth"]._repr_png_().startswith(b"\x89PNG")
    assert prediction._repr_png_().startswith(b"\x89PNG")
    assert prediction["depth"].draw_initial().size == (20, 12)
    assert Predictor(network("multitask"), None)(picture(4, 4))["depth"].draw_initial() is None


def test_the_public_face(tiny_run):
    """As the README says it."""
    predictor = dm.load(tiny_run)
    assert isinstance(predictor, dm.Predictor)
    prediction = predictor(picture(40, 50), samples=2)
    assert isinstance(prediction, dm.Prediction)
    assert isinstance(prediction["depth"], dm.TaskPrediction)
    with pytest.raises(UserError, match="checkpoint 'first': say last or best"):
        dm.load(tiny_run, checkpoint="first")
    with pytest.raises(UserError, match="^device nix: .*; use cpu"):
        dm.load(tiny_run, device="nix")
    assert_same(prediction, dm.load(tiny_run / "checkpoints/last.safetensors")(picture(40, 50), samples=2))
    assert not predictor.network.training
    fresh = dm.create("feature", tasks=[dm.SemanticSegmentation("semseg", ("a", "b")), dm.Depth("depth")], **SMALL)
    assert isinstance(fresh, torch.nn.Module)
    with pytest.raises(UserError, match="unknown setting 'widht'"):
        dm.create("feature", tasks=[dm.Depth("depth")], widht=3)
    with pytest.raises(UserError, match="task set is empty"):
        dm.create("feature", tasks=[], **SMALL)
