"""A predictor from what training left behind."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusionmtl.build import build_network, restore_run, sketched
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import nearest_beside
from diffusionmtl.inference.calibration import calibration_for
from diffusionmtl.inference.predictor import Precision, Predictor
from diffusionmtl.inference.streamlined import in_bfloat16, streamlined
from diffusionmtl.inference.winograd import use_winograd
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import check_weights, load_weights, read_network
from diffusionmtl.sharing.archive import opened_archive
from diffusionmtl.sharing.contents import needed
from diffusionmtl.sharing.hub import fetch_run, hub_name, is_hub_name
from diffusionmtl.tasks import Task

ZIPPED = ".zip"
CHECKPOINTS = ("last", "best")
_MAX_TRAINED_PIXELS = 1 << 24


def load(
    run: Path | str,
    device: str = "cpu",
    checkpoint: str = "last",
    *,
    precision: Precision = "fp32",
    noise_scale: float = 1.0,
    calibrated: bool = True,
) -> Predictor:
    """A predictor from a run folder or a weights file; needs nothing else, neither data nor the training extra.

    Args:
        run: the folder that `diffusionmtl train --out` wrote, a `.safetensors` file from its `checkpoints/`, the zip
            that `diffusionmtl share` wrote, or `hf://user/name` for what `diffusionmtl push` put on the Hugging Face
            Hub (`hf://user/name@revision` for a branch, tag or commit).
        device: where to compute, e.g. `cpu` or `cuda`.
        checkpoint: `last`, or `best` by the loss on held-out training images.
        precision: `fp32`, or `bf16` for processors and GPUs that have it: answers a little off.
        noise_scale: what every draw of noise is multiplied by; 1 is the strength of training.
        calibrated: use the run folder's `calibration.json`, if there is one.

    Raises:
        UserError: no such run, checkpoint or device, its weights are damaged, or its calibration is of other weights or
            another noise.
    """
    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint '{checkpoint}': say {' or '.join(CHECKPOINTS)}")
    with _on_disk(run, checkpoint) as place:
        path = weights_file(place, checkpoint)
        tensors, description = read_network(path)
        network, size = restored_network(tensors, description, str(path))
        predictor = quick_predictor(network, size, device_of(device), precision)
        predictor.noise_scale = noise_scale
        if calibrated and place.is_dir():
            predictor.calibration = calibration_for(place, path, noise_scale)
    return predictor


@contextmanager
def _on_disk(run: Path | str, checkpoint: str) -> Iterator[Path]:
    """Where a run lies as a folder or weights file; what is unpacked for it is gone afterwards."""
    if is_hub_name(run):
        yield fetch_run(hub_name(str(run)), checkpoint)[0]
    elif Path(run).suffix == ZIPPED and Path(run).is_file():
        with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as place:
            with opened_archive(Path(run)) as archive:
                archive.unpack(Path(place), needed(archive.files, checkpoint, str(run)))
            yield Path(place)
    else:
        yield Path(run)


def quick_predictor(
    network: Network, size: tuple[int, int] | None, device: torch.device, precision: Precision = "fp32"
) -> Predictor:
    """A predictor for a network that is not trained any further: it answers by its streamlined equal."""
    quick = answering(network, device, precision)
    return Predictor(network, size, device, precision=precision, quick=quick)


def answering(network: Network, device: torch.device, precision: Precision = "fp32") -> Network:
    """What answers for a network: equal to it within 1e-4 in fp32, see `streamlined` and, on processors, `winograd`.

    The network itself is moved to the device, and shares its weights with what is returned.
    """
    # Weights that lie as the streamlined network wants them are shared with it.
    network = network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    quick = streamlined(network)
    if precision == "bf16":
        in_bfloat16(quick)
    elif device.type == "cpu":
        use_winograd(quick)
    return quick


def restored_network(
    tensors: dict[str, Tensor], description: dict[str, Any], where: str
) -> tuple[Network, tuple[int, int] | None]:
    """The network with its weights, and the size that images are fitted into (None: they are left as they are)."""
    settings, tasks = restore_run(description, where)
    fresh = changed(settings, backbone_weights=None, pretrained=False)
    check_described(fresh, tasks, tensors, where)
    check_weights(sketched(tasks, fresh.network), tensors, where)
    network = build_network(tasks, fresh.network)
    load_weights(network, tensors, where)
    return network, settings.data.size if settings.data.fit else None


def check_described(settings: Settings, tasks: Sequence[Task], tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse settings that no weights of this size can come from, before anything is built by them.

    Raises:
        UserError: more parts than tensors, or pictures larger than any network is trained on.
    """
    network, (height, width) = settings.network, settings.data.size
    parts = {word: getattr(network, word) for word in ("blocks", "decoder_blocks", "trunk_blocks")}
    parts["tasks"] = len(tasks)
    for word, count in parts.items():
        if count > len(tensors):
            raise UserError(f"{where}: says {count} {word} and holds {len(tensors)} weights; damaged")
    if height * width > _MAX_TRAINED_PIXELS:
        raise UserError(f"{where}: says size {height} {width}, more than {_MAX_TRAINED_PIXELS:,} pixels; damaged")


def weights_file(run: Path, checkpoint: str = "last") -> Path:
    """The weights of a run.

    Raises:
        UserError: the folder holds none; says what it is instead.
    """
    if is_hub_name(run):
        name = hub_name(str(run))
        raise UserError(f"{name}: fetch it first: diffusionmtl fetch {name} --out RUN")
    if run.is_file() and run.suffix == ZIPPED:
        raise UserError(f"{run}: unpack it first: diffusionmtl fetch {run} --out RUN")
    if run.is_file():
        return run
    if not run.exists():
        near = nearest_beside(run)
        raise UserError(f"{run}: no such run; give the folder that 'diffusionmtl train --out' wrote.{near}")
    path = run / "checkpoints" / f"{checkpoint}.safetensors"
    if path.is_file():
        return path
    if checkpoint == "best" and (run / "checkpoints" / "last.safetensors").is_file():
        raise UserError(f"{path}: no such file, this run held no images out to tell which weights are best; use 'last'")
    if (run / "config.yaml").is_file():
        raise UserError(
            f"{run}: no checkpoints/{checkpoint}.safetensors yet; finish training with "
            f"'diffusionmtl train --resume --out {run}'"
        )
    raise UserError(f"{run}: not a run folder (no config.yaml); give the folder that 'diffusionmtl train --out' wrote")


def settings_of_run(run: Path) -> Settings:
    """The settings inside a run's weights.

    Raises:
        UserError: there are none.
    """
    path = weights_file(run)
    return restore_run(read_network(path)[1], str(path))[0]


def device_of(name: str) -> torch.device:
    """The device called `name`; `auto` is the GPU if there is one.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = in_one_line(error).split(". ")[0]  # the rest is advice for whoever builds torch
        raise UserError(f"device {name}: {said}; use cpu") from None
    return device
