"""What a new user most likely gets wrong on a folder of their own: what the program says is what the page says it says.

`docs/when-something-goes-wrong.md` has the messages in tables, with cause and cure; `...` stands for any words.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diffusionmtl import files
from diffusionmtl.cli import main
from diffusionmtl.commands.train import _warn
from tests.cli.terminal import H, W
from tests.runs import tiny

PAGE = Path(__file__).resolve().parents[2] / "docs/when-something-goes-wrong.md"
ROW = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)


@dataclass(frozen=True)
class Desk:
    """A folder `my-data` that is all right, a run `runs/kitchen` and tiny settings, in the working folder."""

    patch: pytest.MonkeyPatch
    data: Path = Path("my-data")
    images: Path = Path("my-data/train/images")
    run: Path = Path("runs/kitchen")

    def labels(self, task: str) -> list[Path]:
        return sorted((self.data / "train" / task).iterdir())

    def train(self, *words: object) -> list[object]:
        return ["train", "--config", "tiny.yaml", "--data", self.data, "--labels", "full", "--out", "runs/new", *words]


@pytest.fixture
def desk(folder, settings, tiny_run, tmp_path, monkeypatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    folder.rename("my-data")
    Path("runs").mkdir()
    Path("runs/kitchen").symlink_to(tiny_run)
    return Desk(monkeypatch)


Mistake = Callable[[Desk], list[object]]
MISTAKES: dict[str, Mistake] = {}


def says(message: str) -> Callable[[Mistake], Mistake]:
    def noted(mistake: Mistake) -> Mistake:
        MISTAKES[message] = mistake
        return mistake

    return noted


@says("my-dta: no such folder; a data set is a folder with dataset.yaml and <split>/images. Did you mean 'my-data'?")
def folder_misspelt(desk):
    return [*desk.train(), "--data", "my-dta"]


@says("my-data/dataset.yaml: no such file; write it and name the classes. Guessed from the labels: tasks: {...}")
def not_described(desk):
    (desk.data / "dataset.yaml").unlink()
    return desk.train()


@says("my-data/train/dataset.yaml: no such file, and my-data/train looks like one split of a data set; name the ...")
def one_split(desk):
    return ["data", "inspect", desk.data / "train"]


@says("my-data/train/images: no images in it; put jpg, jpeg, png, webp, tif, tiff files there")
def no_images(desk):
    for path in desk.images.iterdir():
        path.rename(path.with_suffix(".heic"))
    return desk.train()


@says("my-data: no split 'train' (a folder train/images); it has: training, val. Did you mean 'training'? Rename ...")
def split_called_otherwise(desk):
    (desk.data / "train").rename(desk.data / "training")
    return desk.train()


@says("my-data/train/images/image 3.png: not a readable image (...); replace or remove it")
def broken_image(desk):
    image = desk.images / "image 3.png"
    image.write_bytes(image.read_bytes()[:90])
    return desk.train()


@says("my-data/train/images/image 3.png: permission denied; make it readable, with chmod u+r for instance")
def unreadable_image(desk):
    # Tests may run as somebody who may read everything.
    desk.patch.setattr(files.os, "access", lambda path, _: Path(path).name != "image 3.png")
    return desk.train()


@says("my-data: task 'semseg' has no label for any of 8 images; my-data/train/seg is no task of dataset.yaml: ...")
def task_folder_called_otherwise(desk):
    (desk.data / "train/semseg").rename(desk.data / "train/seg")
    return desk.train()


@says("my-data: task 'semseg' has no label for any of 8 images; ... has no image train/images/image 0_mask: ...")
def labels_named_otherwise(desk):
    for path in desk.labels("semseg"):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    return desk.train()


@says("my-data: task 'semseg' has no label ...image 0.jpg is not read, labels of this kind are ...: export it anew")
def labels_of_another_format(desk):
    for path in desk.labels("semseg"):
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()
    return desk.train()


@says("my-data: task 'semseg' has no label for any of 8 images; add files such as semseg/image 0.png or take ...")
def no_labels(desk):
    shutil.rmtree(desk.data / "train/semseg")
    return desk.train()


@says("my-data/train/semseg/image 0.png: a JPEG cannot hold labels, its numbers are approximate; save it as PNG")
def jpeg_in_disguise(desk):
    Image.new("L", (W, H)).save(desk.data / "train/semseg/image 0.png", format="JPEG")
    return desk.train()


@says("my-data/train/semseg/image 0.png: class index 7 but task 'semseg' has 4 classes (0 to 3, 255 = ignore); add ...")
def class_without_name(desk):
    Image.new("L", (W, H), 7).save(desk.data / "train/semseg/image 0.png")
    return desk.train()


@says("my-data/train/semseg/image 0.png: a segmentation needs one class index per pixel, found ...x3; save ...")
def colours_instead_of_classes(desk):
    Image.new("RGB", (W, H), (128, 64, 32)).save(desk.data / "train/semseg/image 0.png")
    return desk.train()


@says("  warning: task 'semseg': every known pixel is wall; a mask of 0 and 255 needs kind: saliency, ...")
def mask_of_0_and_255(desk):
    for path in desk.labels("semseg"):
        Image.fromarray(np.eye(H, W, dtype=np.uint8) * 255).save(path)
    return ["data", "inspect", desk.data]


@says("  warning: task 'edge': no pixel is set: values below 128 mean no, so 0 and 1 must be saved as 0 and 255")
def edges_of_0_and_1(desk):
    for path in desk.labels("edge"):
        Image.fromarray(np.eye(H, W, dtype=np.uint8)).save(path)
    return ["data", "inspect", desk.data]


@says("my-data/train/semseg/image 0.png: task 'semseg': the label is 24x24 and its image ... another aspect ratio; ...")
def label_of_another_shape(desk):
    Image.new("L", (H, H)).save(desk.data / "train/semseg/image 0.png")
    return desk.train()


@says("my-data/train/depth/image 0.npy: depth of 2500 m in task 'depth' (limit 1000 m): wrong unit? Set scale ...")
def depth_in_millimetres(desk):
    np.save(desk.data / "train/depth/image 0.npy", np.full((H, W), 2500.0))
    return desk.train()


@says("  warning: task 'depth': median depth of 0.04 m: wrong unit? .npy must be metres, and PNG value x scale")
def depth_in_8_bits(desk):
    for path in desk.labels("depth"):
        path.unlink()
        Image.new("L", (W, H), 40).save(path.with_suffix(".png"))
    return ["data", "inspect", desk.data]


@says("my-data: task 'depth': every label is unknown everywhere (the first is my-data/train/depth/image 0.npy), as ...")
def depth_all_zero(desk):
    for path in desk.labels("depth"):
        path.unlink()
        np.save(path.with_suffix(".npy"), np.zeros((H, W)))
    return desk.train()


@says("labels.txt, line 1: data set 'my-data' has no image 'image 99'. Did you mean '...'? Mend the line ...")
def partition_of_other_images(desk):
    Path("labels.txt").write_text("image 99\tdepth\n")
    return desk.train("--labels", "labels.txt")


@says("--labels label.txt: neither a file nor one of as-found, ... Did you mean 'labels.txt'?")
def partition_misspelt(desk):
    Path("labels.txt").write_text("image 1\tdepth\n")
    return desk.train("--labels", "label.txt")


@says("--tasks dept: data set 'my-data' has no such task. Did you mean 'depth'? Known: semseg, depth, ...")
def task_misspelt(desk):
    return desk.train("--tasks", "dept")


@says("...: no such option. Did you mean '--epochs'? (see diffusionmtl train --help)...")
def option_misspelt(desk):
    return desk.train("--epchs", 3)


@says("...: no such option. Did you mean '--epochs'? (see diffusionmtl train --help)...")
def option_cut_short(desk):
    return desk.train("--epoch", 3)


@says("photos: belongs to no option; name the one that it is for, --data photos for instance (see ...")
def option_forgotten(desk):
    return ["train", "photos", "--out", "runs/new"]


@says("my.yaml: unknown option 'epchs'. Did you mean 'epochs'? See diffusionmtl train --help")
def setting_misspelt(desk):
    Path("my.yaml").write_text("epchs: 3\n")
    return desk.train("--config", "my.yaml")


@says("--backbone resnet81: timm has no such network. Did you mean 'resnet18'?")
def backbone_misspelt(desk):
    return desk.train("--backbone", "resnet81")


@says("resnet.safetensors: does not fit --backbone test_efficientnet: ... weights missing or of another shape ...")
def weights_of_another_backbone(desk):
    save_file({"layer1.0.conv1.weight": torch.zeros(2)}, "resnet.safetensors")
    return desk.train("--backbone-weights", "resnet.safetensors")


@says("--batch 16: 16 images at once, but only 7 have a label and are not held out; lower --batch or --holdout, or ...")
def too_few_images(desk):
    return desk.train("--batch", 16)


@says("--out runs/kitchen: holds a run already; continue it with --resume or choose another folder")
def run_there_already(desk):
    return desk.train("--out", desk.run)


@says("--out my-data: exists and is not empty; name a new folder for this run")
def folder_in_use(desk):
    return desk.train("--out", desk.data)


@says("--epochs 9: the run in runs/kitchen was started with 2 and --resume keeps that; leave the option out or ...")
def resumed_otherwise(desk):
    return ["train", "--resume", "--out", desk.run, "--epochs", 9]


@says("runs/kitchn: no such run; give the folder that 'diffusionmtl train --out' wrote. Did you mean 'kitchen'?")
def run_misspelt(desk):
    return ["evaluate", "runs/kitchn"]


@says("my-data: not a run folder (no config.yaml); give the folder that 'diffusionmtl train --out' wrote")
def folder_that_is_no_run(desk):
    return ["predict", desk.data, desk.images, "--out", "answers"]


@says("data set 'my-data': task 'semseg' is segmentation with 4 channels, but the network learnt ...; evaluate on ...")
def other_classes(desk):
    return ["evaluate", desk.run, "--data", desk.data]


@says("phots: no such file or folder. Did you mean 'photos'?")
def photos_misspelt(desk):
    Path("photos").mkdir()
    return ["predict", desk.run, "phots", "--out", "answers"]


@says("photos: no image there; give files, folders or globs of .jpg, .jpeg, .png, .webp, .tif, .tiff, ...")
def no_photos(desk):
    Path("photos").mkdir()
    Path("photos/a.heic").touch()
    return ["predict", desk.run, "photos", "--out", "answers"]


@says("1 of 1 images could not be predicted: clip.mp4: videos need PyAV: pip install 'diffusionmtl[video]'")
def no_reader_of_videos(desk):
    Path("clip.mp4").write_bytes(b"pictures that move")
    desk.patch.setitem(__import__("sys").modules, "av", None)
    return ["predict", desk.run, "clip.mp4", "--out", "answers"]


@says("needs lightning, which is not installed: pip install 'diffusionmtl[train]'")
def without_the_extra(desk):
    missing = ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch")
    desk.patch.setattr("diffusionmtl.cli.settings_from_parsed", raising(missing))
    return desk.train()


@says("the GPU has not enough memory for this; try --checkpoint-activations true, or a smaller --batch or --size")
def gpu_full(desk):
    desk.patch.setattr("diffusionmtl.commands.train.train", raising(torch.OutOfMemoryError("CUDA out of memory.")))
    return desk.train()


@says("device cuda: ...; use cpu")
def no_gpu(desk):
    return ["evaluate", desk.run, "--device", "cuda" if not torch.cuda.is_available() else "cuda:99"]


@says("runs/new/config.yaml: No space left on device; make room there, or choose another place")
def disk_full(desk):
    full = OSError(28, "No space left on device", "runs/new/config.yaml")
    desk.patch.setattr("diffusionmtl.commands.train.train", raising(full))
    return desk.train()


def raising(error: Exception) -> Callable:
    def refuse(*_, **__):
        raise error

    return refuse


def matches(message: str, line: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, message.split("..."))), line) is not None


@pytest.mark.parametrize("message", MISTAKES, ids=lambda message: MISTAKES[message].__name__)
def test_a_mistake_is_told_as_the_page_says(desk, capsys, message):
    words = [str(word) for word in MISTAKES[message](desk)]
    before = sorted(Path().rglob("*"))
    code = main(words)
    out, err = capsys.readouterr()
    if message.startswith("  warning: "):
        assert any(matches(message, line) for line in out.splitlines()), out
    else:
        assert code == 2
        assert matches(f"diffusionmtl: {message}", err.rstrip("\n")), err
    assert sorted(Path().rglob("*")) == before or "answers" in words
    assert not Path("runs/new").exists()


def test_training_warns_of_somebody_s_own_data_alone(capsys):
    _warn(["task 'edge': no pixel is set"], tiny(data=("my-data",)))
    said = "warning: task 'edge': no pixel is set (look: diffusionmtl data inspect my-data)\n"
    assert capsys.readouterr().err == said
    _warn(["task 'edge': no pixel is set"], tiny(data=("rooms",)))
    assert capsys.readouterr().err == ""


def test_the_page_tells_them_all():
    told = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert told == [message.strip() for message in MISTAKES]
