"""The words of `diffusionmtl data ...`; what `cli` says of imports inside functions holds here too."""
# ruff: noqa: PLC0415

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import NonNegativeInt, PositiveInt

from diffusionmtl.arguments import Parser, add_settings
from diffusionmtl.config import DataSettings
from diffusionmtl.errors import UserError

Command = tuple[Callable[[Parser], None], Callable[[Namespace], int], str, str]
"""Adds its words to a parser, runs, says what it is for, and shows an example."""

_DRAWN = {
    "size": "height and width at which rooms are drawn; files are taken as they are",
    "rooms": "how many rooms to draw as train",
    "rooms_val": "how many rooms to draw as val",
}
_INSPECTED = {"tasks": "look at the labels of these tasks only; of all if none is named"} | _DRAWN
_CHOSEN = {"tasks": "choose among the labels of these tasks only; of all if none is named"} | _DRAWN
_PACKED = {"tasks": "pack the labels of these tasks only; of all if none is named"} | _DRAWN
EVALUATED_DATA = ("data", "root", "tasks", "size", "rooms", "rooms_val", "rooms_seed", "max_pixels")


def data_settings(args: Namespace, run: str | None = None) -> DataSettings:
    """Data as the options name them; what they leave open is as the run had it."""
    base = DataSettings()
    if run is not None:
        from diffusionmtl.inference.load import settings_of_run

        base = settings_of_run(Path(run)).data
    known = {f.name for f in fields(DataSettings)} - {"labels"}
    given = args.as_dict().items()
    return replace(base, **{k: tuple(v) if isinstance(v, list) else v for k, v in given if k in known and v})


def _arrange_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=str, required=True, help="folder of the images, and of folders of them")
    parser.add_argument(
        "--labels",
        type=str,
        nargs="+",
        action="extend",
        required=True,
        help="TASK=FOLDER of the labels of a task, named as the images are; as often as there are tasks",
    )
    parser.add_argument(
        "--val", type=float, default=0.2, help="share of the labelled images to put aside for evaluate; 0 makes no val"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="another seed puts other images aside")
    parser.add_argument(
        "--link", action="store_true", help="second names of the same files, where the disk can, instead of copies"
    )
    parser.add_argument("--out", type=str, required=True, help="new folder for the data set")


def _arrange(args: Namespace) -> int:
    from diffusionmtl.commands.arrange import arrange, parse_labels

    labels = parse_labels(args.labels)
    print(arrange(Path(args.images), labels, Path(args.out), args.val, args.seed, args.link))
    print("It has no dataset.yaml yet, which says what the labels mean; the next command suggests one.")
    print(f"Next: diffusionmtl data inspect {args.out}")
    return 0


def _inspect_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", type=str, nargs="?", help="a folder, rooms, or a benchmark; the same as --data")
    parser.add_argument("--all", action="store_true", help="read every file instead of a sample")
    parser.add_argument("--json", type=str, help="write the findings here")
    parser.add_argument("--sheet", type=str, help="write a contact sheet (PNG) here")
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True, helps=_INSPECTED)


def _inspect(args: Namespace) -> int:
    from diffusionmtl.commands.data import inspect_data

    if bool(args.name) == bool(args.data):
        raise UserError("name the data: diffusionmtl data inspect my-data, or --data several times")
    data = data_settings(args)
    text, sound = inspect_data(
        replace(data, data=(args.name,)) if args.name else data,
        everything=args.all,
        json_file=Path(args.json) if args.json else None,
        sheet=Path(args.sheet) if args.sheet else None,
    )
    print(text)
    return 0 if sound else 2


def _partition_arguments(parser: ArgumentParser) -> None:
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True, helps=_CHOSEN)
    parser.add_argument("--labels", type=str, default="one", help="one, random, full or as-found")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the draw")
    parser.add_argument("--out", type=str, required=True, help="partition file to write")


def _partition(args: Namespace) -> int:
    from diffusionmtl.commands.data import write_partition

    print(write_partition(data_settings(args), args.labels, args.seed, Path(args.out)))
    return 0


def _pack_arguments(parser: ArgumentParser) -> None:
    add_settings(parser, DataSettings, EVALUATED_DATA, default_none=True, helps=_PACKED)
    parser.add_argument("--labels", type=str, default="as-found", help="labels of train that go with it, as for train")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of a drawn partition")
    parser.add_argument("--splits", type=str, nargs="*", default=[], help="which splits; all if none is named")
    parser.add_argument(
        "--format", type=Literal["folder", "shards"], default="folder", help="files, or tars as WebDataset has them"
    )
    parser.add_argument("--shard-size", type=PositiveInt, default=1000, help="images per shard")
    parser.add_argument("--out", type=str, required=True, help="folder to write; the same call goes on where it was")


def _pack(args: Namespace) -> int:
    from diffusionmtl.commands.data import pack_data

    if not args.data:
        raise UserError("--data: name the data to be packed")
    data, splits = data_settings(args), tuple(args.splits)
    print(pack_data(data, args.labels, args.seed, Path(args.out), args.format, args.shard_size, splits))
    return 0


def _rooms_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=True, help="folder for the data set")
    parser.add_argument("--train", type=int, default=100, help="rooms for training")
    parser.add_argument("--val", type=int, default=20, help="rooms for validation")
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], help="height and width")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="another seed draws other rooms")
    parser.add_argument("--labels", type=str, default="full", help="leave out labels: one or random; full keeps all")


def _rooms(args: Namespace) -> int:
    from diffusionmtl.commands.data import draw_rooms_folder

    print(draw_rooms_folder(Path(args.out), args.train, args.val, (args.size[0], args.size[1]), args.seed, args.labels))
    return 0


DATA_COMMANDS: dict[str, Command] = {
    "data arrange": (
        _arrange_arguments,
        _arrange,
        "Make a data set of plain folders of images and labels, with some images put aside to score.",
        "diffusionmtl data arrange --images photos --labels semseg=masks depth=depths --out my-data",
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
    "data pack": (
        _pack_arguments,
        _pack,
        "Write any data with the labels that may be seen, as a folder or as shards.",
        "diffusionmtl data pack --data my-data --labels one --format shards --out packed",
    ),
    "data rooms": (
        _rooms_arguments,
        _rooms,
        "Draw the embedded data set as a folder.",
        "diffusionmtl data rooms --out my-rooms --train 100 --val 20 --labels one",
    ),
}
