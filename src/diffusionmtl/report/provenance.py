"""Where a result comes from: labels, versions, machine, date, settings, and how to make it again."""

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diffusionmtl.config import Settings
from diffusionmtl.data.partition import MAX_BYTES, Partition
from diffusionmtl.errors import UserError
from diffusionmtl.files import read_bytes
from diffusionmtl.report.content import Table
from diffusionmtl.report.log import Metrics
from diffusionmtl.runfolder import RunFolder

_PACKAGES = ("diffusionmtl", "torch", "torchvision", "timm", "lightning", "numpy")


def versions() -> dict[str, str]:
    """Of Python and the packages that compute; and the `machine`."""
    return {
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def circumstances() -> dict[str, str]:
    """Versions, machine and date of this moment."""
    return {
        **versions(),
        "report written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def evaluation_words(metrics: Metrics) -> str:
    """How the scores came about, in one sentence."""
    draws = "one noise draw" if metrics.samples == 1 else f"the mean of {metrics.samples} noise draws"
    return (
        f"split '{metrics.split}' of {', '.join(metrics.data)}; {draws} per image, seed {metrics.seed}; "
        f"{metrics.checkpoint} weights"
    )


def read_partition(run: RunFolder) -> Partition | None:
    """The labels that training saw, as the run folder names them; None if it does not.

    Unlike `Partition.load` it needs no data set, and so takes image and task names on trust.

    Raises:
        UserError: the file cannot be read.
    """
    if not run.partition.exists():
        return None
    try:
        lines = read_bytes(run.partition, MAX_BYTES, "a partition").decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{run.partition}: not readable as a partition ({error})") from None
    head = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rows = [line.split("\t") for line in lines[head:] if line.strip()]
    source = lines[0].removeprefix("#").strip() if head else "unknown"
    return Partition({name: frozenset(tasks) for name, *tasks in rows}, source)


def partition_words(partition: Partition) -> str:
    """Source and digest."""
    return f"{partition.source} [{partition.digest()}]"


def settings_table(columns: Mapping[str, Settings]) -> Table:
    """Every setting, a column per run; what differs between runs is emphasised."""
    flat = {name: settings.flat() for name, settings in columns.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    rows = [(key, *(_text(values[key]) for values in flat.values())) for key in keys]
    different = {
        (number, column) for number, row in enumerate(rows) if len(set(row[1:])) > 1 for column in range(1, len(row))
    }
    return Table("Every setting", ("setting", *flat), tuple(rows), frozenset(different), collapsed=True)


def repeat_command(settings: Settings, out: Path) -> str:
    """The `diffusionmtl train` that makes such a run: every setting that is not the default."""
    usual = Settings().flat()
    words = ["diffusionmtl", "train"]
    for key, value in settings.flat().items():
        if value != usual[key] and value not in (None, [], {}):
            words += [f"--{key.replace('_', '-')}", *_arguments(value)]
    return shlex.join([*words, "--out", str(out)])


def _arguments(value: Any) -> Sequence[str]:
    if isinstance(value, list | tuple):
        return [_text(item) for item in value]
    return [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "all"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)
