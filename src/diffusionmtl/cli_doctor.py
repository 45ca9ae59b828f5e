"""The words of `diffusionmtl doctor`; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.cli_data import Command


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--no-self-test", action="store_true", help="leave out the self-test of some seconds")


def _doctor(args: Namespace) -> int:
    import json

    from diffusionmtl.commands.diagnosis_text import diagnosis_text
    from diffusionmtl.commands.doctor import examine

    found = examine(test=not args.no_self_test)
    print(json.dumps(found.plain(), indent=2) if args.json else diagnosis_text(found))
    return 0 if found.well else 1


DOCTOR_COMMANDS: dict[str, Command] = {
    "doctor": (
        _doctor_arguments,
        _doctor,
        "Say what is installed, what is missing for what, and whether it works here.",
        "diffusionmtl doctor",
    ),
}
