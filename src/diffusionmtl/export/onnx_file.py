"""ONNX files: written from a program, run, and made smaller. Needs the extra `export`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  the exporter of torch needs it: missed here, it is missed by its name
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor
from torch.export import ExportedProgram

Runner = Callable[[Sequence[Tensor]], list[np.ndarray]]
LARGEST_FILE = 2_000_000_000


def write_onnx(program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """One file; weights of more than 2 GB, which no ONNX file can hold, lie beside it."""
    written = torch.onnx.export(
        program, (), dynamo=True, input_names=[*inputs], output_names=[*outputs], verbose=False, optimize=True
    )
    assert written is not None
    size = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    written.save(str(path), external_data=size > LARGEST_FILE)
    onnx.checker.check_model(str(path))


def quantise(source: Path, path: Path) -> None:
    """Weights of convolutions and matrix products in 8 bits; ranges of activations are found as the file runs."""
    quantize_dynamic(str(source), str(path), weight_type=QuantType.QUInt8)


def onnx_runner(path: Path) -> Runner:
    """Runs a file with as many threads as torch may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[np.ndarray]:
        fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [np.asarray(found) for found in session.run(None, fed)]

    return run
