"""`diffusionmtl export`."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from diffusionmtl.commands.output import text_table
from diffusionmtl.errors import UserError
from diffusionmtl.export.check import Difference, differences, sizes_to_check
from diffusionmtl.export.graph import IMAGE, INITIAL, NOISE, AnswerGraph, NoiseInput
from diffusionmtl.export.onnx_file import onnx_runner, quantise, write_onnx
from diffusionmtl.export.program import program_of
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.inference.load import restored_network, weights_file
from diffusionmtl.inference.streamlined import streamlined
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.tasks import Task

Format = Literal["onnx", "torch"]
# Of the largest number in an output: more than rounding is a mistake of the exporter.
ALLOWED = 1e-3
_FIT = (
    "turn the picture upright (EXIF), then resize it, proportions kept, until it just fits inside this height, width; "
    "bilinear, smoothed when it shrinks; smaller pictures grow, nothing is padded"
)


def export(
    run: Path,
    out: Path,
    form: Format = "onnx",
    *,
    int8: bool = False,
    initial: bool = False,
    checkpoint: str = "last",
) -> tuple[Path, dict[str, Any]]:
    """Write a trained network as one file, check it against the network, and say beside it what it takes and gives.

    Args:
        run: folder or weights file.
        out: the file; its description gets the suffix `.json`.
        form: ONNX, or a program of `torch.export`.
        int8: store the weights of an ONNX file in 8 bits and compute with them.
        initial: also the estimates before refinement.
        checkpoint: which weights, last or best.

    Returns:
        The description's path, and what it says.

    Raises:
        UserError: no run, a network that makes no graph, or a file whose answers are not the network's.
    """
    if int8 and form != "onnx":
        raise UserError("--int8: is for ONNX files; leave out --format torch")
    if out.suffix == ".json":
        raise UserError(f"--out {out}: the description gets this suffix; call the file .onnx or .pt2")
    path = weights_file(run, checkpoint)
    network, size = restored_network(*read_network(path), str(path))
    network.eval().requires_grad_(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    try:
        found = _write(network, part, form, int8, initial)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    about = describe(network, size, out.name, form, initial) | {"checked": found}
    write_bytes_atomically(out.with_suffix(".json"), (json.dumps(about, indent=2) + "\n").encode())
    return out.with_suffix(".json"), about


def _write(network: Network, path: Path, form: Format, int8: bool, initial: bool) -> dict[str, Any]:
    """The file, and how far its answers are from the network's."""
    right = AnswerGraph(network, initial).eval()
    program = program_of(AnswerGraph(streamlined(network), initial))
    sizes = sizes_to_check(network.initial.multiple)
    checked: dict[str, Any] = {"images": len(sizes), "sizes": sizes}
    if form == "torch":
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
        found = differences(lambda inputs: [x.detach().numpy() for x in loaded(*inputs)], right, sizes)
        return checked | {"difference": _right(found)}
    write_onnx(program, path, [IMAGE, NOISE][: 1 if right.told is None else 2], right.outputs)
    checked["difference"] = _right(differences(onnx_runner(path), right, sizes))
    if int8:
        whole = path.with_name(f"{path.name}.whole")
        os.replace(path, whole)
        try:
            quantise(whole, path)
        finally:
            whole.unlink()
        found = differences(onnx_runner(path), right, sizes)
        checked["difference_int8"] = {name: asdict(difference) for name, difference in found.items()}
    return checked


def _right(found: Mapping[str, Difference]) -> dict[str, Any]:
    for name, difference in found.items():
        if not difference.largest <= ALLOWED * max(1.0, difference.scale):
            raise UserError(
                f"export: output '{name}' of the written file differs from the network by {difference.largest:.3g}; "
                "nothing was kept. Another --format may do, or another version of torch"
            )
    return {name: asdict(difference) for name, difference in found.items()}


def describe(
    network: Network, size: tuple[int, int] | None, file: str, form: Format, initial: bool = False
) -> dict[str, Any]:
    """All that a program without this package needs to know of a file."""
    noise = NoiseInput.of(network)
    prefixes = ["", INITIAL] if initial and network.refiner is not None else [""]
    return {
        "format": 1,
        "file": file,
        "kind": form,
        "written_by": f"diffusionmtl {version('diffusionmtl')}, torch {torch.__version__}",
        "inputs": {IMAGE: _image(network, size)} | ({} if noise is None else {NOISE: _noise(noise)}),
        "outputs": {
            prefix + task.name: _output(task, not prefix and network.refiner is not None)
            for prefix in prefixes
            for task in network.tasks
        },
    }


def _output(task: Task, refined: bool) -> dict[str, Any]:
    channels = int(task.activate(torch.zeros(1, task.channels, 1, 1)).shape[1])
    return {
        "task": task.name,
        "refined": refined,
        "shape": ["images", channels, "height", "width"],
        "unit": task.unit,
        **_yes(task, channels),
        **{key: value for key, value in task.settings().items() if key != "weight"},
    }


def _image(network: Network, size: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "type": "uint8",
        "shape": ["images", 3, "height", "width"],
        "meaning": "RGB from 0 to 255, any size; the graph normalises and pads it",
        "mean": network.initial.mean.flatten().tolist(),
        "std": network.initial.std.flatten().tolist(),
        "fit": None if size is None else [*size],
        "resample": None if size is None else "bilinear",
        "fit_meaning": None if size is None else _FIT,
    }


def _yes(task: Task, channels: int) -> dict[str, int]:
    """Which channel is the probability of yes, for a task of yes or no: found by the task's own reading."""
    one_each = torch.eye(channels)[None, :, None, :]  # pixel i is sure of channel i
    yes = task.says_yes(task.value(one_each))
    return {} if yes is None else {"yes_channel": int(yes[0, 0].int().argmax())}


def _noise(noise: NoiseInput) -> dict[str, Any]:
    rows, columns = (
        f"ceil({side} / {noise.multiple}) * {noise.multiple // noise.stride}" for side in ("height", "width")
    )
    return {
        "type": "float32",
        "shape": [noise.steps, "images", sum(noise.widths), rows, columns],
        "meaning": "standard normal; other noise is another sample, zeros are the answer without chance",
        "multiple": noise.multiple,
        "stride": noise.stride,
    }


def summary(about: Mapping[str, Any]) -> str:
    """A table for people: by output, how far the file is from the network."""
    checked = about["checked"]
    columns = {"max abs error": checked["difference"], "max, int8": checked.get("difference_int8")}
    columns |= {"mean, int8": checked.get("difference_int8")}
    shown = {name: of for name, of in columns.items() if of is not None}
    rows = []
    for name, output in about["outputs"].items():
        which = [of[name]["mean" if column.startswith("mean") else "largest"] for column, of in shown.items()]
        rows.append([name, output["unit"], *(f"{value:.2g}" for value in which)])
    table = text_table(["output", "unit", *shown], rows)
    return f"{table}\nagainst the network, on {checked['images']} random images of as many sizes"
