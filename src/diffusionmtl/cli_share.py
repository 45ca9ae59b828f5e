"""The words of `share`, `push` and `fetch`; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from collections.abc import Iterable
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.cli_data import Command


def _terms_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument(
        "--licence", type=str, default="unknown", help="of the weights, as the hub writes it: apache-2.0, cc-by-nc-4.0"
    )
    parser.add_argument("--data-licence", type=str, default="", help="of the training data, in words, for the card")


def _share_arguments(parser: ArgumentParser) -> None:
    _terms_arguments(parser)
    parser.add_argument("--out", type=str, required=True, help="zip file to write")


def _share(args: Namespace) -> int:
    from diffusionmtl.commands.share import Terms, share

    files = share(Path(args.run), Path(args.out), Terms(args.licence, args.data_licence))
    _list(files)
    print(f'{args.out}; elsewhere: diffusionmtl.load("{Path(args.out).name}")')
    return 0


def _push_arguments(parser: ArgumentParser) -> None:
    _terms_arguments(parser)
    parser.add_argument("repo", type=str, help="user/name on the Hugging Face Hub; made if there is none")
    parser.add_argument("--private", action="store_true", help="if it is made, only its owner can read it")
    parser.add_argument("--dry-run", type=str, help="write what would be pushed into this folder, and push nothing")


def _push(args: Namespace) -> int:
    from diffusionmtl.commands.share import Terms, push

    terms = Terms(args.licence, args.data_licence)
    dry_run = Path(args.dry_run) if args.dry_run else None
    where, files = push(Path(args.run), args.repo, terms, private=args.private, dry_run=dry_run)
    _list(files)
    print(f"{where}: {'what would be pushed, nothing was' if dry_run else 'pushed'}")
    return 0


def _fetch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=str, help="hf://user/name, hf://user/name@revision, or a zip file")
    parser.add_argument("--out", type=str, required=True, help="run folder to write")


def _fetch(args: Namespace) -> int:
    from diffusionmtl.commands.share import fetch

    _list(fetch(args.source, Path(args.out)))
    print(f"{args.out}: a run folder. Next: diffusionmtl predict {args.out} photo.jpg --out predictions")
    return 0


def _list(files: Iterable[str]) -> None:
    print("\n".join(files))


SHARE_COMMANDS: dict[str, Command] = {
    "share": (
        _share_arguments,
        _share,
        "Write a run as one zip file that opens elsewhere.",
        "diffusionmtl share runs/first --out first.zip",
    ),
    "push": (
        _push_arguments,
        _push,
        "Put a run on the Hugging Face Hub, with a model card.",
        "diffusionmtl push runs/first user/first --licence apache-2.0",
    ),
    "fetch": (
        _fetch_arguments,
        _fetch,
        "Make a run folder of a shared run.",
        "diffusionmtl fetch hf://user/first --out runs/first",
    ),
}
