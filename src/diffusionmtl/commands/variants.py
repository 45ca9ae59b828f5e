"""The rows of a comparison: words for methods, ablations, upper bounds, and variants of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from diffusionmtl.config import Method, Settings, settings_from_flat
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.comparison import FULL

WITHOUT_DIFFUSION, WITHOUT_CONDITIONING = "without-diffusion", "without-conditioning"
METHODS: tuple[str, ...] = get_args(Method)
# What must be equal in all rows, or the figures are of other labels and images.
_COMMON = "data root tasks labels label_seed rooms_val rooms_seed seed".split()


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        name: what it is called, also the folder of its runs.
        changes: the settings in which it differs from the others.
        full: sees every label, whatever the others see.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    full: bool = False


def choose_variants(words: Sequence[str], ablate: str = "feature", own: Path | None = None) -> list[Variant]:
    """The rows that `--methods` asks for, and after them those of the file of one's own that it does not name.

    Args:
        words: methods, the two ablations, names from `own`, and each of them after `full-`.
        ablate: the method that the ablations take something from.
        own: YAML, per name the settings to change.

    Raises:
        UserError: an unknown or repeated word, or a file that is wrong.
    """
    known: dict[str, dict[str, Any]] = {method: {"method": method} for method in METHODS}
    known[WITHOUT_DIFFUSION] = {"method": ablate, "diffusion": False}
    known[WITHOUT_CONDITIONING] = {"method": ablate, "condition": "none"}
    mine = _own(own, known) if own else {}
    known |= mine
    named = [word.removeprefix(FULL) for word in words]
    for word in named:
        if word not in known:
            raise UserError(f"--methods {word}: unknown.{nearest(word, known)} Known: {', '.join(known)}, full-METHOD")
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise UserError(f"--methods {twice}: stands twice; name it once")
    rows = [*words, *(name for name in mine if name not in named)]
    return [Variant(row, known[row.removeprefix(FULL)], row.startswith(FULL)) for row in rows]


def _own(path: Path, taken: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    said = read_yaml(path)
    if not isinstance(said, Mapping) or not all(isinstance(changes, Mapping) for changes in said.values()):
        raise UserError(f"{path}: must say, per variant, its settings, e.g. four-steps: {{method: feature, steps: 4}}")
    return {str(name): _changes(f"{path}: {name}", str(name), changes, taken) for name, changes in said.items()}


def _changes(where: str, name: str, changes: Mapping[str, Any], taken: Mapping[str, Any]) -> dict[str, Any]:
    if name in taken or name.startswith(FULL) or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UserError(f"{where}: use letters, digits, -, _ and ., and no word that --methods knows already")
    words = {str(key).replace("-", "_"): value for key, value in changes.items()}
    for word in words:
        if word in _COMMON:
            raise UserError(f"{where}: {word} must be the same for all that is compared; leave it to the command line")
    checked = settings_from_flat(words, where).flat()
    return {word: tuple(checked[word]) if isinstance(checked[word], list) else checked[word] for word in words}


def variant_settings(base: Settings, variant: Variant) -> Mapping[str, Any]:
    """The words of `base` that `variant` changes, with the labels if it sees them all."""
    return {**variant.changes, **({"labels": "full"} if variant.full else {})}
