"""The words of `diffusionmtl export`; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.cli_data import Command


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, or a weights file from its checkpoints/")
    parser.add_argument("--out", type=str, required=True, help="file to write; its description gets the suffix .json")
    parser.add_argument(
        "--format", type=Literal["onnx", "torch"], default="onnx", help="ONNX, or a program of torch.export"
    )
    parser.add_argument("--int8", action="store_true", help="weights in 8 bits: a smaller file, answers a little off")
    parser.add_argument("--initial", action="store_true", help="also what was estimated before refinement")
    parser.add_argument(
        "--checkpoint", type=Literal["last", "best"], default="last", help="best is by the loss on held-out images"
    )


def _export(args: Namespace) -> int:
    from diffusionmtl.commands.export import export, summary

    path, about = export(
        Path(args.run),
        Path(args.out),
        args.format,
        int8=args.int8,
        initial=args.initial,
        checkpoint=args.checkpoint,
    )
    print(summary(about))
    print(f"{args.out}; {path} says what it takes and gives")
    return 0


EXPORT_COMMANDS: dict[str, Command] = {
    "export": (
        _export_arguments,
        _export,
        "Write a network as ONNX or as a program of torch, checked against it.",
        "diffusionmtl export runs/first --out first.onnx",
    ),
}
