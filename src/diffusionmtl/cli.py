"""The program `diffusionmtl`: parses, calls, prints.

What a command needs is imported when it runs: torch alone takes seconds, and help must not wait for it. This is the one
place where imports stand inside functions.
"""
# ruff: noqa: PLC0415

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import NonNegativeInt, PositiveInt

from diffusionmtl.arguments import CONFIG, PRESET, Parser, add_settings, parsed
from diffusionmtl.cli_data import DATA_COMMANDS, Command
from diffusionmtl.cli_doctor import DOCTOR_COMMANDS
from diffusionmtl.cli_export import EXPORT_COMMANDS
from diffusionmtl.cli_failures import explained
from diffusionmtl.cli_runs import RUN_COMMANDS
from diffusionmtl.cli_serve import SERVE_COMMANDS
from diffusionmtl.cli_share import SHARE_COMMANDS
from diffusionmtl.config import GROUPS, settings_from_parsed
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.processes import is_first

COMPARED = ("method", "labels", "label_seed", "seed")


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
    except Exception as error:
        said = explained(error, _options(arguments))
        if said is None:
            raise
        print(f"diffusionmtl: {said}", file=sys.stderr)
        return 2


def _options(arguments: list[str]) -> list[str]:
    words, _ = _command(arguments)
    return [] if words is None else list(command_parser(words)._option_string_actions)


def _run(arguments: list[str]) -> int:
    words, rest = _command(arguments)
    if words is None:
        print(_overview())
        return 0
    return COMMANDS[words][1](parsed(command_parser(words), rest))


def command_parser(words: str) -> Parser:
    """The parser of a command, under the words that call it."""
    add_arguments, _, description, example = COMMANDS[words]
    parser = Parser(
        prog=f"diffusionmtl {words}",
        description=description,
        epilog=f"Example: {example}",
        default_env=False,
    )
    add_arguments(parser)
    words_from = "YAML file with any of these options, or the name of one that comes with the package, e.g. lite"
    parser.add_argument(CONFIG, PRESET, type=str, help=words_from)
    return parser


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


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=False, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--resume-weights", type=str, help="start from the weights of another run")
    parser.add_argument("--describe", action="store_true", help="print size and cost of the network and stop")
    for kind in GROUPS.values():
        add_settings(parser, kind)


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
        if not is_first(settings.train.processes):
            return 0
        print(f"\nstopped; continue with: diffusionmtl train --resume --out {args.out}", file=sys.stderr)
        return 130
    if is_first(settings.train.processes):
        print(f"{run.root}: trained. Next: diffusionmtl evaluate {run.root}")
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


def _compare_arguments(parser: Parser) -> None:
    parser.passed_over = ("--method", "--seed")
    parser.add_argument("--out", type=str, required=False, help="folder of the comparison; called again, it goes on")
    parser.add_argument(
        "--methods",
        type=str,
        nargs="*",
        default=["singletask", "multitask", "prediction", "feature"],
        help="methods as train names them, without-diffusion, without-conditioning, names from --variants, and each of "
        "them with all labels as full-METHOD",
    )
    parser.add_argument("--labels", type=str, nargs="+", default=["one"], help="label settings, as train names them")
    parser.add_argument("--seeds", type=NonNegativeInt, nargs="+", default=[0], help="one run of everything per seed")
    parser.add_argument("--ablate", type=Literal["feature", "prediction"], default="feature", help="whose ablations")
    parser.add_argument("--variants", type=str, help="YAML file, name: {setting: value, ...} per line")
    parser.add_argument("--jobs", type=PositiveInt, default=1, help="runs at once, with one thread each if several")
    parser.add_argument("--label-seed", type=NonNegativeInt, help="one partition for all seeds; else one per seed")
    parser.add_argument("--split", type=str, default="val", help="scored split")
    parser.add_argument("--samples", type=PositiveInt, default=1, help="noise draws per image, averaged")
    parser.add_argument("--checkpoint", type=Literal["last", "best"], default="last", help="scored weights")
    parser.add_argument("--images", type=str, help="score only the images that this file names, one a line")
    for kind in GROUPS.values():
        add_settings(parser, kind, [f.name for f in fields(kind) if f.name not in COMPARED])


def _compare(args: Namespace) -> int:
    from diffusionmtl.commands.compare import Plan, compare
    from diffusionmtl.commands.variants import choose_variants
    from diffusionmtl.report.comparison_text import few_seeds
    from diffusionmtl.training.run import Stopped

    if args.out is None:
        raise UserError("--out: name the folder of the comparison, e.g. --out runs/compared")
    given = args.as_dict()
    plan = Plan(
        settings_from_parsed({word: value for word, value in given.items() if word not in COMPARED}),
        choose_variants(args.methods, args.ablate, Path(args.variants) if args.variants else None),
        tuple(args.labels),
        tuple(int(seed) for seed in args.seeds),
        None if args.label_seed is None else int(args.label_seed),
        args.split,
        args.samples,
        args.checkpoint,
        Path(args.images) if args.images else None,
    )
    try:
        comparison = compare(plan, Path(args.out), args.jobs)
    except Stopped:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(Path(args.out) / "comparison.md")
    failed = [row for row in comparison.rows if not row.done]
    for row in failed:
        print(f"{row.labels}/{row.method}/seed{row.seed} {row.state}: {row.reason}", file=sys.stderr)
    if few := few_seeds(comparison):
        print(f"warning: {few}")
    return 1 if failed else 0


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=str, help="a published checkpoint")
    parser.add_argument(
        "--tasks", type=str, nargs="*", default=[], help="NAME=KIND for tasks of your own, lanes=boundary"
    )
    parser.add_argument("--out", type=str, required=True, help="run folder to write")


def _import(args: Namespace) -> int:
    from diffusionmtl.commands.published import import_published

    print(import_published(Path(args.file), Path(args.out), args.tasks))
    return 0


def _completion_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", type=Literal["bash", "zsh", "fish"], help="which shell the script is for")


def _completion(args: Namespace) -> int:
    from diffusionmtl.commands.completion import completion_script

    print(completion_script(args.shell, {words: command_parser(words) for words in COMMANDS}))
    return 0


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
    **RUN_COMMANDS,
    "compare": (
        _compare_arguments,
        _compare,
        "Train and score methods, label settings and seeds alike; one table with spread and gain.",
        "diffusionmtl compare --data my-data --methods singletask multitask feature --seeds 0 1 2 --out runs/compared",
    ),
    **EXPORT_COMMANDS,
    **SERVE_COMMANDS,
    **SHARE_COMMANDS,
    **DATA_COMMANDS,
    "import": (
        _import_arguments,
        _import,
        "Turn a published checkpoint into a run.",
        "diffusionmtl import checkpoint.pth --out runs/published",
    ),
    **DOCTOR_COMMANDS,
    "completion": (
        _completion_arguments,
        _completion,
        "Print a script that completes these commands in your shell.",
        "diffusionmtl completion bash",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
