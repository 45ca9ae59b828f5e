"""Every reader of files that nobody vouches for, with a few good files of its kind to start from.

A target reads one file, and raises nothing but `UserError`. Seeds are made here, from numbers, not kept.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from diffusionmtl import files
from diffusionmtl.commands.cell import read_record
from diffusionmtl.commands.finished import FOLDER, Finished
from diffusionmtl.config import Settings, settings_from_flat
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.data.matlab import read_label_map, read_person_parts
from diffusionmtl.data.partition import Partition
from diffusionmtl.data.published_files import read_names
from diffusionmtl.data.published_partitions import read_published_partition
from diffusionmtl.data.shards import ShardsDataset
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import read_calibration
from diffusionmtl.inference.per_image import load_per_image
from diffusionmtl.models.pretrained import read_network, read_plain_checkpoint, read_tensors
from diffusionmtl.models.published import published_settings, published_tasks, read_published
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.log import read_log, read_metrics
from diffusionmtl.report.provenance import read_partition
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from diffusionmtl.tasks import Boundary, Depth, SemanticSegmentation, SurfaceNormals
from diffusionmtl.training.keeping import AtomicCheckpoints, checkpoint_to_resume
from tests.toy import ToyDataset

H, W = 6, 8
YAML = (
    "tasks:\n  semseg: {kind: segmentation, classes: [road, car], ignore: 255}\n  depth: {kind: depth, scale: 0.001}\n"
)


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the target.
        place: below a scratch folder, where the file to read is put.
        seeds: the bytes of good files.
        read: reads it, given the scratch folder.
        words: what is worth putting into such a file.
        form: `png`, `tar`, `zip` or nothing: how what was changed is made to look whole again.
    """

    name: str
    place: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], None]
    words: tuple[bytes, ...] = ()
    form: str = ""


def attempt(target: Target, folder: Path, content: bytes) -> bool:
    """Read these bytes; whether they were taken. Anything but `UserError` passes through.

    A message must be one line that can be printed.
    """
    path = folder / target.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        target.read(folder)
    except UserError as error:
        text = str(error)
        if "\n" in text or not text.isprintable():
            raise AssertionError(f"not one printable line: {text!r}") from error
        return False
    return True


def _each(*calls: Callable[[], object]) -> None:
    """All of them, though one refuses; refused is what all refuse."""
    refused = []
    for call in calls:
        try:
            call()
        except UserError as error:
            refused.append(error)
    if len(refused) == len(calls):
        raise refused[-1]


def _picture(array: np.ndarray, form: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format=form, **options)
    return stream.getvalue()


def _colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    forms = [("PNG", {}), ("JPEG", {"exif": exif}), ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
    wide = np.zeros((1, 16_000), np.uint8)
    return [*(_picture(_colours(), form, **options) for form, options in forms), _picture(wide, "PNG")]


def label_pictures() -> list[bytes]:
    index = np.arange(H * W, dtype=np.uint8).reshape(H, W) % 2
    palette = Image.fromarray(index).convert("P")
    stream = io.BytesIO()
    palette.save(stream, format="PNG")
    deep = index.astype(np.uint16) * 1000
    return [_picture(index, "PNG"), stream.getvalue(), _picture(deep, "PNG"), _picture(deep, "TIFF")]


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def arrays() -> list[bytes]:
    depth = np.linspace(0, 5, H * W).reshape(H, W)
    kinds = [depth, depth.astype(">f4"), depth.astype(np.float16), np.array({"a": 1}, dtype=object)]
    return [_npy(kind) for kind in (*kinds, np.tile([0.0, 0, 1], (H, W, 1)), np.zeros((H, W), np.int64))]


def annotations() -> list[bytes]:
    mask = np.eye(H, W, dtype=np.uint8)
    parts = np.zeros((1, 2), dtype=[("part_name", object), ("mask", object)])
    parts[0, 0], parts[0, 1] = ("head", mask), ("torso", mask)
    person = np.zeros((1, 1), dtype=[("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    person[0, 0] = ("person", 15, mask, parts)
    found = []
    for content in ({"LabelMap": np.arange(H * W, dtype=np.uint16).reshape(H, W)}, {"anno": {"objects": person}}):
        for packed in (False, True):
            stream = io.BytesIO()
            scipy.io.savemat(stream, content, do_compression=packed)
            found.append(stream.getvalue())
    return found


def described() -> list[bytes]:
    return [
        YAML.encode(),
        b"tasks:\n  a: {kind: normals, frame: opencv}\n  b:\n    kind: boundary\n    tolerance: 0.01\n",
    ]


def configured() -> list[bytes]:
    flat = Settings().flat()
    return [yaml.safe_dump(flat).encode(), b"epochs: 3\nsize: [96, 128]\ntask_weights: {depth: 1e-3}\n"]


def partitions() -> list[bytes]:
    return [b"# made by hand\nimage 0\tdepth\tsemseg\nimage 1\r\nimage 2\tedge\n", b"image 3\tnormals\n"]


def image_lists() -> list[bytes]:
    return [b"image 0\nimage 2\n", b"image 3\r\n"]


def _torch(content: object, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def published_partitions() -> list[bytes]:
    lists = {"semseg": ["2008_000001", "2008_000002"], "normals": ["2008_000003"]}
    masks = {np.str_("2008_000001"): [1, 0, 0, 1, 0]}
    weights = {"labels_weights": torch.tensor([[1.0, 0, 0], [0, 1, 1]])}
    old = _torch(weights, _use_new_zipfile_serialization=False)
    return [
        _npy(np.array(lists, dtype=object)),
        _npy(np.array(masks, dtype=object)),
        _torch(weights),
        old,
        _torch(masks),
    ]


def shards() -> list[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        label = _picture(np.zeros((H, W), np.uint8), "PNG")
        members = {
            "a.png": _picture(_colours(), "PNG"),
            "a.semseg.png": label,
            "a.depth.npy": _npy(np.ones((H, W), np.float32)),
            "folder é/" + "b" * 120 + ".png": _picture(_colours(), "PNG"),
        }
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [stream.getvalue()]


def _read_shards(folder: Path) -> None:
    (folder / "shards/dataset.yaml").write_text(YAML)
    dataset = ShardsDataset.open(folder / "shards", "train", max_pixels=1_000_000)
    calls = [lambda i=i: dataset.image(i) for i in range(min(len(dataset), 3))]
    for i in range(min(len(dataset), 3)):
        calls += [lambda i=i, t=t: dataset.label(i, t) for t in sorted(dataset.annotated(i))]
    _each(*calls)


def _weights() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.zeros(4, 3, 1, 1), "norm.bias": torch.ones(4), "count": torch.tensor(3)}


def networks() -> list[bytes]:
    said = {**Settings().flat(), "task_set": {"depth": {"kind": "depth"}}, "progress": {"epoch": 1}}
    return [save(_weights(), metadata={"diffusionmtl": json.dumps(said)}), save(_weights())]


def checkpoints() -> list[bytes]:
    full = {"state_dict": _weights(), "optimizer_states": [{"lr": 0.1}], "epoch": 3, "global_step": 7}
    resnet = {
        f"backbone.layer{stage}.{block}.conv1.weight": torch.zeros(1) for stage in (1, 2, 3, 4) for block in (0, 1)
    }
    published = {
        **resnet,
        "backbone_embed.weight": torch.zeros(4, 8, 1, 1),
        "preliminary_head.depth.0.weight": torch.zeros(1, 4, 1, 1),
        "diffusion_model.denoiser.task_heads.depth.1.weight": torch.zeros(4, 4, 1, 1),
        "diffusion_model.betas": torch.tensor([0.001, 0.01]),
    }
    published = {f"module.{key}": value for key, value in published.items()}
    old = _torch(full, _use_new_zipfile_serialization=False)
    return [_torch(full), old, _torch({"model": published, "epoch": 1, "iter_count": 2})]


def _read_checkpoint(folder: Path) -> None:
    path = folder / "weights.pth"

    def published() -> None:
        found = read_published(path)
        published_tasks(found)
        Settings(network=published_settings(found))

    _each(lambda: read_plain_checkpoint(path), lambda: read_tensors(path), published)


def _read_resumed(folder: Path) -> None:
    checkpoint_to_resume(folder / "resume")
    AtomicCheckpoints().load_checkpoint(folder / "resume" / LAST_CHECKPOINT)


def _read_network(folder: Path) -> None:
    from diffusionmtl.build import restore_run

    _, description = read_network(folder / "weights.safetensors")
    restore_run(description, "weights.safetensors")


def per_image() -> list[bytes]:
    kept = {"final/depth/images": np.arange(3), "final/depth/statistics": np.ones((3, 2))}
    found = []
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        write(stream, **kept)
        found.append(stream.getvalue())
    return found


def calibrations() -> list[bytes]:
    tasks = {"semseg": {"temperature": 1.2, "shift": 0.0}, "depth": {"scale": 2.0, "floor": 0.1}}
    return [json.dumps({"format": 1, "weights": "ab", "samples": 4, "noise_scale": 1.0, "tasks": tasks}).encode()]


def metrics() -> list[bytes]:
    figures = {"depth": {"RMSE@pooled": 1.0, "absErr@pooled": 0.5}}
    said = {"format": 1, "data": ["rooms"], "split": "val", "samples": 1, "seed": 0, "checkpoint": "last"}
    return [json.dumps({**said, "images": {"depth": 3}, "final": figures, "initial": {}}).encode()]


def logs() -> list[bytes]:
    return [b"epoch,step,train/total,dev/total\n0,9,1.5,\n0,19,1.2,nan\n1,29,0.9,1e3\n"]


def records() -> list[bytes]:
    scoring = {"split": "val", "samples": 1, "checkpoint": "last"}
    said = {
        "folder": "runs/one",
        "asked": {"settings": {"epochs": 2}, "scoring": scoring},
        "outcome": {"state": "done"},
    }
    return [json.dumps(said).encode()]


def _read_record(folder: Path) -> None:
    cell, _ = read_record(folder / "compared/cells/one/a.json")
    if not cell.folder.resolve().is_relative_to((folder / "compared").resolve()):
        raise AssertionError(f"a run outside the comparison: {cell.folder}")


def predicted() -> list[bytes]:
    said = {"path": "/a.png", "content": "c", "settings": "s", "files": ["images/a.png", "depth/a.npy"]}
    return [json.dumps(said).encode()]


def _read_predicted(folder: Path) -> None:
    for file in Finished(folder / "out", "s").files("a", "c") or ():
        if not file.resolve().is_relative_to((folder / "out").resolve()):
            raise AssertionError(f"a file outside the folder: {file}")


def videos() -> list[bytes]:
    import av

    found = []
    for form, codec in (("mp4", "mpeg4"), ("matroska", "mjpeg"), ("avi", "mpeg4")):
        stream = io.BytesIO()
        with av.open(stream, "w", format=form) as container:
            track = container.add_stream(codec, rate=5)
            track.width, track.height = 32, 32
            track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for level in range(3):
                picture = Image.fromarray(np.full((32, 32, 3), 60 * level, np.uint8))
                container.mux(track.encode(av.VideoFrame.from_image(picture)))
            container.mux(track.encode())
        found.append(stream.getvalue())
    return found


def _read_video(folder: Path) -> None:
    from diffusionmtl.inference.video import Video

    with Video(folder / "clip.mp4", max_pixels=1_000_000) as clip:
        for number, _ in clip.frames():
            if number >= 5:
                break


_TOY = ToyDataset(4)
_CLASSES = SemanticSegmentation("semseg", classes=("road", "car"))
_TEXT = (b"..", b"/etc/passwd", b"\x00", b"\xff", b"9" * 5000, b"1e999", b"-1", b"\xf0\x9f\x98\x80", b"\x1b[31m")
_TAGS = (b"!!python/name:os.system", b"!!binary |", b"!!timestamp x", b"!!bool x", b"!!int ''")
_YAML_WORDS = (
    *_TEXT,
    *_TAGS,
    *b"&a |*a|[|{|? |<<: |2001-99-99|1:2:3.5|0b_|.nan|- |kind: |null".split(b"|"),
)
_JSON_WORDS = (
    *_TEXT,
    b"[" * 5000,
    b'{"a":' * 50,
    b"NaN",
    b"Infinity",
    b"null",
    b'"../../x"',
    b'"\\ud800"',
    b"[]",
    b"{}",
)
_NPY_WORDS = (
    b"|O",
    b"<f8",
    b">i8",
    b"|b1",
    b"<c16",
    b"|V8",
    b"(-1,",
    b"(99999999999,",
    b"True",
    b"()",
    b"'<U9'",
    b"(3,)f4",
)
_PICKLE_WORDS = (
    b"cos\nsystem\n",
    b"R.",
    b"c__builtin__\neval\n",
    b"\x85",
    b"b.",
    b"(",
    b"J\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
)
_ZIP = (*_PICKLE_WORDS, *_NPY_WORDS)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "image",
            "image.png",
            images,
            lambda at: _each(lambda: files.read_image(at / "image.png"), lambda: files.image_size(at / "image.png")),
            form="png",
        ),
        Target(
            "label-picture",
            "label.png",
            label_pictures,
            lambda at: _each(*(lambda t=t: t.read(at / "label.png") for t in (_CLASSES, Depth("d"), Boundary("b")))),
            form="png",
        ),
        Target(
            "npy",
            "label.npy",
            arrays,
            lambda at: _each(
                *(lambda t=t: t.read(at / "label.npy") for t in (_CLASSES, Depth("d"), SurfaceNormals("n")))
            ),
            words=_NPY_WORDS,
        ),
        Target(
            "mat",
            "label.mat",
            annotations,
            lambda at: _each(lambda: read_label_map(at / "label.mat"), lambda: read_person_parts(at / "label.mat")),
            words=(b"LabelMap", b"anno", b"objects"),
        ),
        Target(
            "dataset-yaml", "set/dataset.yaml", described, lambda at: _ignore(dataset_tasks(at / "set")), _YAML_WORDS
        ),
        Target(
            "config-yaml",
            "config.yaml",
            configured,
            lambda at: _ignore(settings_from_flat(_mapping(read_yaml(at / "config.yaml")), "config.yaml")),
            _YAML_WORDS,
        ),
        Target(
            "partition", "labels.txt", partitions, lambda at: _ignore(Partition.load(at / "labels.txt", _TOY)), _TEXT
        ),
        Target(
            "published-partition",
            "labels.bin",
            published_partitions,
            lambda at: _ignore(read_published_partition(at / "labels.bin")),
            _PICKLE_WORDS,
            form="zip",
        ),
        Target("image-list", "list.txt", image_lists, lambda at: _ignore(listed_images(at / "list.txt", _TOY)), _TEXT),
        Target(
            "split-list",
            "split.txt",
            lambda: [b"2008_000001\n2008_000002\n"],
            lambda at: _ignore(read_names(at / "split.txt")),
            _TEXT,
        ),
        Target("shards", "shards/train/shard-000000.tar", shards, _read_shards, _TEXT, form="tar"),
        Target(
            "safetensors",
            "weights.safetensors",
            networks,
            _read_network,
            (*_JSON_WORDS, b'"F64"', b'"BOOL"', b'"F8_E4M3"'),
        ),
        Target("checkpoint", "weights.pth", checkpoints, _read_checkpoint, _ZIP, form="zip"),
        Target("resume", f"resume/{LAST_CHECKPOINT}", checkpoints, _read_resumed, _ZIP, form="zip"),
        Target(
            "per-image",
            "scores.npz",
            per_image,
            lambda at: _ignore(load_per_image(at / "scores.npz")),
            _ZIP,
            form="zip",
        ),
        Target("calibration", "calibration.json", calibrations, lambda at: _ignore(read_calibration(at)), _JSON_WORDS),
        Target("metrics", "metrics.json", metrics, lambda at: _ignore(read_metrics(RunFolder(at))), _JSON_WORDS),
        Target("log", "log/metrics.csv", logs, lambda at: _ignore(read_log(RunFolder(at))), (*_TEXT, b'"', b",,,")),
        Target("run-partition", "partition.txt", partitions, lambda at: _ignore(read_partition(RunFolder(at))), _TEXT),
        Target("record", "compared/cells/one/a.json", records, _read_record, _JSON_WORDS),
        Target("predicted", f"out/{FOLDER}/a.json", predicted, _read_predicted, _JSON_WORDS),
        Target("video", "clip.mp4", videos, _read_video),
    )
}


def _ignore(_: object) -> None:
    return None


def _mapping(values: object) -> dict:
    if not isinstance(values, dict):
        raise UserError("config.yaml: must name settings, one a line")
    return values


def with_changed_member(content: bytes, change: Callable[[bytes], bytes], choose: Callable[[int], int]) -> bytes:
    """A zip archive of which one member is changed, and the rest is whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members: Iterable[tuple[zipfile.ZipInfo, bytes]] = [(info, archive.read(info)) for info in archive.infolist()]
    at = choose(len(list(members)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (info, data) in enumerate(members):
            archive.writestr(info, change(data) if number == at else data, compress_type=info.compress_type)
    return stream.getvalue()
