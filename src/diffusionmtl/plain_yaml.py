"""Plain data from YAML files that anybody may have written."""

from pathlib import Path
from typing import Any

import yaml

from diffusionmtl.errors import UserError, in_one_line

_DEEPEST = 50
MAX_YAML_BYTES = 100_000


def read_yaml(path: Path, limit: int = MAX_YAML_BYTES) -> Any:
    """Plain data from a YAML file: no tags, no aliases, no more than `limit` bytes.

    Raises:
        UserError: missing, no ordinary file, too large, or not such YAML.
    """
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path}: not readable: a folder, a pipe or a device, no settings file")
        if path.stat().st_size > limit:
            raise UserError(f"{path}: larger than {limit:,} bytes, not a settings file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({in_one_line(error, 300)})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain data from YAML text; aliases are refused, since a few lines of them can stand for gigabytes.

    Raises:
        UserError: not such YAML, nested too deeply, or one key stands twice.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise UserError(f"{where}: line {event.start_mark.line + 1}: nested too deeply; mend the file")
            if isinstance(event, yaml.AliasEvent):
                raise UserError(
                    f"{where}: line {event.start_mark.line + 1}: aliases (*name) are not accepted; spell it out"
                )
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        said = error.problem or in_one_line(error, 300)
        if "nesting depth" in said:  # libyaml 0.2.6 looks ahead, and may stop before the count above does
            raise UserError(f"{where}: {line}nested too deeply; mend the file") from None
        raise UserError(f"{where}: {line}not valid YAML: {said[:200]}; mend the file") from None
    except Exception as error:  # dates and numbers that cannot be make their reader throw anything
        raise UserError(f"{where}: not valid YAML: {in_one_line(error, 300)}; mend the file") from None


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Safe YAML, ten times as fast where libyaml is there, without a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
