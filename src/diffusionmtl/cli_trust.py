"""The words about noise, uncertainty and calibration; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import NonNegativeFloat

from diffusionmtl.cli_data import data_settings
from diffusionmtl.errors import UserError


def trust_arguments(parser: ArgumentParser) -> None:
    """How strong the noise is, and whether a calibration is used."""
    parser.add_argument("--noise-scale", type=NonNegativeFloat, default=1.0, help="strength of the noise, 1 as trained")
    parser.add_argument("--uncalibrated", action="store_true", help="leave out the calibration.json of the run")


def uncertainty_arguments(parser: ArgumentParser) -> None:
    """What `evaluate` does instead of scoring."""
    parser.add_argument(
        "--uncertainty", action="store_true", help="measure whether uncertainties find errors and come true, instead"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="find on held-out labels what makes uncertainties come true, first"
    )
    parser.add_argument("--ensemble", type=str, nargs="+", default=[], help="with --uncertainty: further runs as draws")


def instead_of_scores(args: Namespace) -> bool:
    """Calibrate, measure uncertainties, or both, if that was asked for; whether it was.

    Raises:
        UserError: words that do not go together.
    """
    if args.ensemble and not args.uncertainty:
        raise UserError("--ensemble: means nothing without --uncertainty")
    if args.calibrate or args.uncertainty:
        for word, given in (("reference", args.reference), ("precision bf16", args.precision == "bf16")):
            if given:
                raise UserError(f"--{word}: is for scores; leave it out with --calibrate and --uncertainty")
    if args.calibrate:
        _calibrate(args)
    if args.uncertainty:
        _measure(args)
    return args.calibrate or args.uncertainty


def _calibrate(args: Namespace) -> None:
    from diffusionmtl.commands.calibrate import DEFAULT_SAMPLES, calibrate_run, calibration_table

    path, found = calibrate_run(
        Path(args.run),
        data_settings(args, args.run),
        samples=args.samples or DEFAULT_SAMPLES,
        seed=args.seed,
        checkpoint=args.checkpoint,
        device=args.device,
        noise_scale=args.noise_scale,
    )
    print(calibration_table(found))
    print(path)


def _measure(args: Namespace) -> None:
    from diffusionmtl.commands.uncertainty import (
        DEFAULT_SAMPLES,
        FILE_STEM,
        Looked,
        about_measurement,
        evaluate_uncertainty,
        save_uncertainty,
        uncertainty_table,
    )

    run, data = Path(args.run), data_settings(args, args.run)
    looked = Looked(
        args.samples or DEFAULT_SAMPLES,
        args.seed,
        args.checkpoint,
        args.device,
        args.noise_scale,
        not args.uncalibrated,
        tuple(map(Path, args.ensemble)),
    )
    found = evaluate_uncertainty(run, data, args.split, looked, Path(args.images) if args.images else None)
    print(uncertainty_table(found, 1 + len(looked.ensemble)))
    target = Path(args.json) if args.json else run / f"{FILE_STEM}.json" if run.is_dir() else None
    if target is not None:
        about = about_measurement(run, data, args.split, looked)
        title = f"How sure and how right: {' '.join([run.name, *(Path(p).name for p in args.ensemble)])}"
        for path in save_uncertainty(target, f"{title} on {' '.join(data.data)} ({args.split})", found, about):
            print(path)
