"""Weights on disk: backbones from anyone's file, networks from ours."""

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.files import check_plain, write_bytes_atomically
from diffusionmtl.headers import SizedFile
from diffusionmtl.models.backbone import Backbone


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a torch file that holds nothing else; no code is run from it.

    Raises:
        UserError: missing, damaged, or holding more than tensors and plain containers.
    """
    loaded: Any = _read_safetensors(path)[0] if path.suffix == ".safetensors" else read_plain_checkpoint(path)
    for key in ("state_dict", "model"):
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors; expected a dictionary of weights")
    return tensors


def read_plain_checkpoint(path: Path) -> Mapping[str, Any]:
    """A torch file of tensors and plain containers.

    Raises:
        UserError: missing, damaged, or it would have to run code to be read.
    """
    size = check_plain(path)
    try:
        check_stored(path)
        loaded = _loaded(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a file of plain tensors ({in_one_line(error)}); refused, since reading it could run code"
        ) from None
    except Exception as error:  # a damaged archive can make torch throw nearly anything
        raise UserError(f"{path}: not a readable checkpoint ({in_one_line(error)})") from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: holds a {type(loaded).__name__}, expected a dictionary of weights")
    if claimed := _claims_more(loaded, size):
        raise UserError(f"{path}: {claimed}; damaged, or made to fill a memory")
    return loaded


def _loaded(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        return torch.load(path, map_location="cpu", weights_only=True)
    with SizedFile(path) as stream:  # a name in a file of the older form may claim to be gigabytes long
        return torch.load(stream, map_location="cpu", weights_only=True)


def check_stored(path: Path) -> None:
    """See that an archive, if it is one, holds no more than its own bytes: checkpoints are written unpacked.

    Raises:
        ValueError: it unpacks to more.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"an archive that unpacks to {unpacked:,} bytes, more than it has")


def _claims_more(loaded: Any, size: int) -> str | None:
    """What is wrong with tensors that are larger than the file they come from: a few bytes can claim any shape."""
    storages: dict[int, int] = {}
    for tensor in _tensors_in(loaded):
        shape = list(tensor.shape)
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            return f"holds a tensor {shape} that is not plain"
        held = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > held.nbytes():
            return f"a tensor claims to be {shape} and does not hold as many numbers"
        storages[held.data_ptr()] = held.nbytes()
    total = sum(storages.values())
    return f"its tensors claim {total:,} bytes and the file has {size:,}" if total > size else None


def _tensors_in(loaded: Any) -> Iterator[Tensor]:
    """Every tensor in plain containers, each container once however often it is referred to."""
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)


def load_backbone_weights(backbone: Backbone, path: Path, name: str = "") -> None:
    """Fill a backbone with weights from a file whose names are timm's, torchvision's ResNet's or EfficientNet-Lite's.

    Classifier weights are left out; everything that the backbone has must be there.

    Args:
        name: of the backbone, for messages.

    Raises:
        UserError: weights are missing or of another shape; the first few are named.
    """
    given = {_timm_name(key): value for key, value in read_tensors(path).items()}
    wanted = backbone.body.state_dict()
    # features_only networks may flatten "layer1.0" to "layer1_0" or "blocks.0" to "blocks_0".
    by_dots = {key.replace("_", "."): value for key, value in given.items()}
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for key, tensor in wanted.items():
        value = given.get(key, by_dots.get(key.replace("_", ".")))
        if value is None and key.endswith("num_batches_tracked"):
            value = tensor
        if value is None or value.shape != tensor.shape:
            missing.append(key if value is None else f"{key} {tuple(value.shape)} != {tuple(tensor.shape)}")
        else:
            found[key] = value
    if missing:
        raise UserError(
            f"{path}: does not fit {f'--backbone {name}' if name else 'the backbone'}: {len(missing)} of {len(wanted)} "
            f"weights missing or of another shape ({', '.join(missing[:3])}); name the backbone that the file is of"
        )
    backbone.body.load_state_dict(found)


_EFFICIENTNET_PARTS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_fc": "classifier",
}
_EFFICIENTNET_BLOCK = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl", "_expand_conv": "conv_pw"}
_EFFICIENTNET_REPEATS = (1, 2, 2, 3, 3, 4, 1)


def _timm_name(key: str) -> str:
    """The name that timm gives a weight: prefixes dropped, the PyTorch EfficientNet port's names translated."""
    key = key.removeprefix("module.").removeprefix("backbone.").removeprefix("body.")
    head, _, rest = key.partition(".")
    if head == "_bn1":
        return f"bn2.{rest}"
    if head in _EFFICIENTNET_PARTS:
        return f"{_EFFICIENTNET_PARTS[head]}.{rest}"
    if head != "_blocks":
        return key
    number, layer, field = rest.split(".", 2)
    stage, block = _efficientnet_stage(int(number))
    if stage == 0:  # the first stage has no expansion, so its layers are numbered from the depthwise one
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {**_EFFICIENTNET_BLOCK, "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{field}"


def _efficientnet_stage(number: int) -> tuple[int, int]:
    for stage, count in enumerate(_EFFICIENTNET_REPEATS):
        if number < count:
            return stage, number
        number -= count
    return len(_EFFICIENTNET_REPEATS), number


def save_network(network: nn.Module, path: Path, description: Mapping[str, Any]) -> None:
    """Write weights with the plain data that is needed to build the network again; atomic."""
    save_tensors(network.state_dict(), path, description)


def save_tensors(weights: Mapping[str, Tensor], path: Path, description: Mapping[str, Any]) -> None:
    """The same for the weights of a network that is not at hand in whole."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    write_bytes_atomically(path, save(_unshared(tensors), metadata={"diffusionmtl": json.dumps(description)}))


def copy_network(source: Path, target: Path, description: Mapping[str, Any]) -> None:
    """Write the same weights with another description.

    Raises:
        UserError: `source` is missing, damaged, or not written by this package.
    """
    tensors = read_network(source)[0]
    write_bytes_atomically(target, save(tensors, metadata={"diffusionmtl": json.dumps(description)}))


def read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description that `save_network` wrote.

    Raises:
        UserError: missing, damaged, or not written by this package.
    """
    tensors, metadata = _read_safetensors(path)
    if "diffusionmtl" not in metadata:
        raise UserError(f"{path}: not a network of this package; give a run folder or its checkpoints/*.safetensors")
    try:
        description = json.loads(metadata["diffusionmtl"])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its description is damaged ({in_one_line(error)}); copy the file anew") from None
    if not isinstance(description, dict):
        raise UserError(f"{path}: its description is damaged (not a dictionary); copy the file anew")
    return tensors, description


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fill a network; every weight must be there and fit.

    Raises:
        UserError: names or shapes differ.
    """
    network.load_state_dict(_fitting(network, tensors, where))


def check_weights(sketch: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """See that weights fit a network, which may be a sketch on the device `meta` that has shapes and no numbers.

    Raises:
        UserError: names or shapes differ.
    """
    _fitting(sketch, tensors, where)


def _fitting(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor | None]:
    wanted = network.state_dict()
    aliases = _alias_of(wanted)
    full = {key: tensors[key] if key in tensors else tensors.get(aliases.get(key, key)) for key in wanted}
    wrong = [key for key, value in full.items() if value is None or value.shape != wanted[key].shape]
    extra = [key for key in tensors if key not in wanted]
    if wrong or extra:
        raise UserError(
            f"{where}: does not fit this network: {len(wrong)} weights missing or of another shape "
            f"({', '.join(wrong[:3])}), {len(extra)} unknown ({', '.join(extra[:3])}); same tasks and settings?"
        )
    return full


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    aliases = _alias_of(tensors)
    return {key: value for key, value in tensors.items() if key not in aliases}


def _alias_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Later names of tensors that share memory with an earlier one, which alone is written."""
    first: dict[tuple[int, int], str] = {}
    aliases: dict[str, str] = {}
    for key, value in tensors.items():
        if value.numel() == 0:
            continue
        # On the device `meta` nothing lies anywhere, but what is one is one object.
        place = (value.untyped_storage()._cdata if value.is_meta else value.data_ptr(), value.numel())
        if place in first:
            aliases[key] = first[place]
        else:
            first[place] = key
    return aliases


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    check_plain(path)
    try:
        with safe_open(path, framework="pt") as stream:
            return {key: stream.get_tensor(key) for key in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
    except Exception as error:  # types of numbers that torch lacks, lengths that do not fit, and so on
        raise UserError(f"{path}: not a readable safetensors file ({in_one_line(error)})") from None
