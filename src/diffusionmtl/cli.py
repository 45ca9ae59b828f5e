"""The program `diffusionmtl`: parses, calls, prints.

What a command needs is imported when it runs: torch alone takes seconds, and help must not wait for it. This is the one
place where imports stand inside functions.
"""
# ruff: noqa: PLC0415

import errno
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import NonNegativeInt, PositiveInt

from diffusionmtl.arguments import CONFIG, Parser, add_settings, parsed
from diffusionmtl.cli_data import DATA_COMMANDS, EVALUATED_DATA, Command, data_settings
from diffusionmtl.cli_export import EXPORT_COMMANDS
from diffusionmtl.cli_trust import instead_of_scores, trust_arguments, uncertainty_arguments
from diffusionmtl.config import GROUPS, DataSettings, settings_from_parsed
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.processes import is_first

EXTRAS = {"lightning": "train", "tensorboard": "train", "gradio": "demo", "ray": "scale"}
EXTRAS |= dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export")
# What a disk or its owner answers; other errors of the operating system are mistakes of this program.
NOT_OURS = {
    getattr(errno, name)
    for name in "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG EIO EEXIST EISDIR ENOTDIR ENAMETOOLONG".split()
    if hasattr(errno, name)
}
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
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"diffusionmtl: {where}{error.strerror}; make room there or choose another place", file=sys.stderr)
        return 2
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
    parser = Parser(
        prog=f"diffusionmtl {words}",
        description=description,
        epilog=f"Example: {example}",
        default_env=False,
    )
    add_arguments(parser)
    parser.add_argument(CONFIG, type=str, help="YAML file with any of these options")
    return call(parsed(parser, rest))


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
        print(f"{run.root}: trained. Next: diffusionmtl evaluate {run.root} --data {' '.join(settings.data.data)}")
    return 0


def _run_arguments(parser: ArgumentParser, required: bool = True) -> None:
    nargs = None if required else "?"
    parser.add_argument("run", type=str, nargs=nargs, help="run folder, or a weights file from its checkpoints/")
    parser.add_argument(
        "--checkpoint", type=Literal["last", "best"], default="last", help="best is by the loss on held-out images"
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="seed of the noise")


def _precision_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision", type=Literal["fp32", "bf16"], default="fp32", help="bf16 is for processors that have it"
    )


def _evaluate_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser, required=False)
    _precision_argument(parser)
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)
    parser.add_argument("--split", type=str, default="val", help="which split")
    parser.add_argument(
        "--samples", type=PositiveInt, help="noise draws per image, averaged; 1, or 4 to measure uncertainty"
    )
    parser.add_argument("--reference", type=str, help="an evaluated run: adds the gain over it, Δm")
    parser.add_argument("--json", type=str, help="write the scores here instead of into the run folder")
    parser.add_argument("--images", type=str, help="score only the images that this file names, one a line")
    parser.add_argument(
        "--predictions", type=str, help="score files of any program, TASK/IMAGE.png or .npy, instead of a run"
    )
    parser.add_argument("--allow-missing", action="store_true", help="leave out images without a prediction")
    parser.add_argument("--annotators", type=str, help="boundaries by several people, TASK/IMAGE/*.png (BSDS)")
    parser.add_argument("--jobs", type=PositiveInt, default=1, help="processes that score; boundaries take longest")
    uncertainty_arguments(parser)
    trust_arguments(parser)


def _evaluate_predictions(args: Namespace) -> int:
    from diffusionmtl.commands.evaluate import metrics_table, save_metrics
    from diffusionmtl.commands.rescore import evaluate_predictions

    if args.run is not None:
        raise UserError(f"--predictions {args.predictions}: scores files, so leave out the run {args.run}")
    if not args.data:
        raise UserError("--data: name the data that the predictions are to be compared with")
    metrics = evaluate_predictions(
        Path(args.predictions),
        data_settings(args),
        args.split,
        images=Path(args.images) if args.images else None,
        allow_missing=args.allow_missing,
        annotators=Path(args.annotators) if args.annotators else None,
        jobs=args.jobs,
    )
    print(metrics_table(metrics))
    if args.json:
        print(save_metrics(Path(args.json), metrics))
    return 0


def _evaluate(args: Namespace) -> int:
    if args.predictions is not None:
        return _evaluate_predictions(args)
    if args.run is None:
        raise UserError("name a run folder, or a folder of predictions with --predictions")
    return 0 if instead_of_scores(args) else _score(args)


def _score(args: Namespace) -> int:
    from diffusionmtl.commands.beside_print import beside_print_text
    from diffusionmtl.commands.evaluate import evaluate_run, metrics_table, save_metrics
    from diffusionmtl.runfolder import RunFolder

    metrics = evaluate_run(
        Path(args.run),
        data_settings(args, args.run),
        args.split,
        samples=args.samples or 1,
        seed=args.seed,
        checkpoint=args.checkpoint,
        device=args.device,
        noise_scale=args.noise_scale,
        precision=args.precision,
        reference=Path(args.reference) if args.reference else None,
        images=Path(args.images) if args.images else None,
        jobs=args.jobs,
        per_image=None if args.json or not Path(args.run).is_dir() else RunFolder(Path(args.run)).per_image,
    )
    target = Path(args.json) if args.json else RunFolder(Path(args.run)) if Path(args.run).is_dir() else None
    print(metrics_table(metrics))
    if beside := beside_print_text(Path(args.run), metrics):
        print(beside)
    if target is not None:
        print(save_metrics(target, metrics))
    return 0


def _predict_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    _precision_argument(parser)
    parser.add_argument("images", nargs="+", type=str, help="images, videos, folders of them, globs")
    parser.add_argument("--out", type=str, required=True, help="folder for the predictions")
    parser.add_argument("--samples", type=PositiveInt, default=4, help="noise draws; more than one give an uncertainty")
    parser.add_argument(
        "--tile", type=PositiveInt, nargs=2, help="H W: see images at their own resolution, in overlapping tiles"
    )
    parser.add_argument(
        "--overlap", type=NonNegativeInt, help="pixels that tiles share; a quarter of a tile if left out"
    )
    parser.add_argument("--flip", action="store_true", help="see the mirror image too and take the mean")
    parser.add_argument("--every", type=PositiveInt, default=1, help="predict each n-th frame of a video")
    parser.add_argument("--resume", action="store_true", help="leave out what was predicted with the same settings")
    trust_arguments(parser)
    add_settings(parser, DataSettings, ("max_pixels",))


def _predict(args: Namespace) -> int:
    from diffusionmtl.commands.predict import Request, predict
    from diffusionmtl.inference.tiles import Tiling

    tiling = None
    if args.tile is not None:
        overlap = min(args.tile) // 4 if args.overlap is None else args.overlap
        if overlap > min(args.tile) / 2:
            raise UserError(f"--overlap {overlap}: more than half of a tile; at most {min(args.tile) // 2} fits --tile")
        tiling = Tiling((args.tile[0], args.tile[1]), overlap)
    elif args.overlap is not None:
        raise UserError(f"--overlap {args.overlap}: means nothing without --tile H W")
    try:
        pictures = predict(
            Path(args.run),
            args.images,
            Path(args.out),
            Request(args.samples, args.seed, tiling, args.flip),
            checkpoint=args.checkpoint,
            device=args.device,
            max_pixels=args.max_pixels,
            every=args.every,
            resume=args.resume,
            noise_scale=args.noise_scale,
            precision=args.precision,
            calibrated=not args.uncalibrated,
        )
    except KeyboardInterrupt:
        print("\nstopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    print(f"{len(pictures)} image(s) predicted; look at {pictures[0]}")
    return 0


def _complete_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)
    parser.add_argument("--out", type=str, required=True, help="folder of the completed data set")
    parser.add_argument(
        "--precision", type=float, default=0.95, help="share of the kept pixels that shall be right on held-out labels"
    )
    parser.add_argument(
        "--threshold", type=str, nargs="+", default=[], help="TASK=CONFIDENCE: keep from there on, whatever is right"
    )
    parser.add_argument("--samples", type=PositiveInt, default=4, help="noise draws per image")
    parser.add_argument("--flip", type=bool, default=True, help="see the mirror images too")
    parser.add_argument("--shown", type=NonNegativeInt, default=200, help="images on the review pages")
    parser.add_argument("--resume", action="store_true", help="go on in --out")


def _complete(args: Namespace) -> int:
    from diffusionmtl.commands.complete import complete, completed_table, parse_thresholds
    from diffusionmtl.inference.complete import Asked

    if not 0 < args.precision <= 1:
        raise UserError(f"--precision {args.precision:g}: is a share, more than 0 and at most 1; 0.95 for instance")
    thresholds = parse_thresholds(args.threshold)
    try:
        manifest = complete(
            Path(args.run),
            data_settings(args, args.run),
            Path(args.out),
            Asked(args.precision, thresholds, args.samples, args.seed, args.flip),
            checkpoint=args.checkpoint,
            device=args.device,
            resume=args.resume,
            shown=args.shown,
        )
    except KeyboardInterrupt:
        print("\nstopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    print(completed_table(manifest))
    print(Path(args.out) / manifest["review"][0])
    print(f"Next: diffusionmtl train --data {args.out} --labels completed --out RUN")
    return 0


def _report_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)


def _report(args: Namespace) -> int:
    from diffusionmtl.commands.report import report

    print(report(Path(args.run), data_settings(args, args.run), seed=args.seed, checkpoint=args.checkpoint))
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
    for kind in GROUPS.values():
        add_settings(parser, kind, [f.name for f in fields(kind) if f.name not in COMPARED])


def _compare(args: Namespace) -> int:
    from diffusionmtl.commands.compare import Plan, compare
    from diffusionmtl.commands.variants import choose_variants
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
    )
    try:
        comparison = compare(plan, Path(args.out), args.jobs)
    except Stopped:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(Path(args.out) / "comparison.md")
    failed = [row for row in comparison.rows if not row.done]
    for row in failed:
        print(f"{row.labels}/{row.method}/seed{row.seed} failed: {row.reason}", file=sys.stderr)
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
    "complete": (
        _complete_arguments,
        _complete,
        "Write the labels that a run missed as a data set, beside those that it had.",
        "diffusionmtl complete runs/first --data my-data --out my-data-completed",
    ),
    "report": (
        _report_arguments,
        _report,
        "Write one self-contained page about a run.",
        "diffusionmtl report runs/first",
    ),
    "compare": (
        _compare_arguments,
        _compare,
        "Train and score methods, label settings and seeds alike; one table with spread and gain.",
        "diffusionmtl compare --data my-data --methods singletask multitask feature --seeds 0 1 2 --out runs/compared",
    ),
    **EXPORT_COMMANDS,
    **DATA_COMMANDS,
    "import": (
        _import_arguments,
        _import,
        "Turn a published checkpoint into a run.",
        "diffusionmtl import checkpoint.pth --out runs/published",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
