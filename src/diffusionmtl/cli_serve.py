"""The words of `diffusionmtl serve`; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import PositiveFloat, PositiveInt, restricted_number_type

from diffusionmtl.arguments import add_settings
from diffusionmtl.cli_data import EVALUATED_DATA, Command, data_settings
from diffusionmtl.config import DataSettings

_OF_DATA = tuple(name for name in EVALUATED_DATA if name != "max_pixels")
_EXAMPLES_FROM = {
    "data": "where examples to try and the images to review come from; what the run was trained on if left out",
    "tasks": "tasks of that data that suggestions are reviewed for; those of the run if left out",
    "size": "height and width at which rooms are drawn as examples; the run's if left out",
    "rooms": "how many rooms to draw if suggestions for them are reviewed",
    "rooms_val": "how many rooms to draw as examples",
}
_Port = restricted_number_type("Port", int, [(">=", 1), ("<=", 65535)])


def _serve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, or a weights file from its checkpoints/")
    parser.add_argument(
        "--checkpoint", type=Literal["last", "best"], default="last", help="best is by the loss on held-out images"
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")
    parser.add_argument(
        "--precision", type=Literal["fp32", "bf16"], default="fp32", help="bf16 is for processors that have it"
    )
    parser.add_argument(
        "--host", type=str, default="127.0.0.1", help="address to listen on; 127.0.0.1 is this machine alone"
    )
    parser.add_argument("--port", type=_Port, default=7860, help="port to listen on")
    parser.add_argument(
        "--names", type=str, nargs="+", default=[], help="host names that a reverse proxy passes on, or others use"
    )
    parser.add_argument("--review", type=str, help="folder that complete or suggest wrote: adds a tab to review it")
    parser.add_argument(
        "--examples", type=str, nargs="+", default=[], help="images, folders, globs; some of the run's if left out"
    )
    parser.add_argument("--max-samples", type=PositiveInt, default=16, help="noise draws that one request may ask for")
    parser.add_argument("--max-mb", type=PositiveFloat, default=20.0, help="megabytes that one request may send")
    parser.add_argument("--max-pixels", type=PositiveInt, default=24_000_000, help="pixels of an image")
    parser.add_argument("--seconds", type=PositiveFloat, default=120.0, help="until a request is given up")
    parser.add_argument("--waiting", type=PositiveInt, default=16, help="requests that may wait for their turn")
    add_settings(parser, DataSettings, _OF_DATA, default_none=True, helps=_EXAMPLES_FROM)


def _serve(args: Namespace) -> int:
    from diffusionmtl.commands.serve import Address, Served, serve
    from diffusionmtl.serve.limits import Limits

    limits = Limits(
        size=int(args.max_mb * 1e6),
        pixels=int(args.max_pixels),
        samples=int(args.max_samples),
        seconds=float(args.seconds),
        waiting=int(args.waiting),
    )
    served = Served(
        Path(args.run),
        data_settings(args, args.run),
        review=Path(args.review) if args.review else None,
        examples=tuple(args.examples),
    )
    serve(
        served,
        Address(args.host, int(args.port), tuple(args.names)),
        limits,
        checkpoint=args.checkpoint,
        device=args.device,
        precision=args.precision,
    )
    return 0


SERVE_COMMANDS: dict[str, Command] = {
    "serve": (
        _serve_arguments,
        _serve,
        "Open a web page that predicts what you drop on it, and the same for programs.",
        "diffusionmtl serve runs/first",
    ),
}
