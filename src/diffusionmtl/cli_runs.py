"""The words of what is done with a trained run; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from diffusionmtl.arguments import add_settings
from diffusionmtl.cli_data import EVALUATED_DATA, Command, data_settings
from diffusionmtl.cli_trust import instead_of_scores, trust_arguments, uncertainty_arguments
from diffusionmtl.config import DataSettings
from diffusionmtl.errors import UserError

if TYPE_CHECKING:
    from diffusionmtl.inference.tiles import Tiling
    from diffusionmtl.scale.pool import Cluster


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


def _ray_arguments(parser: ArgumentParser, more: str = "") -> None:
    parser.add_argument("--ray", type=str, help=f"by Ray's workers: local, auto, or HOST:PORT of a cluster{more}")
    parser.add_argument("--workers", type=PositiveInt, help="of --ray; one per processor, or per GPU, if left out")


def _cluster(args: Namespace) -> "Cluster | None":
    if args.ray is None:
        if args.workers is not None:
            raise UserError(f"--workers {args.workers}: means nothing without --ray; add --ray local")
        return None
    from diffusionmtl.scale.pool import Cluster

    return Cluster(args.ray, args.workers, gpu=args.device.startswith("cuda"))


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
    if target is None or args.json:
        print(f"Next: diffusionmtl predict {args.run} photo.jpg --out predictions")
    else:
        print(f"Next: diffusionmtl report {args.run}")
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
    _ray_arguments(parser, "; images may be URLs then")
    trust_arguments(parser)
    add_settings(parser, DataSettings, ("max_pixels",))


def _predict(args: Namespace) -> int:
    tiling = None
    if args.tile is not None:
        from diffusionmtl.inference.tiles import Tiling

        overlap = min(args.tile) // 4 if args.overlap is None else args.overlap
        if overlap > min(args.tile) / 2:
            raise UserError(f"--overlap {overlap}: more than half of a tile; at most {min(args.tile) // 2} fits --tile")
        tiling = Tiling((args.tile[0], args.tile[1]), overlap)
    elif args.overlap is not None:
        raise UserError(f"--overlap {args.overlap}: means nothing without --tile H W")
    cluster = _cluster(args)
    try:
        pictures = _predicted(args, tiling, cluster)
    except KeyboardInterrupt:
        print("\nstopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    print(f"{len(pictures)} image(s) predicted; look at {pictures[0]}")
    return 0


def _predicted(args: Namespace, tiling: "Tiling | None", cluster: "Cluster | None") -> list[Path]:
    from diffusionmtl.commands.predict import Plan, Request, predict

    run, out, request = Path(args.run), Path(args.out), Request(args.samples, args.seed, tiling, args.flip)
    words = dict(
        checkpoint=args.checkpoint,
        device=args.device,
        max_pixels=args.max_pixels,
        every=args.every,
        resume=args.resume,
        noise_scale=args.noise_scale,
        precision=args.precision,
        calibrated=not args.uncalibrated,
    )
    if cluster is None:
        return predict(run, args.images, out, request, **words)
    from diffusionmtl.commands.predict_on_ray import predict_on_ray

    return predict_on_ray(Plan(run, out, request, **words), args.images, cluster)


def _complete_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)
    parser.add_argument("--out", type=str, required=True, help="folder of the completed data set")
    parser.add_argument("--split", type=str, default="train", help="which split; thresholds are found in train")
    parser.add_argument(
        "--precision", type=float, default=0.95, help="share of the kept pixels that shall be right on other images"
    )
    parser.add_argument(
        "--threshold", type=str, nargs="+", default=[], help="TASK=CONFIDENCE: keep from there on, whatever is right"
    )
    parser.add_argument("--samples", type=PositiveInt, default=4, help="noise draws per image")
    parser.add_argument("--flip", type=bool, default=True, help="see the mirror images too")
    parser.add_argument("--uncalibrated", action="store_true", help="leave out the run's calibration.json")
    parser.add_argument("--shown", type=NonNegativeInt, default=200, help="images on the review pages")
    parser.add_argument("--resume", action="store_true", help="go on in --out")
    _ray_arguments(parser)


def _complete(args: Namespace) -> int:
    from diffusionmtl.commands.complete import complete, completed_table, parse_thresholds
    from diffusionmtl.commands.completed_files import SPLIT
    from diffusionmtl.inference.complete import Asked

    if not 0 < args.precision <= 1:
        raise UserError(f"--precision {args.precision:g}: is a share, more than 0 and at most 1; 0.95 for instance")
    thresholds = parse_thresholds(args.threshold)
    cluster = _cluster(args)
    try:
        manifest = complete(
            Path(args.run),
            data_settings(args, args.run),
            Path(args.out),
            Asked(args.precision, thresholds, args.samples, args.seed, args.flip),
            checkpoint=args.checkpoint,
            device=args.device,
            calibrated=not args.uncalibrated,
            resume=args.resume,
            shown=args.shown,
            cluster=cluster,
            split=args.split,
        )
    except KeyboardInterrupt:
        print("\nstopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    print(completed_table(manifest))
    print(Path(args.out) / manifest["review"][0])
    if args.split != SPLIT:
        print(f"Next: diffusionmtl serve {args.run} --review {args.out}")
    elif any(said["labels"] for said in manifest["tasks"].values()):
        print(f"Next: diffusionmtl train --data {args.out} --labels completed --out RUN")
    return 0


def _suggest_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)
    parser.add_argument("--out", type=str, required=True, help="new folder for the suggestions")
    parser.add_argument("--budget", type=PositiveFloat, default=100.0, help="how many pairs, or what they may cost")
    parser.add_argument(
        "--price", type=str, nargs="+", default=[], help="TASK=PRICE of a label; 1 if a task is left out"
    )
    parser.add_argument(
        "--by",
        type=Literal["gain", "diversity", "uncertainty", "random"],
        default="gain",
        help="gain is doubt that a label speaks for; the others are for comparison",
    )
    parser.add_argument(
        "--labels", type=str, help="what is labelled: as-found or a partition file; what the run saw if left out"
    )
    parser.add_argument("--samples", type=PositiveInt, default=4, help="noise draws per image")
    parser.add_argument("--flip", type=bool, default=True, help="see the mirror images too")
    parser.add_argument("--uncalibrated", action="store_true", help="leave out the run's calibration.json")
    parser.add_argument("--shown", type=NonNegativeInt, default=40, help="images on the page")


def _suggest(args: Namespace) -> int:
    from diffusionmtl.commands.suggest import Asked, parse_prices, suggest, suggestions_table
    from diffusionmtl.commands.suggested_files import PAGE, PARTITION
    from diffusionmtl.inference.doubt import Draws

    asked = Asked(float(args.budget), parse_prices(args.price), args.by, Draws(args.samples, args.seed, args.flip))
    data = data_settings(args, args.run)
    found = suggest(
        Path(args.run),
        data,
        Path(args.out),
        asked,
        labels=args.labels,
        checkpoint=args.checkpoint,
        device=args.device,
        calibrated=not args.uncalibrated,
        shown=args.shown,
    )
    print(suggestions_table(found))
    print(Path(args.out) / PAGE)
    labels = Path(args.out) / PARTITION
    print(f"Next: annotate them, then diffusionmtl train --data {' '.join(data.data)} --labels {labels} --out RUN")
    return 0


def _report_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument(
        "--surveyed",
        type=NonNegativeInt,
        default=24,
        help="images per task that confusion, scatter and reliability are counted over; 0 leaves them out",
    )
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True)


def _report(args: Namespace) -> int:
    from diffusionmtl.commands.report import PictureSettings, report

    pictures = PictureSettings(surveyed=args.surveyed, seed=args.seed, checkpoint=args.checkpoint, device=args.device)
    print(report(Path(args.run), data_settings(args, args.run), pictures))
    return 0


RUN_COMMANDS: dict[str, Command] = {
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
    "suggest": (
        _suggest_arguments,
        _suggest,
        "Say which labels of which images to make next, for a budget.",
        "diffusionmtl suggest runs/first --data my-data --budget 100 --out next",
    ),
    "report": (
        _report_arguments,
        _report,
        "Write one self-contained page about a run.",
        "diffusionmtl report runs/first",
    ),
}
