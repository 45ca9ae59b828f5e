"""Targets: files with files or tensors inside: weights, archives, shards, videos."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from diffusionmtl.build import restore_run
from diffusionmtl.config import Settings
from diffusionmtl.data.published_partitions import read_published_partition
from diffusionmtl.data.shards import ShardsDataset
from diffusionmtl.inference.per_image import load_per_image
from diffusionmtl.inference.video import Video
from diffusionmtl.models.pretrained import read_network, read_plain_checkpoint, read_tensors
from diffusionmtl.models.published import published_settings, published_tasks, read_published
from diffusionmtl.runfolder import LAST_CHECKPOINT
from diffusionmtl.training.keeping import AtomicCheckpoints, checkpoint_to_resume
from tests.fuzz.target import NPY, TEXT, YAML, H, Target, W, colours, each, npy, picture
from tests.fuzz.texts import JSON

_PICKLE = (
    b"cos\nsystem\n",
    b"R.",
    b"c__builtin__\neval\n",
    b"\x85",
    b"b.",
    b"(",
    b"J\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
)
_ZIP = (*_PICKLE, *NPY)


def _torch(content: object, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def published_partitions() -> list[bytes]:
    lists = {"semseg": ["2008_000001", "2008_000002"], "normals": ["2008_000003"]}
    masks = {np.str_("2008_000001"): [1, 0, 0, 1, 0]}
    weights = {"labels_weights": torch.tensor([[1.0, 0, 0], [0, 1, 1]])}
    old = _torch(weights, _use_new_zipfile_serialization=False)
    arrays = [npy(np.array(content, dtype=object)) for content in (lists, masks)]
    return [*arrays, _torch(weights), old, _torch(masks)]


def shards() -> list[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        members = {
            "a.png": picture(colours(), "PNG"),
            "a.semseg.png": picture(np.zeros((H, W), np.uint8), "PNG"),
            "a.depth.npy": npy(np.ones((H, W), np.float32)),
            "folder é/" + "b" * 120 + ".png": picture(colours(), "PNG"),
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
    each(*calls)


def _weights() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.zeros(4, 3, 1, 1), "norm.bias": torch.ones(4), "count": torch.tensor(3)}


def networks() -> list[bytes]:
    said = {**Settings().flat(), "task_set": {"depth": {"kind": "depth"}}, "progress": {"epoch": 1}}
    return [save(_weights(), metadata={"diffusionmtl": json.dumps(said)}), save(_weights())]


def _read_network(folder: Path) -> None:
    _, description = read_network(folder / "weights.safetensors")
    restore_run(description, "weights.safetensors")


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

    each(lambda: read_plain_checkpoint(path), lambda: read_tensors(path), published)


def _read_resumed(folder: Path) -> None:
    checkpoint_to_resume(folder / "resume")
    AtomicCheckpoints().load_checkpoint(folder / "resume" / LAST_CHECKPOINT)


def per_image() -> list[bytes]:
    kept = {"final/depth/images": np.arange(3), "final/depth/statistics": np.ones((3, 2))}
    found = []
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        write(stream, **kept)
        found.append(stream.getvalue())
    return found


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
                frame = Image.fromarray(np.full((32, 32, 3), 60 * level, np.uint8))
                container.mux(track.encode(av.VideoFrame.from_image(frame)))
            container.mux(track.encode())
        found.append(stream.getvalue())
    return found


def _read_video(folder: Path) -> None:
    with Video(folder / "clip.mp4", max_pixels=1_000_000) as clip:
        for number, _ in clip.frames():
            if number >= 5:
                break


CONTAINERS = (
    Target(
        "published-partition",
        "labels.bin",
        published_partitions,
        lambda at: read_published_partition(at / "labels.bin"),
        _PICKLE,
        form="zip",
    ),
    Target("shards", "shards/train/shard-000000.tar", shards, _read_shards, TEXT, form="tar"),
    Target(
        "safetensors",
        "weights.safetensors",
        networks,
        _read_network,
        (*JSON, b'"F64"', b'"BOOL"', b'"F8_E4M3"'),
    ),
    Target("checkpoint", "weights.pth", checkpoints, _read_checkpoint, _ZIP, form="zip"),
    Target("resume", f"resume/{LAST_CHECKPOINT}", checkpoints, _read_resumed, _ZIP, form="zip"),
    Target("per-image", "scores.npz", per_image, lambda at: load_per_image(at / "scores.npz"), _ZIP, form="zip"),
    Target("video", "clip.mp4", videos, _read_video),
)
