"""Any data set written as a partly labelled folder or as shards, with nothing in it that may not be seen.

The files of the data set are copied as they are where their tasks read them as they are, a JPEG as its bytes. What is
made of other files (body parts of a struct, edges of a class map, rooms) is written as its task writes labels.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.base import DenseDataset, StoredFile
from diffusionmtl.data.description import FILE_NAME, IMAGES, write_dataset_yaml
from diffusionmtl.data.members import name_fault
from diffusionmtl.data.shards import key_of
from diffusionmtl.errors import UserError

Form = Literal["folder", "shards"]
Tick = Callable[[int], None]

_PLAN, _SCRATCH = ".packing.json", ".packing"
_COPIED = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png", ".webp": ".webp"}
_IMAGE = ""


@dataclass(frozen=True)
class Split:
    """What is to be packed of one split.

    Attributes:
        dataset: where it comes from.
        visible: per image name the tasks whose labels go with it; a hidden label is not opened. None: all.
    """

    dataset: DenseDataset
    visible: Mapping[str, Set[str]] | None = None

    def tasks(self, index: int) -> frozenset[str]:
        """The tasks whose label of an image is written."""
        have = self.dataset.annotated(index)
        return have if self.visible is None else have & self.visible.get(self.dataset.names[index], frozenset())


def pack(
    out: Path,
    splits: Mapping[str, Split],
    form: Form = "folder",
    shard_size: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the splits; called again after an interruption with the same arguments, go on where that was.

    `dataset.yaml` comes last, so what has one is complete. Equal arguments give equal bytes.

    Args:
        out: a new or empty folder, or one left over from the same call. Nothing is written elsewhere.
        splits: of one data set; all have the same tasks.
        form: a partly labelled folder, or shards in the form of WebDataset.
        shard_size: images per shard.
        progress: called with (done, all) images.

    Raises:
        UserError: `out` holds something else or cannot be written, or a file of the data set cannot be read.
    """
    for split in splits.values():
        _check_names(split.dataset)
    total, done = sum(len(split.dataset) for split in splits.values()), 0

    def tick(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    try:
        _begin(out, _plan(splits, form, shard_size))
        for name, split in splits.items():
            if form == "shards":
                _pack_shards(out, out / name, split, shard_size, tick)
            else:
                _pack_folder(out, out / name, split, tick)
        for left in (*out.rglob(".*.part"), out / _SCRATCH):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        write_dataset_yaml(out, next(iter(splits.values())).dataset.tasks)
        (out / _PLAN).unlink()
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None


def _check_names(dataset: DenseDataset) -> None:
    for name in dataset.names:
        if fault := name_fault(name) or (name.rsplit("/", 1)[-1].startswith(".") and "starts with a dot"):
            raise UserError(f"data set '{dataset.name}': the image name {name[:120]!r} {fault}; rename the image")


def _plan(splits: Mapping[str, Split], form: Form, shard_size: int) -> str:
    """What tells one call from another, as 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps([form, shard_size if form == "shards" else None]).encode())
    for name, split in splits.items():
        tasks = {task.name: task.settings() for task in split.dataset.tasks}
        digest.update(json.dumps([name, split.dataset.name, tasks]).encode())
        for index, image in enumerate(split.dataset.names):
            digest.update(json.dumps([image, sorted(split.tasks(index))]).encode())
    return digest.hexdigest()


def _begin(out: Path, plan: str) -> None:
    marker = out / _PLAN
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; name a folder")
    if marker.is_file():
        if marker.read_text("utf-8") != plan:
            raise UserError(
                f"{out}: holds a half-done pack of other data, labels or form; finish that, or remove the folder"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: exists and is not an empty folder; name a new one")
    files.write_bytes_atomically(marker, plan.encode())
    (out / _SCRATCH).mkdir(exist_ok=True)


def _pack_folder(out: Path, folder: Path, split: Split, tick: Tick) -> None:
    for index, name in enumerate(split.dataset.names):
        # The image goes last: where it is, the labels are.
        if not any((folder / IMAGES / f"{name}{suffix}").exists() for suffix in _COPIED.values()):
            for task, file in sorted(_files(split, index, out / _SCRATCH), key=lambda found: found[0] == _IMAGE):
                files.write_bytes_atomically(folder / (task or IMAGES) / f"{name}{file.suffix}", file.data)
        tick(1)


def _pack_shards(out: Path, folder: Path, split: Split, shard_size: int, tick: Tick) -> None:
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(split.dataset), shard_size)):
        indices = range(start, min(start + shard_size, len(split.dataset)))
        path = folder / f"shard-{number:06d}.tar"
        if path.exists():
            tick(len(indices))
        else:
            _write_shard(path, split, indices, out / _SCRATCH, tick)


def _write_shard(path: Path, split: Split, indices: Sequence[int], scratch: Path, tick: Tick) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for index in indices:
                key = key_of(split.dataset.names[index])
                for task, file in _files(split, index, scratch):
                    info = tarfile.TarInfo(f"{key}.{task}{file.suffix}" if task else f"{key}{file.suffix}")
                    info.size = len(file.data)
                    archive.addfile(info, io.BytesIO(file.data))
                tick(1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _files(split: Split, index: int, scratch: Path) -> Iterator[tuple[str, StoredFile]]:
    """The image, then each label that is to be seen, in task order."""
    dataset = split.dataset
    stored = dataset.stored(index, None)
    if stored is not None and stored.suffix.lower() in _COPIED:
        yield _IMAGE, StoredFile(_COPIED[stored.suffix.lower()], stored.data)
    else:
        path = scratch / "image.png"
        files.write_picture(path, dataset.image(index).permute(1, 2, 0).numpy())
        yield _IMAGE, StoredFile.at(path)
    shown = split.tasks(index)
    for task in dataset.tasks:
        if task.name not in shown:
            continue
        file = dataset.stored(index, task.name)
        if file is None:
            label, valid = dataset.label(index, task.name)
            written = task.write(scratch / "label", label.as_subclass(Tensor), valid.as_subclass(Tensor)[0])
            # Of several files readers take the one whose suffix the task names first.
            file = StoredFile.at(min(written, key=lambda path: task.suffixes.index(path.suffix)))
        yield task.name, StoredFile(file.suffix.lower(), file.data)


def packed(out: Path) -> bool:
    """Whether a folder has been packed to its end."""
    return (out / FILE_NAME).is_file() and not (out / _PLAN).exists()
