"""The program `diffusionmtl`: parses, calls, prints.

What a command needs is imported when it runs: torch alone takes seconds, and help must not wait for it. This is the one
place where imports stand inside functions.
"""
# ruff: noqa: PLC0415

import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.config import GROUPS, DataSettings, settings_from_parsed
from diffusionmtl.errors import UserError, nearest

REPEATABLE = ("--data",)
EXTRAS = {"lightning": "train", "tensorboard": "train", "gradio": "demo", "onnx": "export", "ray": "scale"}


class _Parser(ArgumentParser):
    """Mistakes are `UserError`s, which say the nearest right word."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        line = " ".join(message.split())
        for word in line.split():
            option = word.strip("'\",.:")
            if option.startswith("--") and "nrecognized" in line:
                line += nearest(option, [name for action in self._actions for name in action.option_strings])
        raise UserError(f"{line} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except UserError as error:
        print(f"diffusionmtl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndiffusionmtl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print(f"diffusionmtl: needs {error.name}: pip install 'diffusionmtl[{extra}]'", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    words, rest = _command(arguments)
    if words is None:
        print(_overview())
        return 0
    add_arguments, call, description, example = COMMANDS[words]
    parser = _Parser(
        prog=f"diffusionmtl {words}",
        description=description,
        epilog=f"Example: {example}",
        default_env=False,
    )
    add_arguments(parser)
    return call(parser.parse_args(_gathered(rest)))


def _command(arguments: list[str]) -> tuple[str | None, list[str]]:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return None, []
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("diffusionmtl"))
        raise SystemExit(0)
    for length in (2, 1):
        words = " ".join(arguments[:length])
        if words in COMMANDS:
            return words, arguments[length:]
    if arguments[0] == "data":
        known = [name for name in COMMANDS if name.startswith("data ")]
        raise UserError(f"diffusionmtl data needs one of: {', '.join(name.split()[1] for name in known)}")
    raise UserError(f"no command '{arguments[0]}'.{nearest(arguments[0], COMMANDS)} See diffusionmtl --help")


def _overview() -> str:
    lines = ["One network for every dense task, learnt from partly labelled images.", "", "Commands:"]
    lines += [f"  {name:16}{entry[2]}" for name, entry in COMMANDS.items()]
    return "\n".join([*lines, "", "diffusionmtl COMMAND --help shows a command's options and an example."])


def _gathered(arguments: list[str]) -> list[str]:
    """`--data A --data B` as `--data A B`."""
    result = list(arguments)
    for option in REPEATABLE:
        values: list[str] = []
        rest: list[str] = []
        i = 0
        while i < len(result):
            if result[i] == option or result[i].startswith(f"{option}="):
                values += result[i].split("=", 1)[1:]
                i += 1
                while (
                    i < len(result) and not result[i].startswith("--") and "=" not in result[i - 1][: len(option) + 1]
                ):
                    values.append(result[i])
                    i += 1
            else:
                rest.append(result[i])
                i += 1
        result = [*rest, option, *values] if values else rest
    return result


def _settings(parser: ArgumentParser, *kinds: type, config: bool = True) -> None:
    """One option for every field of settings records, with the help that their docstrings give."""
    if config:
        parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these options")
    for kind in kinds:
        hints = get_type_hints(kind)
        words = {p.arg_name: p.description for p in parse_docstring(kind.__doc__ or "").params}
        for field in fields(kind):
            default = field.default if field.default is not MISSING else field.default_factory()  # pyright: ignore[reportCallIssue]
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                default=list(default) if isinstance(default, tuple) else default,
                help=(words.get(field.name) or field.name).rstrip("."),
                **_shape_of(hints[field.name]),
            )


def _shape_of(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        return {"type": inner[0], "nargs": "*" if inner[-1] is Ellipsis else len(inner)}
    return {"type": hint}


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=False, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--resume-weights", type=str, help="start from the weights of another run")
    parser.add_argument("--describe", action="store_true", help="print size and cost of the network and stop")
    _settings(parser, *GROUPS.values())


def _train(args: Namespace) -> int:
    settings = settings_from_parsed(args.as_dict())
    if args.describe:
        from diffusionmtl.commands.describe import describe

        print(describe(settings))
        return 0
    if args.out is None:
        raise UserError("--out: name the folder that the run shall live in, e.g. --out runs/first")
    from diffusionmtl.commands.train import train
    from diffusionmtl.training.run import Stopped

    try:
        start = Path(args.resume_weights) if args.resume_weights else None
        run = train(settings, Path(args.out), args.resume, start_from=start)
    except Stopped:
        print(f"\nstopped; continue with: diffusionmtl train --resume --out {args.out}", file=sys.stderr)
        return 130
    print(f"{run.root}: trained. Next: diffusionmtl evaluate {run.root} --data {' '.join(settings.data.data)}")
    return 0


def _run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, or a weights file from its checkpoints/")
    parser.add_argument("--checkpoint", type=str, default="last", help="last, or best by the loss on held-out images")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")


def _data_arguments(parser: ArgumentParser, *leave_out: str) -> None:
    words = {p.arg_name: p.description for p in parse_docstring(DataSettings.__doc__ or "").params}
    hints = get_type_hints(DataSettings)
    for field in fields(DataSettings):
        if field.name in ("data", "tasks", "size", "rooms", "rooms_val", "max_pixels") and field.name not in leave_out:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                default=None if field.name in ("data", "size") else default,
                help=(words[field.name] or "").rstrip("."),
                **_shape_of(hints[field.name]),
            )


def _data_settings(args: Namespace, run: str | None = None) -> DataSettings:
    """Data as the options name them; what they leave open is as the run had it."""
    from dataclasses import replace

    base = DataSettings()
    if run is not None:
        from diffusionmtl.inference.load import settings_of_run

        base = settings_of_run(Path(run)).data
    known = {f.name for f in fields(DataSettings)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in args.as_dict().items() if k in known and v}
    return replace(base, **given)


def _evaluate_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    _data_arguments(parser)
    parser.add_argument("--split", type=str, default="val", help="which split")
    parser.add_argument("--samples", type=int, default=1, help="noise draws per image, averaged")
    parser.add_argument("--json", type=str, help="write the scores here instead of into the run folder")


def _evaluate(args: Namespace) -> int:
    from diffusionmtl.commands.evaluate import evaluate_run, metrics_table, save_metrics
    from diffusionmtl.runfolder import RunFolder

    metrics = evaluate_run(
        Path(args.run),
        _data_settings(args, args.run),
        args.split,
        samples=args.samples,
        seed=args.seed,
        checkpoint=args.checkpoint,
        device=args.device,
    )
    target = Path(args.json) if args.json else RunFolder(Path(args.run)) if Path(args.run).is_dir() else None
    print(metrics_table(metrics))
    if target is not None:
        print(save_metrics(target, metrics))
    return 0


def _predict_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument("images", nargs="+", type=str, help="images, folders of images, globs")
    parser.add_argument("--out", type=str, required=True, help="folder for the predictions")
    parser.add_argument("--samples", type=int, default=4, help="noise draws; more than one give an uncertainty")


def _predict(args: Namespace) -> int:
    from diffusionmtl.commands.predict import predict

    pictures = predict(
        Path(args.run),
        args.images,
        Path(args.out),
        samples=args.samples,
        seed=args.seed,
        checkpoint=args.checkpoint,
        device=args.device,
    )
    print(f"{len(pictures)} image(s) predicted; look at {pictures[0]}")
    return 0


def _report_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    _data_arguments(parser)


def _report(args: Namespace) -> int:
    from diffusionmtl.commands.report import report

    print(report(Path(args.run), _data_settings(args, args.run), seed=args.seed, checkpoint=args.checkpoint))
    return 0


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for everything the demo makes")
    parser.add_argument("--fast", action="store_true", help="the same path in two minutes, too short to learn much")


def _demo(args: Namespace) -> int:
    from diffusionmtl.commands.demo import demo
    from diffusionmtl.training.run import Stopped

    try:
        table, page = demo(Path(args.out), args.fast)
    except Stopped:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(table)
    print(page)
    return 0


def _inspect_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=str, help="a partly labelled folder")
    parser.add_argument("--all", action="store_true", help="read every file instead of a sample")
    parser.add_argument("--json", type=str, help="write the findings here")
    parser.add_argument("--sheet", type=str, help="write a contact sheet (PNG) here")


def _inspect(args: Namespace) -> int:
    from diffusionmtl.commands.data import inspect_folder

    text, sound = inspect_folder(
        Path(args.folder),
        everything=args.all,
        json_file=Path(args.json) if args.json else None,
        sheet=Path(args.sheet) if args.sheet else None,
    )
    print(text)
    return 0 if sound else 2


def _partition_arguments(parser: ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument("--labels", type=str, default="one", help="one, random, full or as-found")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--out", type=str, required=True, help="partition file to write")


def _partition(args: Namespace) -> int:
    from diffusionmtl.commands.data import write_partition

    print(write_partition(_data_settings(args), args.labels, args.seed, Path(args.out)))
    return 0


def _rooms_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=True, help="folder for the data set")
    parser.add_argument("--train", type=int, default=100, help="rooms for training")
    parser.add_argument("--val", type=int, default=20, help="rooms for validation")
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], help="height and width")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rooms")
    parser.add_argument("--labels", type=str, default="full", help="leave out labels: one or random; full keeps all")


def _rooms(args: Namespace) -> int:
    from diffusionmtl.commands.data import draw_rooms_folder

    print(draw_rooms_folder(Path(args.out), args.train, args.val, (args.size[0], args.size[1]), args.seed, args.labels))
    return 0


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=str, help="a published checkpoint")
    parser.add_argument("--out", type=str, required=True, help="run folder to write")


def _import(args: Namespace) -> int:
    from diffusionmtl.commands.published import import_published

    print(import_published(Path(args.file), Path(args.out)))
    return 0


Command = tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int], str, str]

COMMANDS: dict[str, Command] = {
    "demo": (
        _demo_arguments,
        _demo,
        "Draw rooms, train a baseline and DiffusionMTL from one label per image, compare, report.",
        "diffusionmtl demo --fast",
    ),
    "train": (
        _train_arguments,
        _train,
        "Train one network on partly labelled images.",
        "diffusionmtl train --data my-data --method feature --out runs/first",
    ),
    "evaluate": (
        _evaluate_arguments,
        _evaluate,
        "Score a run on labelled images.",
        "diffusionmtl evaluate runs/first --data my-data",
    ),
    "predict": (
        _predict_arguments,
        _predict,
        "Predict every task for images.",
        "diffusionmtl predict runs/first photo.jpg --out predictions",
    ),
    "report": (
        _report_arguments,
        _report,
        "Write one self-contained page about a run.",
        "diffusionmtl report runs/first",
    ),
    "data inspect": (
        _inspect_arguments,
        _inspect,
        "Look at a data set: coverage, ranges, classes, warnings.",
        "diffusionmtl data inspect my-data --sheet sheet.png",
    ),
    "data partition": (
        _partition_arguments,
        _partition,
        "Choose which labels training may see, as a readable file.",
        "diffusionmtl data partition --data my-data --labels one --seed 1 --out one.txt",
    ),
    "data rooms": (
        _rooms_arguments,
        _rooms,
        "Draw the embedded data set as a folder.",
        "diffusionmtl data rooms --out rooms --train 100 --val 20 --labels one",
    ),
    "import": (
        _import_arguments,
        _import,
        "Turn a published checkpoint into a run.",
        "diffusionmtl import checkpoint.pth --out runs/published",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
