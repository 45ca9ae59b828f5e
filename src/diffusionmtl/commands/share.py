"""`diffusionmtl share`, `push` and `fetch`: a run leaves this machine without what is nobody else's business."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from diffusionmtl.build import describe_run, restore_run
from diffusionmtl.commands.output import check_claimable, claim_folder
from diffusionmtl.commands.train import config_text
from diffusionmtl.config import Settings
from diffusionmtl.data.benchmarks import BENCHMARKS
from diffusionmtl.data.partition import PROTOCOLS
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_json, write_bytes_atomically
from diffusionmtl.inference.calibration import FILE_NAME, digest_of, read_calibration
from diffusionmtl.inference.load import ZIPPED, weights_file
from diffusionmtl.models.pretrained import copy_network, read_network
from diffusionmtl.report.card import UNKNOWN_LICENCE, About, model_card
from diffusionmtl.report.collect import read_run
from diffusionmtl.report.started import read_started
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.sharing.archive import unpack_archive, write_archive
from diffusionmtl.sharing.contents import Entry, weights_name, write_list
from diffusionmtl.sharing.hub import fetch_run, hub_name, is_hub_name, push_run

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Terms:
    """Licences that only whoever shares a run can know.

    Attributes:
        licence: of the weights, as the hub abbreviates it, `apache-2.0` for instance.
        data: of the training data, in words.
    """

    licence: str = UNKNOWN_LICENCE
    data: str = ""

    def __post_init__(self) -> None:
        if not _LICENCE.fullmatch(self.licence):
            raise UserError(f"--licence {self.licence}: write it as the hub does, e.g. apache-2.0, mit, cc-by-nc-4.0")


def share(run: Path, out: Path, terms: Terms = Terms()) -> dict[str, Entry]:
    """Write a run as one zip file, which `load` opens as it is and any program unpacks as a run folder.

    Raises:
        UserError: not a trained run, damaged, or `out` is there already or no zip file.
    """
    if out.suffix != ZIPPED:
        raise UserError(f"--out {out}: name a file that ends in {ZIPPED}")
    if out.exists():
        raise UserError(f"--out {out}: exists; choose another name or remove it")
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as place:
        files = prepare(run, Path(place), out.name, terms)
        write_archive(Path(place), files, out, _safe_name(out.stem))
    return files


def push(
    run: Path, repo: str, terms: Terms = Terms(), *, private: bool = False, dry_run: Path | None = None
) -> tuple[str, dict[str, Entry]]:
    """Put a run on the Hugging Face Hub.

    Args:
        run: the run folder.
        repo: `user/name`; is made if there is none.
        terms: licences.
        private: make it readable to its owner only; one that is there stays as it is.
        dry_run: write what would be pushed into this folder, and push nothing.

    Returns:
        Where it is now, and its files.

    Raises:
        UserError: not a trained run, damaged, or the hub refuses or cannot be reached.
    """
    name = hub_name(repo)
    if name.revision:
        raise UserError(f"{repo}: a run is pushed to the newest state; leave out @{name.revision}")
    if dry_run is not None:
        claim_folder(dry_run, "what would be pushed")
        return str(dry_run), prepare(run, dry_run, str(name), terms)
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as place:
        files = prepare(run, Path(place), str(name), terms)
        return push_run(Path(place), files, name, private, "A run of diffusionmtl"), files


def fetch(source: str, out: Path) -> dict[str, Entry]:
    """Make a run folder of a zipped run or of a repository on the hub.

    Raises:
        UserError: there is none, it is damaged or made to do harm, or `out` is there already.
    """
    check_claimable(out, "the run")
    if not is_hub_name(source):
        return unpack_archive(Path(source), out)
    place, files = fetch_run(hub_name(source))
    claim_folder(out, "the run")
    for name in files:
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(place / name, out / name)
    return files


def prepare(run: Path, folder: Path, address: str, terms: Terms) -> dict[str, Entry]:
    """Write what is shared of a run into an empty folder.

    Paths of this machine become the last part of them, in settings, scores and in what the weights say of themselves.

    Args:
        run: the run folder.
        folder: where to.
        address: what `load` will take, for the model card.
        terms: licences.

    Raises:
        UserError: not a trained run, or damaged.
    """
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder; give the folder that 'diffusionmtl train --out' wrote")
    weights_file(run)
    source, target = RunFolder(run), RunFolder(folder)
    found = read_run(run)
    settings = without_paths(found.settings)
    started = read_started(source)
    digests = dict(pair for name in ("last", "best") if (pair := _copy_weights(source, target, name)))
    write_bytes_atomically(target.config, config_text(settings, found.tasks).encode())
    for path in (source.held_out, source.provenance, *sorted(source.log.glob("metrics*.csv"))):
        if path.is_file():
            (folder / path.relative_to(run)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / path.relative_to(run))
    _copy_partition(source, target)
    _copy_metrics(source, target)
    _copy_calibration(source, target, digests)
    told = replace(found, settings=settings, folder=RunFolder(Path(run.resolve().name)))
    if found.partition is not None:
        told = replace(told, partition=replace(found.partition, source=_without_folders(found.partition.source)))
    if found.metrics is not None:
        told = replace(told, metrics=replace(found.metrics, data=_names(found.metrics.data)))
    about = About(run.resolve().name, address, terms.licence, terms.data, started)
    write_bytes_atomically(folder / "README.md", model_card(told, about).encode())
    return write_list(folder)


def without_paths(settings: Settings) -> Settings:
    """Settings that say what was read, but not where it lay."""
    data, network = settings.data, settings.network
    labels = data.labels if data.labels in PROTOCOLS else _last(data.labels)
    weights = None if network.backbone_weights is None else _last(network.backbone_weights)
    return replace(
        settings,
        data=replace(data, data=_names(data.data), root=None, labels=labels),
        network=replace(network, backbone_weights=weights),
    )


def _names(data: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name if name in BENCHMARKS else _last(name) for name in data)


def _last(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name or "data"


def _safe_name(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "-", stem).strip(".-") or "run"


def _copy_weights(source: RunFolder, target: RunFolder, checkpoint: str) -> tuple[str, str] | None:
    """What tells the old and the new file from others; None if there are no such weights."""
    old, new = source.root / weights_name(checkpoint), target.root / weights_name(checkpoint)
    if not old.is_file():
        return None
    description = read_network(old)[1]
    settings, tasks = restore_run(description, str(old))
    told = {**description, **describe_run(without_paths(settings), tasks)}
    copy_network(old, new, told)
    return digest_of(old), digest_of(new)


def _without_folders(source: str) -> str:
    """Where labels came from: words, or the path of a file and words."""
    return _last(source) if "/" in source or "\\" in source else source


def _copy_partition(source: RunFolder, target: RunFolder) -> None:
    """With another first line, which says where it came from."""
    if not source.partition.is_file():
        return
    first, line_break, rest = source.partition.read_text(encoding="utf-8").partition("\n")
    if first.startswith("#"):
        first = f"# {_without_folders(first[1:].strip())}"
    write_bytes_atomically(target.partition, f"{first}{line_break}{rest}".encode())


def _copy_metrics(source: RunFolder, target: RunFolder) -> None:
    if not source.metrics.is_file():
        return
    said: dict[str, Any] = read_json(source.metrics)
    said["data"] = list(_names(tuple(map(str, said["data"]))))
    if isinstance(said.get("delta_m"), dict):
        said["delta_m"]["reference"] = _last(str(said["delta_m"].get("reference", "")))
    write_bytes_atomically(target.metrics, (json.dumps(said, indent=2) + "\n").encode())


def _copy_calibration(source: RunFolder, target: RunFolder, digests: Mapping[str, str]) -> None:
    """The weights have other words in them now, so the calibration names them anew."""
    found = read_calibration(source.root)
    if found is None:
        return
    path = source.root / FILE_NAME
    if found.weights not in digests:
        raise UserError(
            f"{path}: was made for other weights; calibrate again (diffusionmtl evaluate {source.root} --calibrate) "
            "or delete it"
        )
    said = {**read_json(path), "weights": digests[found.weights]}
    write_bytes_atomically(target.root / FILE_NAME, (json.dumps(said, indent=2) + "\n").encode())
